//! What happens to containers around their running: hooks, last words, names, and others that look in.

use super::*;
use crate::pod::quantity;

fn with(extra: Value) -> Value {
    let mut spec = simple();
    spec["containers"][0].as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    spec
}

fn status<'a>(pod: &'a Value, list: &str) -> &'a Value {
    &pod["status"][list][0]
}

/// The file of the node that a container sees at a path.
fn seen_at(spec: &ContainerSpec, path: &str) -> std::path::PathBuf {
    let preopen = spec.preopens.iter().find(|preopen| preopen.guest_path == path).unwrap();
    preopen.host_dir.join(preopen.sub_path.as_ref().unwrap())
}

async fn running(spec: Value) -> TestNode {
    let node = TestNode::start();
    node.create(spec);
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node
}

#[tokio::test]
async fn a_hook_that_kubernetes_does_not_know_fails_when_it_runs() {
    let node = TestNode::start();
    node.create(with(json!({ "lifecycle": { "postStart": { "tcpSocket": { "port": 80 } } } })));
    node.api.wait_event("FailedPostStartHook", "PostStartHook failed").await;
    node.api.wait(POD, |pod| status(pod, "containerStatuses")["restartCount"] == 1).await;
    node.stop().await;
}

/// What the node says of a pod's readiness probe that finds nobody, or nobody in time.
#[tokio::test]
async fn a_probe_that_finds_nobody_says_so_as_a_kubelet_does() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let refused = "dial tcp 10.64.0.2:9000: connect: connection refused";
    for (probe, why) in [
        (
            json!({ "grpc": { "port": 9000, "service": "db" } }),
            "failed: timeout: failed to connect service \"10.64.0.2:9000\" within 1s: context deadline exceeded"
                .to_owned(),
        ),
        (json!({ "tcpSocket": { "port": 9000 } }), format!("failed: {refused}")),
        (
            json!({ "httpGet": { "port": 9000, "path": "healthz" } }),
            format!("failed: Get \"http://10.64.0.2:9000/healthz\": {refused}"),
        ),
        (
            json!({ "httpGet": { "port": silent, "host": "127.0.0.1" } }),
            format!(
                "failed: Get \"http://127.0.0.1:{silent}/\": context deadline exceeded (Client.Timeout exceeded while \
                 awaiting headers)"
            ),
        ),
        (
            json!({ "tcpSocket": { "port": "web" } }),
            "errored and resulted in unknown state: strconv.Atoi: parsing \"web\": invalid syntax".to_owned(),
        ),
    ] {
        let node = TestNode::start();
        node.create(with(json!({ "readinessProbe": probe })));
        node.api.wait_event("Unhealthy", &format!("Readiness probe {why}")).await;
        node.stop().await;
    }
}

#[tokio::test]
async fn last_words_become_the_message() {
    let node = running(with(json!({ "terminationMessagePath": "/tmp/why" }))).await;
    let spec = node.engine.last_started();
    // The last 4,096 bytes of them.
    let words = "so it goes ".repeat(400);
    std::fs::write(seen_at(&spec, "/tmp/why"), &words).unwrap();
    node.engine.exit(&spec.id, 1).await;
    let last = |pod: &Value| status(pod, "containerStatuses")["lastState"]["terminated"]["message"].clone();
    let restarted = |pod: &Value| status(pod, "containerStatuses")["restartCount"] == 1 && condition(pod, "Ready");
    node.api.wait(POD, |pod| last(pod) == words[words.len() - 4_096..] && restarted(pod)).await;
    let spec = node.engine.last_started();
    assert_eq!(spec.id.attempt, 1, "it is started again, with a file of its own");
    assert_eq!(std::fs::read_to_string(seen_at(&spec, "/tmp/why")).unwrap(), "");
    node.stop().await;
}

#[tokio::test]
async fn the_log_speaks_for_a_failure_without_last_words() {
    let long = "x".repeat(99);
    for (lines, said) in [
        (vec!["hello".to_owned()], "hello\n".to_owned()),
        // Of many lines the last 80, and of those the last 2,048 bytes.
        ((0..100).map(|line| line.to_string()).collect(), (20..100).map(|line| format!("{line}\n")).collect()),
        (vec![long.clone(); 30], format!("{}\n{}", &long[52..], format!("{long}\n").repeat(20))),
    ] {
        let node = running(with(json!({ "terminationMessagePolicy": "FallbackToLogsOnError" }))).await;
        let spec = node.engine.last_started();
        let log: String =
            lines.iter().map(|line| format!("2024-01-01T00:00:00.000000000Z stdout F {line}\n")).collect();
        std::fs::write(&spec.log_path, log).unwrap();
        node.engine.exit(&spec.id, 1).await;
        let last = |pod: &Value| status(pod, "containerStatuses")["lastState"]["terminated"]["message"].clone();
        let pod = node.api.wait(POD, |pod| last(pod).is_string()).await;
        assert_eq!(last(&pod).as_str().unwrap(), said);
        node.stop().await;
    }
}

#[tokio::test]
async fn the_log_speaks_after_what_the_engine_says() {
    let node = running(with(json!({ "terminationMessagePolicy": "FallbackToLogsOnError" }))).await;
    node.engine.exit_saying(&node.engine.last_started().id, 134, "unreachable").await;
    let last = |pod: &Value| status(pod, "containerStatuses")["lastState"]["terminated"]["message"].clone();
    node.api.wait(POD, |pod| last(pod) == "unreachable: hello\n").await;
    node.stop().await;
}

#[tokio::test]
async fn a_status_of_a_pod_that_is_gone_is_not_written_again_and_again() {
    let node = running(simple()).await;
    let id = node.engine.last_started().id;
    node.api.lose(POD);
    node.engine.exit(&id, 1).await;
    node.api.wait_for_refused_patch().await;
    node.catches_up().await;
    // The watch may have told of the status before meanwhile.
    let refused = node.api.refused_patches();
    assert!(refused <= 2, "{refused}");
    node.create(simple());
    node.api.wait(POD, |pod| status(pod, "containerStatuses")["restartCount"] == 1).await;
    node.stop().await;
}

#[tokio::test]
async fn a_pod_knows_its_names() {
    let mut spec = simple();
    spec["hostname"] = json!("h");
    spec["subdomain"] = json!("sub");
    spec["setHostnameAsFQDN"] = json!(true);
    spec["hostAliases"] = json!([{ "ip": "10.1.2.3", "hostnames": ["db"] }]);
    let node = running(spec).await;
    let spec = node.engine.last_started();
    assert!(spec.env.contains(&("HOSTNAME".to_owned(), "h.sub.ns.svc.cluster.local".to_owned())));
    assert_eq!(std::fs::read_to_string(seen_at(&spec, "/etc/hostname")).unwrap(), "h.sub.ns.svc.cluster.local\n");
    let hosts = std::fs::read_to_string(seen_at(&spec, "/etc/hosts")).unwrap();
    assert!(
        hosts.contains("10.64.0.2\th.sub.ns.svc.cluster.local\th\n") && hosts.ends_with("10.1.2.3\tdb\n"),
        "{hosts}"
    );
    assert_eq!(spec.names.hosts, [("db".to_owned(), "10.1.2.3".parse().unwrap())]);
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_another_before_it_ends() {
    let mut spec = with(json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let source = json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 1 } });
    spec["volumes"] = json!([{ "name": "v", "projected": { "sources": [source] } }]);
    let node = running(spec).await;
    let file = node.engine.last_started().preopens[0].host_dir.join("token");
    let later = async {
        let mut every = tokio::time::interval(std::time::Duration::from_millis(10));
        // What is replaced is never missing.
        while matches!(std::fs::read_to_string(&file).unwrap().as_str(), "token-0" | "token-1") {
            every.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), later).await.expect("the token stays the same");
    node.stop().await;
}

#[tokio::test]
async fn an_ephemeral_container_looks_in_once_and_changes_nothing() {
    let node = running(simple()).await;
    let mut pod = node.api.get(POD).unwrap();
    pod["spec"]["ephemeralContainers"] =
        json!([{ "name": "look", "image": "localhost/hello", "targetContainerName": "c" }]);
    node.api.put(POD, pod);
    let look = |pod: &Value| status(pod, "ephemeralContainerStatuses").clone();
    let pod = node.api.wait(POD, |pod| look(pod)["state"]["running"].is_object()).await;
    assert_eq!((&look(&pod)["name"], &look(&pod)["ready"]), (&json!("look"), &json!(false)));
    assert!(condition(&pod, "Ready"));
    let spec = node.engine.last_started();
    assert_eq!(spec.container_name, "look");
    node.engine.exit(&spec.id, 3).await;
    let pod = node.api.wait(POD, |pod| look(pod)["state"]["terminated"]["exitCode"] == 3).await;
    assert_eq!(pod["status"]["phase"], "Running");
    assert!(condition(&pod, "Ready"));
    node.stop().await;
}

#[tokio::test]
async fn a_gate_that_opens_makes_ready() {
    let node = TestNode::start();
    let mut spec = simple();
    spec["readinessGates"] = json!([{ "conditionType": "example.com/gate" }]);
    node.create(spec);
    let mut pod = node.api.wait(POD, |pod| condition(pod, "ContainersReady")).await;
    assert!(!condition(&pod, "Ready"));
    let gate = json!({ "type": "example.com/gate", "status": "True" });
    pod["status"]["conditions"].as_array_mut().unwrap().push(gate);
    node.api.put(POD, pod);
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.stop().await;
}

#[tokio::test]
async fn a_pod_past_its_deadline_fails() {
    let node = TestNode::start();
    let mut spec = simple();
    spec["activeDeadlineSeconds"] = json!(1);
    node.create(spec);
    let pod = node.api.wait(POD, |pod| pod["status"]["phase"] == "Failed").await;
    assert_eq!(pod["status"]["reason"], "DeadlineExceeded");
    node.stop().await;
}

#[tokio::test]
async fn a_pod_whose_component_is_compiled_says_so() {
    let node = TestNode::start();
    let compiling = node.engine.compiler.acquire().await.unwrap();
    node.create(simple());
    let waiting = |pod: &Value| status(pod, "containerStatuses")["state"]["waiting"].clone();
    let pod = node.api.wait(POD, |pod| waiting(pod)["reason"] == "Compiling").await;
    assert_eq!(waiting(&pod)["message"], "the component of image \"localhost/hello\" is being compiled");
    node.api.wait_event("Compiling", "Compiling the component of image \"localhost/hello\"").await;
    drop(compiling);
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.stop().await;
}

/// The pod with other resources for its container.
fn resized(node: &TestNode, requests: Value, limits: Value) {
    let mut pod = node.api.get(POD).unwrap();
    pod["spec"]["containers"][0]["resources"] = json!({ "requests": requests, "limits": limits });
    node.api.put(POD, pod);
}

#[tokio::test]
async fn limits_change_under_a_running_container() {
    let node =
        running(with(json!({ "resources": { "requests": { "memory": "1Mi" }, "limits": { "memory": "1Mi" } } }))).await;
    resized(&node, json!({ "memory": "2Mi" }), json!({ "memory": "2Mi" }));
    let limit = |pod: &Value| status(pod, "containerStatuses")["resources"]["limits"]["memory"].clone();
    let pod = node.api.wait(POD, |pod| limit(pod) == "2Mi").await;
    assert_eq!(status(&pod, "containerStatuses")["restartCount"], 0);
    assert_eq!(node.engine.resized.lock().unwrap().last().unwrap().memory_bytes, Some(2 << 20));

    resized(&node, json!({ "memory": "512" }), json!({ "memory": "512" }));
    let of = |pod: &Value, type_: &str| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
    };
    let pod = node.api.wait(POD, |pod| of(pod, "PodResizeInProgress")["reason"] == "Error").await;
    assert_eq!(of(&pod, "PodResizeInProgress")["message"], "too little");
    assert_eq!(limit(&pod), "2Mi", "it has what it had");
    node.stop().await;
}

#[tokio::test]
async fn limits_that_change_during_a_launch_hold_when_it_is_over() {
    let node = TestNode::start();
    let compiling = node.engine.compiler.acquire().await.unwrap();
    let resources = json!({ "requests": { "memory": "1Mi" }, "limits": { "memory": "1Mi" } });
    node.create(with(json!({ "resources": resources })));
    node.api.wait(POD, |pod| status(pod, "containerStatuses")["state"]["waiting"]["reason"] == "Compiling").await;
    resized(&node, json!({ "memory": "2Mi" }), json!({ "memory": "2Mi" }));
    let has = |pod: &Value| status(pod, "containerStatuses")["resources"]["limits"]["memory"] == "2Mi";
    node.api.wait(POD, has).await;
    drop(compiling);
    node.api.wait(POD, |pod| has(pod) && condition(pod, "Ready")).await;
    assert_eq!(node.engine.last_started().limits.memory_bytes, Some(1 << 20));
    assert_eq!(node.engine.resized.lock().unwrap().last().unwrap().memory_bytes, Some(2 << 20));
    node.stop().await;
}

#[tokio::test]
async fn a_resize_waits_until_another_pod_has_gone() {
    let node = running(with(json!({ "resources": { "requests": { "cpu": "10m" } } }))).await;
    let allocatable = node.api.get("/api/v1/nodes/n").unwrap()["status"]["allocatable"]["cpu"].clone();
    let allocatable = quantity::millis(&serde_json::from_value(allocatable).unwrap()).unwrap();
    const OTHER: &str = "/api/v1/namespaces/ns/pods/q";
    let mut other = node.api.get(POD).unwrap();
    other["metadata"] = json!({ "name": "q", "namespace": "ns", "uid": "v", "generation": 1 });
    other["status"] = json!({});
    other["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!(format!("{}m", allocatable / 2));
    node.api.put(OTHER, other);
    let mut other = node.api.wait(OTHER, |pod| condition(pod, "Ready")).await;
    let wanted = format!("{}m", allocatable / 2 + 2);
    resized(&node, json!({ "cpu": wanted }), json!({}));
    let pending = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == "PodResizePending")
    };
    let pod = node.api.wait(POD, |pod| pending(pod).is_some()).await;
    assert_eq!(pending(&pod).unwrap()["reason"], "Deferred");
    other["metadata"]["deletionTimestamp"] = json!("2024-01-01T00:00:00Z");
    other["metadata"]["deletionGracePeriodSeconds"] = json!(1);
    node.api.put(OTHER, other);
    let has = |pod: &Value| status(pod, "containerStatuses")["resources"]["requests"]["cpu"] == *wanted;
    let pod = node.api.wait(POD, |pod| has(pod) && pending(pod).is_none()).await;
    assert_eq!(status(&pod, "containerStatuses")["restartCount"], 0);
    node.stop().await;
}

#[tokio::test]
async fn limits_of_a_whole_pod_change_under_its_containers() {
    let mut spec = simple();
    spec["resources"] = json!({ "requests": { "cpu": "10m" }, "limits": { "cpu": "20m", "memory": "1Mi" } });
    let node = running(spec).await;
    let mut pod = node.api.get(POD).unwrap();
    pod["spec"]["resources"]["limits"] = json!({ "cpu": "40m", "memory": "2Mi" });
    node.api.put(POD, pod);
    let limits = |pod: &Value| pod["status"]["resources"]["limits"].clone();
    let pod = node.api.wait(POD, |pod| limits(pod) == json!({ "cpu": "40m", "memory": "2Mi" })).await;
    assert_eq!(status(&pod, "containerStatuses")["restartCount"], 0);
    assert_eq!(pod["status"]["allocatedResources"], json!({ "cpu": "10m" }));
    let told = node.engine.resized.lock().unwrap().last().copied().unwrap();
    assert_eq!((told.pod_cpu_millis, told.pod_memory_bytes), (Some(40), Some(2 << 20)));
    node.stop().await;
}

#[tokio::test]
async fn what_the_node_does_not_have_is_not_given() {
    let node = running(with(json!({ "resources": { "requests": { "cpu": "10m" } } }))).await;
    resized(&node, json!({ "cpu": "100000" }), json!({}));
    let pending = |pod: &Value| condition(pod, "PodResizePending");
    let pod = node.api.wait(POD, pending).await;
    assert_eq!(status(&pod, "containerStatuses")["allocatedResources"]["cpu"], "10m");
    let (api, root) = node.stop().await;
    let node = TestNode::on(api, root);
    let again = |pod: &Value| status(pod, "containerStatuses")["restartCount"] == 1 && condition(pod, "Ready");
    let pod = node.api.wait(POD, again).await;
    assert!(pending(&pod), "a node that was away knows what it had no room for");
    assert_eq!(status(&pod, "containerStatuses")["resources"]["requests"]["cpu"], "10m");
    assert_eq!(node.engine.last_started().limits.cpu_request_millis, Some(10));
    resized(&node, json!({ "cpu": "20m" }), json!({}));
    let pod = node.api.wait(POD, |pod| status(pod, "containerStatuses")["resources"]["requests"]["cpu"] == "20m").await;
    assert!(!pending(&node.api.wait(POD, |pod| !pending(pod)).await) && condition(&pod, "Ready"));
    node.stop().await;
}

#[tokio::test]
async fn a_container_that_cannot_live_through_a_resize_is_restarted() {
    let policy = json!([{ "resourceName": "memory", "restartPolicy": "RestartContainer" }]);
    let node = running(with(json!({ "resizePolicy": policy, "resources": { "limits": { "memory": "1Mi" } } }))).await;
    resized(&node, json!({}), json!({ "memory": "2Mi" }));
    node.api.wait(POD, |pod| status(pod, "containerStatuses")["restartCount"] == 1 && condition(pod, "Ready")).await;
    assert_eq!(node.engine.last_started().limits.memory_bytes, Some(2 << 20));
    node.stop().await;
}

#[tokio::test]
async fn a_component_answers_for_itself() {
    let node = TestNode::start();
    *node.engine.answer.lock().unwrap() = Some(Err("not yet".to_owned()));
    node.create(with(json!({ "startupProbe": { "exec": { "command": ["true"] } } })));
    node.api.wait_event("Unhealthy", "Readiness probe failed: not yet").await;
    assert!(!condition(&node.api.get(POD).unwrap(), "Ready"));
    node.stop().await;
    let node = TestNode::start();
    *node.engine.answer.lock().unwrap() = Some(Ok(()));
    node.create(simple());
    node.api.wait(POD, |pod| condition(pod, "Ready")).await;
    node.stop().await;
}
