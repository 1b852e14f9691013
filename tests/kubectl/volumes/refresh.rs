//! Volumes that show what the API has, of pods that run: each follows its own objects, whatever becomes of the others.

use super::{event, is_ready, shows};
use crate::{Sandbox, sandbox};

fn set(t: &Sandbox, map: &str, value: &str) {
    t.kubectl.ok(&["patch", "configmap", map, "-p", &format!("{{\"data\": {{\"key\": \"{value}\"}}}}")]);
}

#[test]
fn a_volume_that_fails_is_told_and_holds_up_no_other() {
    let t = sandbox();
    for map in ["a", "b"] {
        t.kubectl.ok(&["create", "configmap", map, "--from-literal=key=old"]);
    }
    t.kubectl.apply(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
",
    );
    let spec = "terminationGracePeriodSeconds: 1, volumes: [{name: data, persistentVolumeClaim: {claimName: data}},
        {name: a, configMap: {name: a}}, {name: b, configMap: {name: b}}]";
    let mounts = "volumeMounts: [{name: data, mountPath: /data}, {name: a, mountPath: /a}, {name: b, mountPath: /b}]";
    t.hello_pod("reads", spec, mounts);
    is_ready(&t, "reads");

    t.kubectl.ok(&["delete", "configmap", "a"]);
    set(&t, "b", "new");
    shows(&t, "reads", "/b/key", "new");
    event(&t.kubectl, "reads", "MountVolume.SetUp failed for volume \"a\" : configmap \"a\" not found");
    shows(&t, "reads", "/a/key", "old");
    t.kubectl.ok(&["create", "configmap", "a", "--from-literal=key=again"]);
    shows(&t, "reads", "/a/key", "again");

    // A claim that a pod has is its own for as long as it runs.
    t.kubectl.ok(&["delete", "pvc", "data", "--wait=false"]);
    set(&t, "b", "newer");
    shows(&t, "reads", "/b/key", "newer");
    let events = t.kubectl.ok(&["events", "--for", "pod/reads"]);
    assert!(!events.contains("being deleted"), "{events}");
    t.kubectl.ok(&["delete", "pod", "reads", "--timeout=60s"]);
    t.kubectl.ok(&["wait", "--for=delete", "pvc/data", "--timeout=60s"]);
}

#[test]
fn each_volume_that_keeps_a_pod_from_beginning_is_told() {
    let t = sandbox();
    let spec = "terminationGracePeriodSeconds: 1, volumes: [{name: a, configMap: {name: a}},
        {name: s, secret: {secretName: s}},
        {name: p, projected: {sources: [{configMap: {name: a}}, {secret: {name: s}}]}}]";
    t.hello_pod("waits", spec, "volumeMounts: [{name: a, mountPath: /a}]");
    for (volume, why) in [
        ("a", "configmap \"a\" not found"),
        ("s", "secret \"s\" not found"),
        ("p", "[configmap \"a\" not found, secret \"s\" not found]"),
    ] {
        event(&t.kubectl, "waits", &format!("MountVolume.SetUp failed for volume \"{volume}\" : {why}"));
    }
}
