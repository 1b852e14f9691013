//! `get --watch` and `wait`.

use crate::sandbox;
use std::io::{BufRead, BufReader};

#[test]
fn a_watch_shows_every_change_in_order() {
    let t = sandbox();
    let mut child = t
        .kubectl
        .command(&[
            "get",
            "configmaps",
            "-l",
            "mine",
            "--watch",
            "-o",
            "jsonpath={.metadata.name}={.data.step}{\"\\n\"}",
        ])
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    t.kubectl
        .apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: w, labels: {mine: \"1\"}}\ndata: {step: \"1\"}\n");
    assert_eq!(lines.next().unwrap().unwrap(), "w=1");
    for n in ["2", "3"] {
        t.kubectl.ok(&["patch", "configmap", "w", "-p", &format!("{{\"data\":{{\"step\":\"{n}\"}}}}")]);
        assert_eq!(lines.next().unwrap().unwrap(), format!("w={n}"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn wait_sees_a_deletion() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "c"]);
    let mut waiting = t.kubectl.command(&["wait", "--for=delete", "configmap/c", "--timeout=60s"]).spawn().unwrap();
    t.kubectl.ok(&["delete", "configmap", "c"]);
    assert!(waiting.wait().unwrap().success());
}
