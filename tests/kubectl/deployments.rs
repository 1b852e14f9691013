//! `scale`, `rollout`, `set image`, `wait`, `expose`: a Deployment's life.

use k8w_testkit::{Load, Running, eventually, get_ok};

use crate::sandbox;

#[test]
fn scaling_up_and_down() {
    let t = sandbox();
    t.hello(1);
    t.kubectl.ok(&["scale", "deployment", "hello", "--replicas=4"]);
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.readyReplicas}=4", "deployment/hello", "--timeout=60s"]);
    t.kubectl.ok(&["scale", "deployment", "hello", "--replicas=0"]);
    eventually("all pods are gone", || {
        let pods = t.kubectl.ok(&["get", "pods", "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn a_rollout_can_be_watched_and_undone() {
    let t = sandbox();
    t.hello(2);
    t.cluster.load_image(&crate::repo("examples/hello/hello.wasm"), "localhost/hello:v2");
    t.kubectl.ok(&["set", "image", "deployment/hello", "hello=localhost/hello:v2"]);
    let status = t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert!(status.ends_with("deployment \"hello\" successfully rolled out\n"), "{status}");
    let history = t.kubectl.ok(&["rollout", "history", "deployment/hello"]);
    assert_eq!(history.lines().filter(|line| line.starts_with(['1', '2'])).count(), 2, "{history}");
    assert_eq!(t.kubectl.ok(&["rollout", "undo", "deployment/hello"]), "deployment.apps/hello rolled back\n");
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let image = t.kubectl.ok(&[
        "get",
        "pods",
        "-l",
        "app=hello",
        "--field-selector=status.phase=Running",
        "-o",
        "jsonpath={.items[0].spec.containers[0].image}",
    ]);
    assert_eq!(image, "localhost/hello:latest");
}

#[test]
fn a_rollout_can_be_paused_and_restarted() {
    let t = sandbox();
    t.hello(1);
    t.kubectl.ok(&["rollout", "pause", "deployment/hello"]);
    t.kubectl.ok(&["set", "env", "deployment/hello", "A=1"]);
    assert_eq!(t.kubectl.ok(&["get", "replicasets", "-o", "name"]).lines().count(), 1);
    t.kubectl.ok(&["rollout", "resume", "deployment/hello"]);
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    t.kubectl.ok(&["rollout", "restart", "deployment/hello"]);
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["get", "replicasets", "-o", "name"]).lines().count(), 3);
}

#[test]
fn a_rollout_can_be_undone_to_any_revision() {
    let t = sandbox();
    t.hello(1);
    for value in ["1", "2"] {
        t.kubectl.ok(&["set", "env", "deployment/hello", &format!("A={value}")]);
        t.kubectl.ok(&[
            "annotate",
            "deployment/hello",
            &format!("kubernetes.io/change-cause=A is {value}"),
            "--overwrite",
        ]);
        t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    }
    let history = t.kubectl.ok(&["rollout", "history", "deployment/hello"]);
    assert!(history.starts_with("deployment.apps/hello \nREVISION  CHANGE-CAUSE\n1         <none>\n"), "{history}");
    assert!(history.contains("3         A is 2\n"), "{history}");
    let shown = t.kubectl.ok(&["rollout", "history", "deployment/hello", "--revision=2"]);
    assert!(shown.starts_with("deployment.apps/hello with revision #2\n") && shown.contains("A:\t1"), "{shown}");
    let missing = t.kubectl.fails(&["rollout", "history", "deployment/hello", "--revision=9"]);
    assert!(missing.contains("unable to find the specified revision"), "{missing}");

    let tried = t.kubectl.ok(&["rollout", "undo", "deployment/hello", "--to-revision=1", "--dry-run=server"]);
    assert_eq!(tried, "deployment.apps/hello rolled back (server dry run)\n");
    t.kubectl.ok(&["rollout", "undo", "deployment/hello", "--to-revision=2"]);
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let env = "jsonpath={.spec.template.spec.containers[0].env[0].value}";
    assert_eq!(t.kubectl.ok(&["get", "deployment", "hello", "-o", env]), "1");
    let history = t.kubectl.ok(&["rollout", "history", "deployment/hello"]);
    let revisions: Vec<&str> = history.lines().skip(2).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(revisions.into_iter().filter(|revision| !revision.is_empty()).collect::<Vec<_>>(), ["1", "3", "4"]);
    let again = t.kubectl.ok(&["rollout", "undo", "deployment/hello", "--to-revision=4"]);
    assert!(again.contains("skipped rollback (current template already matches revision 4)"), "{again}");
    let missing = t.kubectl.fails(&["rollout", "undo", "deployment/hello", "--to-revision=2"]);
    assert!(missing.contains("unable to find specified revision 2 in history"), "{missing}");
    let now = t.kubectl.ok(&["rollout", "status", "deployment/hello", "--watch=false", "--revision=4"]);
    assert_eq!(now, "deployment \"hello\" successfully rolled out\n");
}

#[test]
fn a_paused_rollout_refuses_what_it_cannot_do() {
    let t = sandbox();
    t.hello(1);
    // Without a revision to go back to, kubectl says that first.
    t.kubectl.ok(&["set", "env", "deployment/hello", "A=0"]);
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["rollout", "pause", "deployment/hello"]), "deployment.apps/hello paused\n");
    let twice = t.kubectl.fails(&["rollout", "pause", "deployment/hello"]);
    assert!(twice.contains("deployments.apps \"hello\" is already paused"), "{twice}");
    let restarted = t.kubectl.fails(&["rollout", "restart", "deployment/hello"]);
    assert!(restarted.contains("can't restart paused deployment (run rollout resume first)"), "{restarted}");
    t.kubectl.ok(&["set", "env", "deployment/hello", "A=1"]);
    let undone = t.kubectl.fails(&["rollout", "undo", "deployment/hello"]);
    assert!(undone.contains("you cannot rollback a paused deployment"), "{undone}");
    assert_eq!(t.kubectl.ok(&["rollout", "resume", "deployment/hello"]), "deployment.apps/hello resumed\n");
    let twice = t.kubectl.fails(&["rollout", "resume", "deployment/hello"]);
    assert!(twice.contains("deployments.apps \"hello\" is not paused"), "{twice}");
    t.kubectl.ok(&["rollout", "status", "deployment", "-l", "app=hello", "--timeout=60s"]);
}

#[test]
fn a_rollout_that_cannot_progress_says_why() {
    let t = sandbox();
    t.hello(1);
    t.kubectl.ok(&["set", "image", "deployment/hello", "hello=localhost/absent:v1"]);
    eventually("the new pod waits for its image", || {
        let pods = t.kubectl.ok(&["get", "pods", "--no-headers"]);
        if pods.contains("ImagePullBackOff") || pods.contains("ErrImagePull") { Ok(()) } else { Err(pods) }
    });
    let available = t.kubectl.ok(&["get", "deployment", "hello", "-o", "jsonpath={.status.availableReplicas}"]);
    assert_eq!(available, "1", "the old pod goes on serving");
}

/// Conformance: "Service, NodePort Service".
#[test]
fn a_service_answers_through_its_node_port() {
    let t = sandbox();
    t.hello(3);
    t.kubectl.ok(&["expose", "deployment", "hello", "--port=80", "--target-port=8080", "--type=NodePort"]);
    let port = t.kubectl.ok(&["get", "service", "hello", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let address = format!("127.0.0.1:{port}").parse().unwrap();
    let answer = eventually("the node port answers", || get_ok(address, "localhost", "/here"));
    assert!(answer.body.contains("you asked for /here"), "{answer:?}");
}

#[test]
fn a_deleted_pod_is_replaced() {
    let t = sandbox();
    t.hello(1);
    let name = || t.kubectl.ok(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
    let before = name();
    t.kubectl.ok(&["delete", "pod", &before]);
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let after = eventually("another pod takes its place", || {
        let now = name();
        if now != before && !now.is_empty() && !now.contains(' ') { Ok(now) } else { Err(now) }
    });
    assert_ne!(before, after);
}

#[test]
fn waiting_has_many_forms() {
    let t = sandbox();
    let waits = |what: &[&str]| t.kubectl.ok(&[&["wait", "--timeout=60s"][..], what].concat());
    t.hello(1);
    assert_eq!(waits(&["--for=condition=Available", "deployment/hello"]), "deployment.apps/hello condition met\n");
    assert_eq!(waits(&["--for=create", "deployment/hello"]), "deployment.apps/hello condition met\n");
    waits(&["--for=condition=Progressing=True", "deployment", "--all"]);
    waits(&["--for=jsonpath={.status.phase}=Running", "pods", "-l", "app=hello"]);
    let pod = t.kubectl.ok(&["get", "pods", "-l", "app=hello", "-o", "name"]).trim().to_owned();
    t.kubectl.ok(&["delete", "deployment", "hello", "--wait=false"]);
    waits(&["--for=delete", &pod, "deployment/hello"]);
    let wait = ["wait", "--for=create", "configmap/later", "--timeout=60s"];
    let later = Running::start(&mut t.kubectl.command(&wait));
    t.kubectl.ok(&["create", "configmap", "later", "--from-literal=a=1"]);
    assert_eq!(later.outcome().stdout, "configmap/later condition met\n");
    waits(&["--for=jsonpath={.data.a}", "configmap/later"]);
    let never = t.kubectl.fails(&["wait", "--for=jsonpath={.data.a}=2", "configmap/later", "--timeout=1s"]);
    assert!(never.contains("timed out waiting for the condition on configmaps/later"), "{never}");
    let missed = t.kubectl.fails(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=1s"]);
    assert!(missed.contains("no matching resources found"), "{missed}");
}

#[test]
fn an_autoscaler_is_kept_though_nothing_acts_on_it() {
    let t = sandbox();
    t.hello(1);
    let made = t.kubectl.ok(&["autoscale", "deployment", "hello", "--min=1", "--max=3"]);
    assert_eq!(made, "horizontalpodautoscaler.autoscaling/hello autoscaled\n");
    let row = t.kubectl.ok(&["get", "hpa", "hello", "--no-headers"]);
    assert!(row.contains("Deployment/hello"), "{row}");
}

#[test]
fn a_rollout_under_load_fails_no_request() {
    let t = sandbox();
    t.hello(2);
    let host = t.expose("deployment", "hello");
    t.cluster.load_image(&crate::repo("examples/hello/hello.wasm"), "localhost/hello:v2");
    let load = Load::start(t.cluster.ingress_http(), &host);
    for image in ["localhost/hello:v2", "localhost/hello:latest"] {
        t.kubectl.ok(&["set", "image", "deployment/hello", &format!("hello={image}")]);
        t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    }
    t.kubectl.ok(&["scale", "deployment", "hello", "--replicas=1"]);
    t.kubectl.ok(&["rollout", "restart", "deployment/hello"]);
    t.kubectl.ok(&["rollout", "status", "deployment/hello", "--timeout=60s"]);
    let (asked, failures) = load.stop();
    assert!(asked > 0);
    assert_eq!(failures, Vec::<String>::new(), "of {asked} requests");
}
