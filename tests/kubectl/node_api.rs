//! The node's own API on its own port, and through the API server: whom it lets in, and what it says.

use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8w_testkit::{Outcome, eventually};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::{Sandbox, sandbox, tls};

const NODE_PATHS: [(&str, &str); 7] = [
    ("/healthz", "ok"),
    ("/pods", "\"kind\":\"PodList\""),
    ("/stats/summary", "\"nodeName\""),
    ("/metrics", "kubelet_running_pods"),
    ("/metrics/resource", "node_cpu_usage_seconds"),
    ("/metrics/probes", "# EOF"),
    ("/configz", "\"kubeletconfig\""),
];

impl Sandbox {
    fn of_node(&self, path: &str) -> String {
        self.kubectl.ok(&["get", "nodes", "-o", &format!("jsonpath={{.items[0].{path}}}")])
    }

    /// Where the node says that its API is.
    fn node_url(&self) -> String {
        let port = self.of_node("status.daemonEndpoints.kubeletEndpoint.Port");
        format!("https://127.0.0.1:{port}")
    }

    /// Asks the node directly, with these credentials and no others.
    fn ask_node(&self, url: &str, credentials: &[&str], path: &str) -> Outcome {
        let access = ["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", url];
        self.kubectl.run(&[&access[..], credentials, &["get", "--raw", path]].concat())
    }
}

#[test]
fn the_node_renews_its_lease() {
    let t = sandbox();
    let name = t.of_node("metadata.name");
    let renewed = || {
        let time = "jsonpath={.spec.holderIdentity} {.spec.renewTime}";
        t.kubectl.ok(&["get", "lease", &name, "-n", "kube-node-lease", "-o", time])
    };
    let before = renewed();
    assert!(before.starts_with(&format!("{name} ")), "{before}");
    eventually("it is renewed", || match renewed() {
        now if now > before => Ok(()),
        now => Err(now),
    });
}

#[test]
fn an_administrator_reads_what_the_node_knows() {
    let t = sandbox();
    t.hello(1);
    let pod = t.kubectl.ok(&["get", "pods", "-l", "app=hello", "-o", "jsonpath={.items[0].metadata.name}"]);
    let log = format!("/containerLogs/{}/{pod}/hello", t.namespace);
    let (url, proxy) = (t.node_url(), format!("/api/v1/nodes/{}/proxy", t.of_node("metadata.name")));
    for (path, expected) in [&NODE_PATHS[..], &[(&log, "")]].concat() {
        // The cluster's authority signed the node's certificate, which kubectl verifies.
        for answer in [
            t.kubectl.ok(&["--server", &url, "get", "--raw", path]),
            t.kubectl.ok(&["get", "--raw", &format!("{proxy}{path}")]),
        ] {
            assert!(answer.contains(expected), "{path}: {answer}");
        }
    }
    let ask = |path: &str| t.kubectl.ok(&["--server", &url, "get", "--raw", path]);
    let tree = |path: &str| -> Value { serde_json::from_str(&ask(path)).unwrap() };
    let own = |list: &Value, names: [&str; 2]| {
        let [name, namespace] = names;
        let is_own = |entry: &&Value| {
            let text = |path: &str| entry.pointer(path).and_then(Value::as_str).unwrap_or_default();
            text(name) == pod && text(namespace) == t.namespace
        };
        list.as_array().unwrap().iter().find(is_own).cloned().unwrap_or_else(|| panic!("{pod} is not in {list}"))
    };
    let listed = own(&tree("/pods")["items"], ["/metadata/name", "/metadata/namespace"]);
    let status = &listed["status"]["containerStatuses"][0];
    assert_eq!((&status["name"], &status["ready"]), (&json!("hello"), &json!(true)), "{listed}");
    assert_eq!(listed["status"]["podIP"], t.kubectl.ok(&["get", "pod", &pod, "-o", "jsonpath={.status.podIP}"]));
    let configuration = &tree("/configz")["kubeletconfig"];
    assert_eq!((&configuration["maxPods"], t.of_node("status.capacity.pods").as_str()), (&json!(1_000), "1k"));
    assert_eq!(configuration["port"].to_string(), t.of_node("status.daemonEndpoints.kubeletEndpoint.Port"));
    t.kubectl.ok(&["get", "--raw", &format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/", t.namespace)]);
    let labels = format!("{{container=\"hello\",namespace=\"{}\",pod=\"{pod}\"}}", t.namespace);
    let metrics = ask("/metrics");
    assert!(metrics.lines().any(|line| line == format!("k8w_container_requests_total{labels} 1")), "{metrics}");
    let summary = own(&tree("/stats/summary")["pods"], ["/podRef/name", "/podRef/namespace"]);
    let container = &summary["containers"][0];
    assert_eq!(container["name"], "hello", "{summary}");
    assert!(container["cpu"]["usageCoreNanoSeconds"].as_u64() > Some(0), "{summary}");
    assert!(container["memory"]["workingSetBytes"].is_u64(), "{summary}");
    let unknown = t.kubectl.fails(&["--server", &url, "get", "--raw", "/nowhere"]);
    assert!(unknown.contains("NotFound"), "{unknown}");
}

#[test]
fn others_read_what_a_role_names() {
    let t = sandbox();
    let (url, token) = (t.node_url(), t.kubectl.ok(&["create", "token", "default"]));
    let role = format!("{}-stats", t.namespace);
    t.kubectl.ok(&["create", "clusterrole", &role, "--verb=get", "--resource=nodes/stats,nodes/healthz"]);
    let account = format!("--serviceaccount={}:default", t.namespace);
    t.kubectl.ok(&["create", "clusterrolebinding", &role, "--clusterrole", &role, &account]);
    let token = ["--token", token.trim()];
    for (path, _) in NODE_PATHS {
        let answer = t.ask_node(&url, &token, path);
        let allowed = ["/stats/summary", "/healthz"].contains(&path);
        assert_eq!(answer.success, allowed, "{path}: {}", answer.stderr);
        assert!(allowed || answer.stderr.contains("orbidden"), "{path}: {}", answer.stderr);
    }
    t.kubectl.ok(&["delete", "clusterrolebinding,clusterrole", &role]);
}

/// Subresources of a node, as a kubelet's authorization has them (KEP-2862), and what none is.
const GRANTS: [&str; 9] = ["configz", "healthz", "log", "metrics", "pods", "proxy", "stats", "status", "checkpoint"];

/// Requests to a node, which of those grants lets them through, and what then becomes of them.
const REQUESTS: [(&str, &[&str], &str); 25] = [
    ("GET /configz", &["configz", "proxy"], "200"),
    ("GET /healthz", &["healthz", "proxy"], "200"),
    ("GET /healthz/ping", &["healthz", "proxy"], "200"),
    ("GET /pods", &["pods", "proxy"], "200"),
    ("GET /runningpods/", &["pods", "proxy"], "200"),
    ("GET /metrics", &["metrics"], "200"),
    ("GET /metrics/cadvisor", &["metrics"], "200"),
    ("GET /metrics/probes", &["metrics"], "200"),
    ("GET /metrics/resource", &["metrics"], "200"),
    ("GET /stats/summary", &["stats"], "200"),
    // A node of k8w has no logs of its machine, and no checkpoints.
    ("GET /logs/", &["log"], "404"),
    ("POST /checkpoint/a/b/c", &["checkpoint"], "404"),
    ("GET /containerLogs/a/b/c", &["proxy"], "404"),
    ("POST /run/a/b/c?cmd=ls", &["proxy"], "404"),
    ("POST /exec/a/b/c?command=ls", &["proxy"], "404"),
    ("POST /attach/a/b/c", &["proxy"], "404"),
    ("POST /portForward/a/b?port=80", &["proxy"], "404"),
    ("GET /exec/a/b/c?command=ls", &["proxy"], "404"),
    ("DELETE /volumes/none", &["proxy"], ""),
    ("GET /", &["proxy"], "404"),
    ("GET /status", &["proxy"], "404"),
    // No part of another name, and no way around: a path is what it says.
    ("GET /metricsets", &["proxy"], "404"),
    ("GET //metrics", &["metrics"], "200"),
    ("GET /healthz/../configz", &["healthz", "proxy"], "404"),
    // For other nodes alone.
    ("POST /podStream/a/b", &[], ""),
];

/// KEP-2862, "Fine-grained Kubelet API authorization": a single grant leads to its own paths and no others, and reading is not
/// creating.
#[test]
fn a_single_grant_leads_to_its_own_paths() {
    let t = sandbox();
    let port = t.of_node("status.daemonEndpoints.kubeletEndpoint.Port").parse().unwrap();
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let path = "jsonpath={.clusters[0].cluster.certificate-authority-data}";
    let authority = STANDARD.decode(t.kubectl.ok(&["config", "view", "--raw", "-o", path])).unwrap();
    let authority = CertificateDer::from_pem_slice(&authority).unwrap();
    let status = |request: &str, headers: &str| -> String {
        let answer = tls::exchange(address, "127.0.0.1", &authority, request, headers).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    let role = |name: &str, verbs: &str, resource: &str| {
        let full = format!("{}-{name}", t.namespace);
        let account = format!("{{kind: ServiceAccount, namespace: {}, name: {name}}}", t.namespace);
        t.kubectl.apply(&format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {full}}}
rules: [{{apiGroups: [''], resources: ['nodes/{resource}'], verbs: [{verbs}]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {full}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {full}}}
subjects: [{account}]
"
        ));
        format!("authorization: Bearer {}\r\n", t.kubectl.ok(&["create", "token", name]).trim())
    };
    let gone = |name: &str| {
        let full = format!("{}-{name}", t.namespace);
        t.kubectl.ok(&["delete", "clusterrolebinding,clusterrole", &full]);
    };
    for grant in GRANTS {
        let token = role(grant, "get, create, delete", grant);
        for (request, grants, then) in REQUESTS {
            let status = status(request, &token);
            match grants.contains(&grant) {
                true if then.is_empty() => {
                    assert!(!["401", "403"].contains(&&*status), "nodes/{grant}: {request}: {status}")
                }
                true => assert_eq!(status, then, "nodes/{grant}: {request}"),
                false => assert_eq!(status, "403", "nodes/{grant}: {request}"),
            }
        }
        gone(grant);
    }
    let token = role("reads", "get", "proxy");
    for (request, grants, _) in REQUESTS {
        let allowed = request.starts_with("GET ") && grants.contains(&"proxy");
        assert_eq!(status(request, &token) != "403", allowed, "get nodes/proxy: {request}");
    }
    gone("reads");
    // `others` are let in nowhere, and who is nobody is told that first.
    for (request, ..) in REQUESTS {
        let expected = if request.contains("/podStream/") { "403" } else { "401" };
        assert_eq!(status(request, ""), expected, "without credentials: {request}");
        assert_eq!(status(request, "authorization: Bearer not.a.token\r\n"), expected, "with others: {request}");
    }
}

#[test]
fn nobody_reads_nothing() {
    let t = sandbox();
    let url = t.node_url();
    for credentials in [["--username=a", "--password=b"], ["--token", "not.a.token"]] {
        for (path, _) in NODE_PATHS {
            let answer = t.ask_node(&url, &credentials, path);
            assert!(!answer.success && answer.stderr.contains("You must be logged in"), "{path}: {}", answer.stderr);
        }
    }
}
