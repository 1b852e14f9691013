//! `auth can-i`, service-account tokens and RBAC, which is on from the first day.

use crate::sandbox;

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
    let who = t.kubectl.ok(&["auth", "whoami", "--token", token.trim(), "-o", "jsonpath={.status.userInfo.username}"]);
    // A client certificate in the kubeconfig would win over the token, so ask without it.
    assert!(!who.is_empty());
    let server = t.kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let bare = t.kubectl.run(&[
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--server",
        &server,
        "--token",
        token.trim(),
        "auth",
        "whoami",
        "-o",
        "jsonpath={.status.userInfo.username}",
    ]);
    assert_eq!(bare.stdout, format!("system:serviceaccount:{}:default", t.namespace), "{}", bare.stderr);
    let wrong = t.kubectl.run(&[
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        "--server",
        &server,
        "--token",
        "not.a.token",
        "get",
        "pods",
    ]);
    assert!(wrong.stderr.contains("You must be logged in to the server"), "{}", wrong.stderr);
}
