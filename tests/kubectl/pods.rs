//! Pods from their creation to their end, and what they see of their node and namespace.

use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;

use k8w_testkit::{Running, eventually, skipped};
use serde_json::{Value, json};

use crate::{Sandbox, sandbox};

/// Conformance: "Pods, lifecycle".
#[test]
fn a_watcher_sees_a_pod_come_and_go() {
    let t = sandbox();
    let selector = ["-l", "app=submitted"];
    assert_eq!(t.kubectl.ok(&[&["get", "pods", "-o", "name"][..], &selector].concat()), "");
    let watch = ["get", "pods", "--watch", "--output-watch-events", "-o", "json"];
    let mut watch = Running::start(&mut t.kubectl.command(&[&watch[..], &selector].concat()));
    let mut events = serde_json::Deserializer::from_reader(watch.stdout()).into_iter::<Value>().map(Result::unwrap);
    t.hello_pod("submitted", "", "");
    let first = events.next().unwrap();
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("submitted")));
    assert!(events.by_ref().any(|event| event["object"]["status"]["phase"] == "Running"));
    t.kubectl.ok(&["delete", "pod", "submitted", "--grace-period=30", "--timeout=60s"]);
    let last = events.find(|event| event["type"] == "DELETED").unwrap();
    let metadata = &last["object"]["metadata"];
    assert!(metadata["deletionTimestamp"].is_string(), "{metadata}");
    let status = &last["object"]["status"]["containerStatuses"][0]["state"];
    assert!(status["terminated"].is_object(), "{status}");
    assert_eq!(t.kubectl.ok(&[&["get", "pods", "-o", "name"][..], &selector].concat()), "");
}

/// Conformance: "Pods, completes the lifecycle of a Pod and the PodStatus".
#[test]
fn a_pod_and_its_status_are_patched_replaced_and_deleted() {
    let t = sandbox();
    let label = "jsonpath={.metadata.labels.test-pod}{\"\\n\"}";
    let watch = ["get", "pods", "--watch", "-l", "app=pod-test", "-o", label];
    let mut watch = Running::start(&mut t.kubectl.command(&watch));
    let mut seen = watch.stdout().lines().map(Result::unwrap);
    t.hello_pod("pod-test", "terminationGracePeriodSeconds: 1", "");
    assert_eq!(seen.next().unwrap(), "");
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/pod-test", "--timeout=60s"]);
    let patch = json!({"metadata": {"labels": {"test-pod": "patched"}}, "spec": {"terminationGracePeriodSeconds": 1}});
    t.kubectl.ok(&["patch", "pod", "pod-test", "--patch", &patch.to_string()]);
    assert!(seen.any(|label| label == "patched"));
    let pod = || -> Value { t.kubectl.json(&["get", "pod", "pod-test", "-o", "json"]) };
    // The node says something else again when it next has something to say.
    eventually("the status is replaced", || {
        let mut replaced = pod();
        for condition in replaced["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
            }
        }
        let replace = ["replace", "--subresource=status", "-o", "json", "-f", "-"];
        let outcome = t.kubectl.run_with_input(&replace, &replaced.to_string());
        if !outcome.success {
            return Err(outcome.stderr);
        }
        let answer: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let conditions = answer["status"]["conditions"].as_array().unwrap();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").unwrap();
        assert_eq!(ready["status"], "False", "{ready}");
        Ok(())
    });
    t.kubectl.ok(&["delete", "pods", "-l", "app=pod-test", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["get", "pods", "-l", "app=pod-test", "-o", "name"]), "");
}

/// Conformance: "DownwardAPI, environment for default CPU and memory limits and requests"; "DownwardAPI volume, CPU limit,
/// default node allocatable"; "DownwardAPI volume, memory limit, default node allocatable"; "Projected Volume, DownwardAPI,
/// CPU limit, node allocatable"; "Projected Volume, DownwardAPI, memory limit, node allocatable".
#[test]
fn a_container_without_limits_may_have_all_of_its_node() {
    let t = sandbox();
    let files = "[{path: cpu, resourceFieldRef: {containerName: hello, resource: limits.cpu}}, \
        {path: memory, resourceFieldRef: {containerName: hello, resource: limits.memory}}]";
    let spec = format!(
        "terminationGracePeriodSeconds: 1, volumes: [
        {{name: info, downwardAPI: {{items: {files}}}}},
        {{name: projected, projected: {{sources: [{{downwardAPI: {{items: {files}}}}}]}}}}]"
    );
    let container = "env: [
        {name: CPU_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu}}},
        {name: MEMORY_LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}],
        volumeMounts: [{name: info, mountPath: /info}, {name: projected, mountPath: /projected}]";
    t.hello_pod("knows", &spec, container);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/knows", "--timeout=60s"]);
    let allocatable = |resource: &str| {
        let path = format!("jsonpath={{.items[0].status.allocatable.{resource}}}");
        let shown = t.kubectl.ok(&["get", "nodes", "-o", &path]);
        match shown.strip_suffix("Ki") {
            Some(number) => (number.parse::<u64>().unwrap() << 10).to_string(),
            None => shown,
        }
    };
    let (cpu, memory) = (allocatable("cpu"), allocatable("memory"));
    let env = t.kubectl.ok(&["exec", "knows", "--", "env"]);
    assert!(env.contains(&format!("CPU_LIMIT={cpu}\nMEMORY_LIMIT={memory}\n")), "{env}");
    for folder in ["/info", "/projected"] {
        let read = |file: &str| t.kubectl.ok(&["exec", "knows", "--", "cat", &format!("{folder}/{file}")]);
        assert_eq!((read("cpu"), read("memory")), (cpu.clone(), memory.clone()), "{folder}");
    }
}

/// Conformance: "Secrets Volume, volume mode default, secret with same name in different namespace".
#[test]
fn a_pod_sees_the_secret_of_its_own_namespace() {
    let (t, other) = (sandbox(), sandbox());
    other.kubectl.ok(&["create", "secret", "generic", "same", "--from-literal=data-1=theirs"]);
    t.kubectl.ok(&["create", "secret", "generic", "same", "--from-literal=data-1=ours"]);
    let spec = "terminationGracePeriodSeconds: 1, volumes: [{name: secret, secret: {secretName: same}}]";
    t.hello_pod("reads", spec, "volumeMounts: [{name: secret, mountPath: /secret}]");
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/reads", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["exec", "reads", "--", "cat", "/secret/data-1"]), "ours");
    let mode = t.kubectl.ok(&["exec", "reads", "--", "stat", "/secret/..data/data-1"]);
    assert!(mode.contains("(0644/-rw-r--r--)"), "{mode}");
}

/// Conformance: "EmptyDir Wrapper Volume, ConfigMap volumes, no race".
#[test]
fn five_pods_with_fifty_config_maps_each_all_run() {
    let t = sandbox();
    let image = t.hello_image();
    let name = |number: usize| format!("racey-configmap-{number}");
    let maps = (0..50).map(|number| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name(number)}, "data": {"data-1": "value-1"}})
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": maps.collect::<Value>()});
    t.kubectl.ok_with_input(&["create", "-f", "-"], &list.to_string());
    let items = json!([{"key": "data-1", "path": "data-1"}]);
    let volumes =
        (0..50).map(|number| json!({"name": name(number), "configMap": {"name": name(number), "items": items}}));
    let mounts = (0..50).map(|number| json!({"name": name(number), "mountPath": format!("/etc/config-{number}")}));
    let container = json!({"name": "hello", "image": image, "ports": [{"containerPort": 8080}],
        "volumeMounts": mounts.collect::<Value>()});
    let spec = json!({"runtimeClassName": "wasmtime", "terminationGracePeriodSeconds": 1, "containers": [container],
        "volumes": volumes.collect::<Value>()});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "wrapped"},
        "spec": {"replicas": 5, "selector": {"name": "wrapped"},
            "template": {"metadata": {"labels": {"name": "wrapped"}}, "spec": spec}}});
    t.kubectl.apply(&controller.to_string());
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.readyReplicas}=5", "rc/wrapped", "--timeout=60s"]);
    let restarts =
        t.kubectl.ok(&["get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"]);
    assert_eq!(restarts, "0 0 0 0 0");
}

/// A pod that says who it runs as, with a volume of such a medium; `false` when this node may not mount.
fn with_empty_directory(t: &Sandbox, medium: &str) -> bool {
    let spec = format!(
        "terminationGracePeriodSeconds: 1, securityContext: {{runAsUser: 1001}},
        volumes: [{{name: scratch, emptyDir: {{medium: '{medium}'}}}}]"
    );
    t.hello_pod("keeps", &spec, "volumeMounts: [{name: scratch, mountPath: /scratch}]");
    eventually("the pod is ready, or says why not", || {
        let ready = t.kubectl.ok(&["get", "pod", "keeps", "-o", "jsonpath={.status.containerStatuses[0].ready}"]);
        let events = t.kubectl.ok(&["get", "events", "-o", "jsonpath={.items[*].message}"]);
        match (ready == "true", events.contains("Operation not permitted")) {
            (false, false) => Err(events),
            (ready, _) => Ok(ready),
        }
    })
}

/// Files of these modes keep them.
fn files_keep_their_modes(t: &Sandbox) {
    let folder = tempfile::tempdir().unwrap();
    for (name, mode, text) in [
        ("0644", 0o644, "(0644/-rw-r--r--)"),
        ("0666", 0o666, "(0666/-rw-rw-rw-)"),
        ("0777", 0o777, "(0777/-rwxrwxrwx)"),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, "mount-tester new file\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let target = format!("/scratch/{name}");
        t.kubectl.ok(&["cp", &file.display().to_string(), &format!("keeps:{target}")]);
        assert_eq!(t.kubectl.ok(&["exec", "keeps", "--", "cat", &target]), "mount-tester new file\n");
        let shown = t.kubectl.ok(&["exec", "keeps", "--", "stat", &target]);
        assert!(shown.contains(text), "{shown}");
    }
}

/// Conformance: "EmptyDir, medium default, volume mode 0644"; "EmptyDir, medium default, volume mode 0666"; "EmptyDir, medium
/// default, volume mode 0777".
#[test]
fn files_in_an_empty_directory_keep_their_modes() {
    let t = sandbox();
    assert!(with_empty_directory(&t, ""));
    files_keep_their_modes(&t);
}

/// Where the node may not mount, this proves nothing.
///
/// Conformance: "EmptyDir, medium memory, volume mode default"; "EmptyDir, medium memory, volume mode 0644"; "EmptyDir, medium
/// memory, volume mode 0644, non-root user"; "EmptyDir, medium memory, volume mode 0666"; "EmptyDir, medium memory, volume
/// mode 0666,, non-root user"; "EmptyDir, medium memory, volume mode 0777"; "EmptyDir, medium memory, volume mode 0777,
/// non-root user".
#[test]
fn files_in_memory_keep_their_modes() {
    let t = sandbox();
    if !with_empty_directory(&t, "Memory") {
        return skipped("this node may not mount");
    }
    let shown = t.kubectl.ok(&["exec", "keeps", "--", "stat", "/scratch"]);
    assert!(shown.contains("(0777/drwxrwxrwx)") || shown.contains("(1777/drwxrwxrwt)"), "{shown}");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let uid = t.kubectl.ok(&["get", "pod", "keeps", "-o", "jsonpath={.metadata.uid}"]);
    assert!(mounts.lines().any(|line| line.contains(&uid) && line.contains(" tmpfs ")), "{mounts}");
    files_keep_their_modes(&t);
    t.kubectl.ok(&["delete", "pod", "keeps", "--timeout=60s"]);
}
