//! Commands of probes and hooks.

use super::*;

/// A pod whose container has this beside what it needs.
fn with(extra: Value) -> Value {
    let mut spec = simple();
    let container = spec["containers"][0].as_object_mut().unwrap();
    container.extend(extra.as_object().unwrap().clone());
    spec
}

fn exec(command: &str) -> Value {
    json!({ "command": command.split(' ').collect::<Vec<_>>() })
}

#[tokio::test]
async fn a_readiness_command_that_succeeds_makes_ready() {
    let node = TestNode::start();
    let hook = json!({ "postStart": { "exec": exec("true") } });
    node.create(with(json!({ "readinessProbe": { "exec": exec("true") }, "lifecycle": hook })));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.stop().await;
}

#[tokio::test]
async fn a_liveness_command_that_fails_restarts_the_container() {
    let node = TestNode::start();
    node.create(with(json!({ "livenessProbe": { "exec": exec("fail $(A)"), "failureThreshold": 1 } })));
    let restarted = |pod: &Value| pod["status"]["containerStatuses"][0]["restartCount"] == 1;
    node.api.wait(POD, restarted).await;
    node.api.wait_event("Unhealthy", "Liveness probe failed: fail x").await;
    node.api.wait_event("Killing", "Container c failed liveness probe, will be restarted").await;
    node.stop().await;
}

#[tokio::test]
async fn a_command_that_takes_too_long_fails_and_one_that_cannot_run_counts_neither_way() {
    let node = TestNode::start();
    node.create(with(json!({
        "readinessProbe": { "exec": exec("sleep 9") },
        "livenessProbe": { "exec": exec("sh"), "failureThreshold": 1, "periodSeconds": 1 } })));
    let late = "Readiness probe failed: command timed out: \"sleep 9\" timed out after 1s";
    node.api.wait_event("Unhealthy", late).await;
    let error = "Liveness probe errored and resulted in unknown state: exec: \"sh\": there is no shell in a wasm pod";
    node.api.wait_event("Unhealthy", error).await;
    assert_eq!(node.api.get(POD).unwrap()["status"]["containerStatuses"][0]["restartCount"], 0);
    node.stop().await;
}

#[tokio::test]
async fn a_hook_that_fails_is_named_and_no_more() {
    let node = TestNode::start();
    node.create(with(json!({ "lifecycle": {
        "postStart": { "exec": exec("fail now") }, "preStop": { "exec": exec("fail then") } } })));
    node.api.wait_event("FailedPostStartHook", "PostStartHook failed").await;
    node.api.wait_event("FailedPreStopHook", "PreStopHook failed").await;
    node.stop().await;
}

#[tokio::test]
async fn a_shorter_grace_leaves_a_hook_what_is_left_of_it() {
    let node = TestNode::start();
    node.create(with(json!({ "lifecycle": { "preStop": { "exec": exec("wait") } } })));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.delete(600);
    node.engine.waits.notified().await;
    node.delete(300);
    node.catches_up().await;
    assert!(node.api.get(POD).is_some(), "its hook runs");
    node.engine.gate.add_permits(1);
    node.api.wait(POD, Value::is_null).await;
    let (api, _) = node.stop().await;
    assert!(!api.events().contains(&"FailedPreStopHook".to_owned()));
}

#[tokio::test]
async fn a_hook_has_no_more_than_the_shorter_grace() {
    let node = TestNode::start();
    node.create(with(json!({ "lifecycle": { "preStop": { "exec": exec("wait") } } })));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.delete(600);
    node.engine.waits.notified().await;
    node.delete(1);
    node.api.wait(POD, Value::is_null).await;
    node.stop().await;
}

#[tokio::test]
async fn who_ends_is_asked_whether_it_is_ready_and_nothing_else() {
    let node = TestNode::start();
    *node.engine.answer.lock().unwrap() = Some(Ok(()));
    node.create(with(json!({
        "readinessProbe": { "periodSeconds": 1, "failureThreshold": 1 },
        "livenessProbe": { "periodSeconds": 1, "failureThreshold": 1 },
        "lifecycle": { "preStop": { "exec": exec("wait") } } })));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.delete(600);
    node.engine.waits.notified().await;
    *node.engine.answer.lock().unwrap() = Some(Err("it leaves".to_owned()));
    node.api.wait(POD, |pod| !condition(pod, "Ready")).await;
    node.api.wait_event("Unhealthy", "Readiness probe failed: it leaves").await;
    *node.engine.answer.lock().unwrap() = Some(Ok(()));
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.engine.gate.add_permits(1);
    node.api.wait(POD, Value::is_null).await;
    let (api, _) = node.stop().await;
    let unhealthy = api.events().iter().filter(|reason| *reason == "Unhealthy").count();
    assert_eq!(unhealthy, 1, "nobody asks whether it is alive");
}
