//! `auth`, `create token`, `certificate`: who may do what, and how one proves who one is.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use k8w_testkit::{Outcome, eventually};

use crate::{Sandbox, sandbox};

impl Sandbox {
    /// kubectl with a token and nothing else.
    fn with_token(&self, token: &str, arguments: &[&str]) -> Outcome {
        let server = self.kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
        let anew = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server, "--token", token];
        self.kubectl.run(&[&anew, arguments].concat())
    }

    /// Who a token stands for.
    fn whoami(&self, token: &str) -> Outcome {
        self.with_token(token, &["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
    }
}

#[test]
fn can_i_answers_by_the_rules() {
    let t = sandbox();
    assert_eq!(t.kubectl.ok(&["auth", "can-i", "create", "deployments"]), "yes\n");
    let robot = format!("--as=system:serviceaccount:{}:default", t.namespace);
    assert_eq!(t.kubectl.run(&["auth", "can-i", "list", "pods", &robot]).stdout, "no\n");
    t.kubectl.ok(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    let account = format!("--serviceaccount={}:default", t.namespace);
    t.kubectl.ok(&["create", "rolebinding", "reads", "--role=reader", &account]);
    assert_eq!(t.kubectl.run(&["auth", "can-i", "list", "pods", &robot]).stdout, "yes\n");
    assert_eq!(t.kubectl.run(&["auth", "can-i", "delete", "pods", &robot]).stdout, "no\n");
    assert!(t.kubectl.ok(&["auth", "can-i", "--list", &robot]).contains("pods"));
}

#[test]
fn what_is_not_allowed_is_forbidden_in_kubernetes_words() {
    let t = sandbox();
    let robot = format!("system:serviceaccount:{}:default", t.namespace);
    let refusal = t.kubectl.fails(&["get", "pods", &format!("--as={robot}")]);
    assert_eq!(
        refusal,
        format!(
            "Error from server (Forbidden): pods is forbidden: User \"{robot}\" cannot list resource \"pods\" in API group \"\" in the namespace \"{}\"\n",
            t.namespace
        )
    );
}

#[test]
fn a_service_account_token_authenticates() {
    let t = sandbox();
    let token = t.kubectl.ok(&["create", "token", "default"]);
    let who = t.whoami(token.trim());
    assert_eq!(who.stdout, format!("system:serviceaccount:{}:default", t.namespace), "{}", who.stderr);
    let wrong = t.with_token("not.a.token", &["get", "pods"]);
    assert!(wrong.stderr.contains("You must be logged in to the server"), "{}", wrong.stderr);
}

#[test]
fn a_token_is_made_to_measure() {
    let t = sandbox();
    t.kubectl.ok(&["create", "serviceaccount", "robot"]);
    t.kubectl.ok(&["create", "secret", "generic", "anchor"]);
    let uid = t.kubectl.ok(&["get", "secret", "anchor", "-o", "jsonpath={.metadata.uid}"]);
    let token = t.kubectl.ok(&[
        "create",
        "token",
        "robot",
        "--audience=vault",
        "--audience=bank",
        "--duration=20m",
        "--bound-object-kind=Secret",
        "--bound-object-name=anchor",
        &format!("--bound-object-uid={uid}"),
    ]);
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["aud"], serde_json::json!(["vault", "bank"]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 1200);
    assert_eq!(claims["kubernetes.io"]["secret"], serde_json::json!({"name": "anchor", "uid": uid}));
    let object = t.kubectl.ok(&["create", "token", "robot", "-o", "yaml"]);
    assert!(object.contains("kind: TokenRequest") && object.contains("expirationTimestamp:"), "{object}");
    let nobody = t.kubectl.fails(&["create", "token", "nobody"]);
    assert_eq!(nobody, "error: failed to create token: serviceaccounts \"nobody\" not found\n");
    let wrong = t.kubectl.fails(&["create", "token", "robot", "--duration=1m"]);
    assert!(wrong.contains("may not specify a duration less than 10 minutes"), "{wrong}");
    let stale = ["--bound-object-kind=Secret", "--bound-object-name=anchor", "--bound-object-uid=stale"];
    let wrong = t.kubectl.fails(&[&["create", "token", "robot"], &stale[..]].concat());
    assert!(wrong.contains("does not match the UID in record"), "{wrong}");
}

#[test]
fn a_secret_is_filled_with_a_token_that_lasts() {
    let t = sandbox();
    t.kubectl.ok(&["create", "serviceaccount", "robot"]);
    t.kubectl.apply(
        "
apiVersion: v1
kind: Secret
metadata: {name: lasting, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
",
    );
    let data = |key: &str| {
        let path = format!("jsonpath={{.data.{key}}}");
        let text = t.kubectl.ok(&["get", "secret", "lasting", "-o", &path]);
        let text = String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
        if text.is_empty() { Err(format!("{key} is empty")) } else { Ok(text) }
    };
    let token = eventually("the token is made", || data("token"));
    assert_eq!(data("namespace").unwrap(), t.namespace);
    assert!(data(r"ca\.crt").unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let described = t.kubectl.ok(&["describe", "secret", "lasting"]);
    assert!(described.contains("kubernetes.io/service-account.uid:"), "{described}");
    assert_eq!(t.whoami(&token).stdout, format!("system:serviceaccount:{}:robot", t.namespace));
    t.kubectl.ok(&["delete", "serviceaccount", "robot"]);
    t.kubectl.ok(&["wait", "--for=delete", "secret/lasting", "--timeout=60s"]);
    assert!(!t.whoami(&token).success);
}

#[test]
fn whoami_tells_name_and_groups() {
    let t = sandbox();
    let since = t.kubectl.ok(&["auth", "whoami", "-o", "jsonpath={.metadata.creationTimestamp}"]);
    assert!(since.starts_with("20"), "{since}");
    let table = t.kubectl.ok(&["auth", "whoami"]);
    assert!(table.starts_with("ATTRIBUTE"), "{table}");
    assert!(table.contains("kubernetes-admin") && table.contains("[system:masters system:authenticated]"), "{table}");
    let table = t.kubectl.ok(&["auth", "whoami", "--as=jane", "--as-group=dev"]);
    assert!(table.contains("jane") && table.contains("[dev system:authenticated]"), "{table}");
}

#[test]
fn can_i_lists_rules_of_resources_and_paths() {
    let t = sandbox();
    let list = t.kubectl.ok(&["auth", "can-i", "--list", "--as=jane", "--as-group=system:authenticated"]);
    let line = |start: &str| list.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{list}"));
    assert!(line("selfsubjectaccessreviews.authorization.k8s.io").ends_with("[create]"), "{list}");
    assert!(list.contains("[/healthz]") && list.contains("[get]"), "{list}");
    t.kubectl.ok(&["create", "role", "watcher", "--verb=get,watch", "--resource=pods", "--resource-name=one"]);
    t.kubectl.ok(&["create", "rolebinding", "watches", "--role=watcher", "--user=jane"]);
    let can = |arguments: &[&str]| t.kubectl.run(&[&["auth", "can-i", "--as=jane"], arguments].concat()).stdout;
    assert_eq!(can(&["get", "pods/one"]), "yes\n");
    assert_eq!(can(&["get", "pods/two"]), "no\n");
    assert_eq!(can(&["get", "pods", "--subresource=log"]), "no\n");
    assert_eq!(can(&["get", "/healthz"]), "yes\n");
    assert_eq!(can(&["get", "/logs"]), "no\n");
}

#[test]
fn reconcile_adds_what_is_missing_and_takes_away_when_told() {
    let t = sandbox();
    // Here kubectl takes no namespace from anywhere but the manifests.
    let namespace = &t.namespace;
    let manifests = |verbs: &str, user: &str| {
        format!(
            "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: reader, namespace: {namespace}}}
rules: [{{apiGroups: [''], resources: [pods], verbs: [{verbs}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: reads, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {user}}}]
"
        )
    };
    let reconcile = |manifests: &str, more: &[&str]| {
        t.kubectl.ok_with_input(&[&["auth", "reconcile", "-f", "-"], more].concat(), manifests)
    };
    let made = reconcile(&manifests("get", "jane"), &[]);
    assert!(made.contains("role.rbac.authorization.k8s.io/reader reconciled"), "{made}");
    let can = |user: &str, verb: &str| t.kubectl.run(&["auth", "can-i", verb, "pods", "--as", user]).stdout;
    reconcile(&manifests("list", "joe"), &[]);
    assert_eq!(
        (can("jane", "get"), can("jane", "list"), can("joe", "get")),
        ("yes\n".into(), "yes\n".into(), "yes\n".into())
    );
    reconcile(&manifests("list", "joe"), &["--remove-extra-permissions", "--remove-extra-subjects"]);
    assert_eq!(
        (can("joe", "list"), can("joe", "get"), can("jane", "list")),
        ("yes\n".into(), "no\n".into(), "no\n".into())
    );
    // A binding cannot lead to another role: it is made anew.
    let moved =
        reconcile(&manifests("list", "joe").replace("kind: Role, name: reader", "kind: ClusterRole, name: view"), &[]);
    assert!(moved.contains("rolebinding.rbac.authorization.k8s.io/reads reconciled"), "{moved}");
}

#[test]
fn a_cluster_role_is_the_sum_of_its_parts() {
    let t = sandbox();
    let (sum, part, label) =
        (format!("{}-sum", t.namespace), format!("{}-part", t.namespace), format!("to-{}", t.namespace));
    t.kubectl.ok(&["create", "clusterrole", &sum, &format!("--aggregation-rule={label}=true")]);
    t.kubectl.ok(&["create", "clusterrole", &part, "--verb=get", "--resource=pods"]);
    t.kubectl.ok(&["create", "rolebinding", "sum", &format!("--clusterrole={sum}"), "--user=jane"]);
    let can = || t.kubectl.run(&["auth", "can-i", "get", "pods", "--as=jane"]).stdout;
    assert_eq!(can(), "no\n");
    let becomes = |answer: &str| eventually("the sum follows", || if can() == answer { Ok(()) } else { Err(can()) });
    t.kubectl.ok(&["label", "clusterrole", &part, &format!("{label}=true")]);
    becomes("yes\n");
    t.kubectl.ok(&["delete", "clusterrole", &part]);
    becomes("no\n");
    t.kubectl.ok(&["delete", "clusterrole", &sum]);
}

#[test]
fn certificates_are_approved_and_denied() {
    let t = sandbox();
    let request = "MIGLMD8CAQAwDDEKMAgGA1UEAwwBYTAqMAUGAytlcAMhAEarfmJ/qd7RRSIEyWCBK/JFSW76pOXiWwwomATtvQsL\
                   oAAwBQYDK2VwA0EA3Dfm/IUN4WPHxawTonm2gOwm7qIj1BnBD2SLRQsvgLrooFBHNjI7wE86u/LpUTZ7untCrTzw\
                   3XRNgo54XCz1AQ==";
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{request}\n-----END CERTIFICATE REQUEST-----\n");
    let name = |suffix: &str| format!("{}-{suffix}", t.namespace);
    for suffix in ["good", "bad"] {
        t.kubectl.apply(&format!(
            "
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {}}}
spec: {{request: {}, signerName: example.com/own, usages: [client auth]}}
",
            name(suffix),
            STANDARD.encode(&pem)
        ));
    }
    let decide = |verb: &str, suffix: &str| t.kubectl.ok(&["certificate", verb, &name(suffix)]);
    let condition = |suffix: &str| t.kubectl.ok(&["get", "csr", &name(suffix), "--no-headers"]);
    assert!(condition("good").trim_end().ends_with("Pending"), "{}", condition("good"));
    assert_eq!(
        decide("approve", "good"),
        format!("certificatesigningrequest.certificates.k8s.io/{} approved\n", name("good"))
    );
    assert_eq!(
        decide("deny", "bad"),
        format!("certificatesigningrequest.certificates.k8s.io/{} denied\n", name("bad"))
    );
    assert!(condition("good").trim_end().ends_with("Approved"), "{}", condition("good"));
    assert!(condition("bad").trim_end().ends_with("Denied"), "{}", condition("bad"));
    // Saying it again changes nothing; a decision is not taken back.
    decide("approve", "good");
    assert!(!t.kubectl.run(&["certificate", "deny", &name("good")]).success);
    let reason = "jsonpath={.status.conditions[0].reason}";
    assert_eq!(t.kubectl.ok(&["get", "csr", &name("good"), "-o", reason]), "KubectlApprove");
    t.kubectl.ok(&["delete", "csr", &name("good"), &name("bad")]);
}

#[test]
fn a_cluster_has_its_roles() {
    let t = sandbox();
    for (namespace, role) in [
        ("kube-system", "extension-apiserver-authentication-reader"),
        ("kube-system", "system::leader-locking-kube-scheduler"),
        ("kube-public", "system:controller:bootstrap-signer"),
    ] {
        t.kubectl.ok(&["get", "role", role, "--namespace", namespace]);
    }
    let map = ["get", "configmap", "extension-apiserver-authentication", "--namespace=kube-system"];
    let ca = t.kubectl.ok(&[&map[..], &["-o", r"jsonpath={.data.client-ca-file}"]].concat());
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
}
