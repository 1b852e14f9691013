//! Claims: volumes that an administrator has made, and those of local-path.

use k8w_testkit::eventually;
use serde_json::json;

use super::{claim, claimed, event, is_ready, on_node, uses};
use crate::{Sandbox, sandbox};

#[test]
fn volumes_that_were_made_by_hand_are_bound_used_and_kept() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let (host, local) = (folder.path().join("host"), folder.path().join("local"));
    std::fs::create_dir(&local).unwrap();
    let words = folder.path().join("words");
    std::fs::write(&words, "of the node").unwrap();
    let node = t.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.labels.kubernetes\\.io/hostname}"]);
    let by_host =
        claimed(&t, "host", &json!({"hostPath": {"path": host, "type": "DirectoryOrCreate"}}), "ReadWriteOnce");
    let source = json!({"local": {"path": local}, "nodeAffinity": on_node(&node)});
    let by_local = claimed(&t, "local", &source, "ReadWriteMany");
    let phase = |kind: &str, name: &str| t.kubectl.ok(&["get", kind, name, "-o", "jsonpath={.status.phase}"]);
    for (name, folder) in [("host", &host), ("local", &local)] {
        uses(&t, name, name, false);
        is_ready(&t, name);
        assert_eq!(phase("pvc", name), "Bound");
        t.kubectl.ok(&["cp", words.to_str().unwrap(), &format!("{name}:/data/words")]);
        assert_eq!(std::fs::read_to_string(folder.join("words")).unwrap(), "of the node");
    }

    uses(&t, "reads", "local", true);
    is_ready(&t, "reads");
    assert_eq!(t.kubectl.ok(&["exec", "reads", "--", "cat", "/data/words"]), "of the node");
    let refused = t.kubectl.fails(&["cp", words.to_str().unwrap(), "reads:/data/more"]);
    assert!(refused.contains("Read-only file system"), "{refused}");

    t.kubectl.ok(&["delete", "pods", "--all", "--timeout=60s"]);
    t.kubectl.ok(&["delete", "pvc", "--all", "--timeout=60s"]);
    for (volume, folder) in [(&by_host, &host), (&by_local, &local)] {
        t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Released", &format!("pv/{volume}"), "--timeout=60s"]);
        assert_eq!(std::fs::read_to_string(folder.join("words")).unwrap(), "of the node");
    }
    // Released, it is nobody else's until an administrator says so.
    claim(&t, "again", &by_host, "ReadWriteOnce");
    uses(&t, "again", "again", false);
    eventually("the pod waits for its claim", || {
        let shown = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
        let message = t.kubectl.ok(&["get", "pod", "again", "-o", shown]);
        if message.contains("unbound immediate PersistentVolumeClaims") { Ok(()) } else { Err(message) }
    });
    assert_eq!(phase("pvc", "again"), "Pending");
    t.kubectl.ok(&["patch", "pv", &by_host, "--type=json", "-p", r#"[{"op": "remove", "path": "/spec/claimRef"}]"#]);
    is_ready(&t, "again");
    assert_eq!(t.kubectl.ok(&["exec", "again", "--", "cat", "/data/words"]), "of the node");
    t.kubectl.ok(&["delete", "pv", &by_host, &by_local, "--wait=false"]);
}

#[test]
fn a_pod_goes_where_its_volume_is_and_waits_for_one_that_another_has() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let source = json!({"local": {"path": folder.path()}, "nodeAffinity": on_node("far-away")});
    let far = claimed(&t, "far", &source, "ReadWriteOnce");
    uses(&t, "far", "far", false);
    event(&t.kubectl, "far", "node(s) didn't match PersistentVolume's node affinity");

    let own = claimed(&t, "own", &json!({"hostPath": {"path": folder.path()}}), "ReadWriteOncePod");
    uses(&t, "first", "own", false);
    is_ready(&t, "first");
    uses(&t, "second", "own", false);
    let taken = "PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    event(&t.kubectl, "second", taken);
    t.kubectl.ok(&["delete", "pod", "first", "--timeout=60s"]);
    is_ready(&t, "second");
    t.kubectl.ok(&["delete", "pv", &far, &own, "--wait=false"]);
}

#[test]
fn a_volume_for_many_readers_is_mounted_by_several_pods() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("words"), "of the node").unwrap();
    let volume = claimed(&t, "shown", &json!({"hostPath": {"path": folder.path()}}), "ReadOnlyMany");
    for pod in ["first", "second"] {
        uses(&t, pod, "shown", true);
        is_ready(&t, pod);
        assert_eq!(t.kubectl.ok(&["exec", pod, "--", "cat", "/data/words"]), "of the node");
    }
    t.kubectl.ok(&["delete", "pv", &volume, "--wait=false"]);
}

/// A claim in the default class, which is local-path's.
fn provisioned(t: &Sandbox, name: &str, access: &str, class: &str) {
    let mut spec = json!({"accessModes": [access], "resources": {"requests": {"storage": "1Mi"}}});
    if !class.is_empty() {
        spec["storageClassName"] = class.into();
    }
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
    t.kubectl.apply(&object.to_string());
}

#[test]
fn local_path_has_no_volumes_for_several_nodes_and_says_so() {
    let t = sandbox();
    for (name, access) in [("writers", "ReadWriteMany"), ("readers", "ReadOnlyMany")] {
        provisioned(&t, name, access, "");
        uses(&t, name, name, false);
        let why = format!("access mode {access} is not supported by k8w.io/local-path");
        eventually(&format!("{name}: {why}"), || {
            let events = t.kubectl.ok(&["events", "--for", &format!("pvc/{name}")]);
            if events.contains("ProvisioningFailed") && events.contains(&why) { Ok(()) } else { Err(events) }
        });
    }
}

#[test]
fn a_claim_grows_where_its_class_says_so() {
    let t = sandbox();
    let rigid = format!("{}-rigid", t.namespace);
    t.kubectl.apply(&format!(
        "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: {rigid}}}
provisioner: k8w.io/local-path
volumeBindingMode: WaitForFirstConsumer
"
    ));
    let grow = |name: &str| {
        let larger = r#"{"spec": {"resources": {"requests": {"storage": "2Mi"}}}}"#;
        t.kubectl.run(&["patch", "pvc", name, "-p", larger])
    };
    provisioned(&t, "soft", "ReadWriteOnce", "");
    provisioned(&t, "rigid", "ReadWriteOnce", &rigid);
    let unbound = grow("soft");
    let why =
        "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    assert!(!unbound.success && unbound.stderr.contains(why), "{unbound:?}");
    for name in ["soft", "rigid"] {
        uses(&t, name, name, false);
        is_ready(&t, name);
    }
    let refused = grow("rigid");
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
               resize";
    assert!(!refused.success && refused.stderr.contains(why), "{refused:?}");
    assert!(grow("soft").success);
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.capacity.storage}=2Mi", "pvc/soft", "--timeout=60s"]);
    eventually("the events of a claim that has grown", || {
        let events = t.kubectl.ok(&["events", "--for", "pvc/soft"]);
        let all = ["Resizing", "VolumeResizeSuccessful"].iter().all(|reason| events.contains(reason));
        if all { Ok(()) } else { Err(events) }
    });
    // It has no condition that says otherwise.
    let conditions = t.kubectl.ok(&["get", "pvc", "soft", "-o", "jsonpath={.status.conditions}"]);
    assert!(!conditions.contains("Resizing"), "{conditions}");
    assert_eq!(t.kubectl.ok(&["get", "pvc", "rigid", "-o", "jsonpath={.status.capacity.storage}"]), "1Mi");
    t.kubectl.ok(&["delete", "pods,pvc", "--all", "--timeout=60s"]);
    t.kubectl.ok(&["delete", "storageclass", &rigid]);
}
