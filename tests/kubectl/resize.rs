//! Pods whose containers are given more or less while they run.

use k8w_testkit::{eventually, get};
use serde_json::{Value, json};

use crate::{Sandbox, sandbox};

/// What a container asks for and may have at most: `requests` and `limits` of CPU and memory.
fn resources(cpu: [&str; 2], memory: [&str; 2]) -> Value {
    let some = |cpu: &str, memory: &str| {
        let all = [("cpu", cpu), ("memory", memory)].into_iter().filter(|(_, quantity)| !quantity.is_empty());
        all.map(|(name, quantity)| (name.to_owned(), json!(quantity))).collect::<serde_json::Map<_, _>>()
    };
    let both = json!({"requests": some(cpu[0], memory[0]), "limits": some(cpu[1], memory[1])});
    let Value::Object(mut both) = both else { unreachable!("an object") };
    both.retain(|_, quantities| quantities.as_object().is_some_and(|quantities| !quantities.is_empty()));
    Value::Object(both)
}

/// The same for requests and limits.
fn guaranteed(cpu: &str, memory: &str) -> Value {
    resources([cpu, cpu], [memory, memory])
}

fn containers(resources: &[Value], image: Option<&str>) -> Value {
    let each = resources.iter().enumerate().map(|(number, resources)| {
        let mut container = json!({"name": format!("c{number}"), "resources": resources});
        if let Some(image) = image {
            container["image"] = json!(image);
            container["ports"] = json!([{"containerPort": 8080 + number}]);
        }
        container
    });
    each.collect()
}

/// A pod whose containers have the first, and then get the second, without being restarted.
fn resizes(t: &Sandbox, name: &str, before: &[Value], after: &[Value]) {
    let spec = json!({"runtimeClassName": "wasmtime", "terminationGracePeriodSeconds": 1,
        "containers": containers(before, Some(t.hello_image()))});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec});
    t.kubectl.apply(&pod.to_string());
    t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    let has = |expected: &[Value]| {
        eventually("the containers have what they were given", || {
            let pod: Value = t.kubectl.json(&["get", "pod", name, "-o", "json"]);
            let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
            let got: Vec<Value> = statuses.iter().map(|status| status["resources"].clone()).collect();
            let allocated: Vec<Value> = statuses.iter().map(|status| status["allocatedResources"].clone()).collect();
            let asked: Vec<Value> = expected.iter().map(|resources| resources["requests"].clone()).collect();
            let waits = pod["status"]["conditions"].to_string().contains("PodResize");
            if got == expected && allocated == asked && !waits { Ok(pod) } else { Err(pod["status"].to_string()) }
        })
    };
    let class = has(before)["status"]["qosClass"].clone();
    let patch = json!({"spec": {"containers": containers(after, None)}}).to_string();
    t.kubectl.ok(&["patch", "pod", name, "--subresource=resize", "--patch", &patch]);
    let pod = has(after);
    assert_eq!(pod["status"]["qosClass"], class);
    for status in pod["status"]["containerStatuses"].as_array().unwrap() {
        assert_eq!(status["restartCount"], 0, "{status}");
    }
    t.kubectl.ok(&["delete", "pod", name, "--wait=false"]);
}

/// Conformance: "In-place Pod Resize, guaranteed pods with multiple containers, net increase"; "In-place Pod Resize,
/// guaranteed pods with multiple containers, net decrease"; "In-place Pod Resize, guaranteed pods with multiple containers,
/// various operations".
#[test]
fn three_guaranteed_containers_change_together() {
    let t = sandbox();
    let before = ["20m", "30m", "40m"].map(|cpu| guaranteed(cpu, "48Mi"));
    let net_increase = [guaranteed("30m", "56Mi"), guaranteed("40m", "60Mi"), guaranteed("30m", "40Mi")];
    resizes(&t, "increase", &before, &net_increase);
    let net_decrease = [guaranteed("25m", "50Mi"), guaranteed("20m", "40Mi"), guaranteed("20m", "44Mi")];
    resizes(&t, "decrease", &before, &net_decrease);
    let various = [guaranteed("30m", "48Mi"), guaranteed("20m", "56Mi"), guaranteed("50m", "60Mi")];
    resizes(&t, "various", &before, &various);
}

/// Conformance: "In-place Pod Resize, burtable pod with multiple containers and various operations"; "In-place Pod Resize,
/// burstable pod resized with equivalents".
#[test]
fn burstable_containers_are_given_what_they_had_not() {
    let t = sandbox();
    let before = [
        resources(["10m", ""], ["", ""]),
        resources(["10m", "20m"], ["32Mi", ""]),
        resources(["", ""], ["32Mi", "64Mi"]),
        resources(["10m", "20m"], ["32Mi", "64Mi"]),
        resources(["20m", "30m"], ["48Mi", "64Mi"]),
        resources(["", ""], ["32Mi", ""]),
    ];
    let after = [
        resources(["10m", "20m"], ["", ""]),
        resources(["20m", "30m"], ["32Mi", "64Mi"]),
        resources(["10m", "20m"], ["32Mi", "64Mi"]),
        resources(["15m", "25m"], ["40Mi", "72Mi"]),
        resources(["10m", "20m"], ["32Mi", "48Mi"]),
        resources(["10m", ""], ["40Mi", ""]),
    ];
    resizes(&t, "six", &before, &after);
    // What the kernel would round to the same shares.
    resizes(&t, "equivalents", &[resources(["2m", "10m"], ["", ""])], &[resources(["1m", "5m"], ["", ""])]);
}

/// Gives the pod's container another memory limit, and waits until it has it.
fn limit(t: &Sandbox, name: &str, memory: &str) {
    let containers = json!([{"name": "hello", "resources": {"limits": {"memory": memory}}}]);
    let patch = json!({"spec": {"containers": containers}}).to_string();
    t.kubectl.ok(&["patch", "pod", name, "--subresource=resize", "--patch", &patch]);
    let has = "jsonpath={.status.containerStatuses[0].resources.limits.memory}/{.status.containerStatuses[0].ready}";
    eventually("the container has its limit", || match t.kubectl.ok(&["get", "pod", name, "-o", has]) {
        has if has == format!("{memory}/true") => Ok(()),
        has => Err(has),
    });
}

#[test]
fn memory_that_a_container_is_given_is_there_for_it() {
    let t = sandbox();
    let spec = "terminationGracePeriodSeconds: 1";
    if !t.probe_pod("hog", spec, "resources: {requests: {memory: 1Mi}, limits: {memory: 32Mi}}") {
        return;
    }
    let host = format!("{}.test", t.namespace);
    t.kubectl.ok(&["expose", "pod", "hog", "--port=80", "--target-port=8080"]);
    t.kubectl.ok(&["create", "ingress", "hog", &format!("--rule={host}/*=hog:80")]);
    let ask = |path: &str| get(t.cluster.ingress_http(), &host, path);
    let answers = || {
        eventually("it answers", || match ask("/count")? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
    };
    answers();
    assert_eq!(ask("/hog?64").unwrap().status, 500);
    let last = "jsonpath={.status.containerStatuses[0].lastState.terminated.reason}";
    eventually("it is killed", || match t.kubectl.ok(&["get", "pod", "hog", "-o", last]) {
        reason if reason == "OOMKilled" => Ok(()),
        reason => Err(reason),
    });
    limit(&t, "hog", "128Mi");
    answers();
    let answer = ask("/hog?64").unwrap();
    assert_eq!((answer.status, &*answer.body), (200, "67108864 bytes"));
}

#[test]
fn a_container_that_asks_for_it_is_restarted_by_a_resize() {
    let t = sandbox();
    let policy = "resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]";
    let resources = "resources: {requests: {memory: 1Mi}, limits: {memory: 32Mi}}";
    t.hello_pod("restarts", "terminationGracePeriodSeconds: 1", &format!("{policy}, {resources}"));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/restarts", "--timeout=60s"]);
    limit(&t, "restarts", "64Mi");
    let count = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(t.kubectl.ok(&["get", "pod", "restarts", "-o", count]), "1");
    eventually("an event says so", || match t.kubectl.ok(&["events", "--for", "pod/restarts"]) {
        told if told.contains("Container hello resize requires restart") => Ok(()),
        told => Err(told),
    });
}
