//! What pods write on the node's disk: those that write more than they may are evicted.

use k8w_testkit::eventually;

use crate::{Sandbox, sandbox};

/// Writes 2 MB into the pod's emptyDir, and waits until it is evicted with that message.
fn is_evicted(t: &Sandbox, pod: &str, message: &str) {
    t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; 2_000_000]).unwrap();
    t.kubectl.ok(&["cp", &file.path().display().to_string(), &format!("{pod}:/scratch/file")]);
    let path = "jsonpath={.status.phase} {.status.reason} {.status.message}";
    eventually("the pod is evicted", || match t.kubectl.ok(&["get", "pod", pod, "-o", path]) {
        status if status == format!("Failed Evicted {message}") => Ok(()),
        status => Err(status),
    });
}

#[test]
fn an_empty_directory_has_its_limit() {
    let t = sandbox();
    t.hello_pod(
        "full",
        "volumes: [{name: scratch, emptyDir: {sizeLimit: 1M}}]",
        "volumeMounts: [{name: scratch, mountPath: /scratch}]",
    );
    is_evicted(&t, "full", "Usage of EmptyDir volume \"scratch\" exceeds the limit \"1M\".");
}

#[test]
fn a_pod_has_the_limit_of_its_containers() {
    let t = sandbox();
    t.hello_pod(
        "full",
        "volumes: [{name: scratch, emptyDir: {}}]",
        "resources: {limits: {ephemeral-storage: 1M}}, volumeMounts: [{name: scratch, mountPath: /scratch}]",
    );
    is_evicted(&t, "full", "Pod ephemeral local storage usage exceeds the total limit of containers 1M.");
}
