//! `get --watch` and `wait`.

use std::io::BufRead;

use k8w_testkit::Running;

use crate::sandbox;

#[test]
fn a_watch_shows_every_change_in_order() {
    let t = sandbox();
    let columns = "jsonpath={.metadata.name}={.data.step}{\"\\n\"}";
    let watch = ["get", "configmaps", "-l", "mine", "--watch", "-o", columns];
    let mut watch = Running::start(&mut t.kubectl.command(&watch));
    let mut lines = watch.stdout().lines();
    t.kubectl
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w, labels: {mine: \"1\"}}\ndata: {step: \"1\"}\n");
    assert_eq!(lines.next().unwrap().unwrap(), "w=1");
    for n in ["2", "3"] {
        t.kubectl.ok(&["patch", "configmap", "w", "-p", &format!("{{\"data\":{{\"step\":\"{n}\"}}}}")]);
        assert_eq!(lines.next().unwrap().unwrap(), format!("w={n}"));
    }
}

#[test]
fn wait_sees_a_deletion() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "c"]);
    let wait = ["wait", "--for=delete", "configmap/c", "--timeout=60s"];
    let waiting = Running::start(&mut t.kubectl.command(&wait));
    t.kubectl.ok(&["delete", "configmap", "c"]);
    assert!(waiting.outcome().success);
}
