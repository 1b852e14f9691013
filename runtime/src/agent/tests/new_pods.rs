//! Pods that are let in, turned away, or found again.

use super::*;

fn asking(cpu: &str) -> Value {
    let mut spec = simple();
    spec["containers"][0]["resources"] = json!({ "requests": { "cpu": cpu } });
    spec
}

#[tokio::test]
async fn a_pod_without_room_fails_and_says_why() {
    let node = TestNode::start();
    node.create(asking("1000000"));
    let pod = node.api.wait(POD, |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(pod["status"]["reason"], "OutOfcpu");
    let message = pod["status"]["message"].as_str().unwrap();
    let (why, capacity) = message.rsplit_once(' ').unwrap();
    expect!["Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000000, used: 0, capacity:"]
        .assert_eq(why);
    node.api.wait_event("OutOfcpu", message.strip_prefix("Pod was rejected: ").unwrap()).await;
    assert!(capacity.parse::<u64>().is_ok(), "{message}");
    assert!(pod["status"].get("containerStatuses").is_none(), "{pod}");
    let (api, root) = node.stop().await;

    let node = TestNode::on(api, root);
    node.api.put("/api/v1/namespaces/ns/pods/other", other("other", simple()));
    node.api.wait("/api/v1/namespaces/ns/pods/other", |pod| condition(pod, "Ready")).await;
    assert_eq!(node.api.get(POD).unwrap()["status"], pod["status"], "it stays what it was");
    node.stop().await;
}

/// Another pod beside the usual one.
fn other(name: &str, spec: Value) -> Value {
    let metadata = json!({ "name": name, "namespace": "ns", "uid": name, "generation": 1 });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {} })
}

#[tokio::test]
async fn room_that_is_given_back_is_given_again() {
    let node = TestNode::start();
    let cpus = std::thread::available_parallelism().unwrap().to_string();
    node.create(asking(&cpus));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    let path = |name: &str| format!("/api/v1/namespaces/ns/pods/{name}");
    node.api.put(&path("late"), other("late", asking("1")));
    node.api.wait(&path("late"), |pod| pod["status"]["reason"] == "OutOfcpu").await;
    node.api.remove(POD);
    node.api.put(&path("later"), other("later", asking(&cpus)));
    node.api.wait(&path("later"), |pod| condition(pod, "Ready")).await;
    node.stop().await;
}

#[tokio::test]
async fn a_label_that_the_node_has_not_heard_of_yet_counts() {
    let node = TestNode::start();
    let mut spec = simple();
    spec["nodeSelector"] = json!({ "disk": "ssd" });
    node.create(spec.clone());
    node.api.wait(POD, |pod| pod["status"]["reason"] == "NodeAffinity").await;
    let mut labelled = node.api.get("/api/v1/nodes/n").unwrap();
    labelled["metadata"]["labels"]["disk"] = json!("ssd");
    node.api.put("/api/v1/nodes/n", labelled);
    node.api.put("/api/v1/namespaces/ns/pods/other", other("other", spec));
    node.api.wait("/api/v1/namespaces/ns/pods/other", |pod| condition(pod, "Ready")).await;
    node.stop().await;
}
