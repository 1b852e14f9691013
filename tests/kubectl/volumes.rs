//! Volumes that lie on the node: host paths of every type, and PersistentVolumes that an administrator has made.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8w_testkit::{Kubectl, eventually};
use serde_json::{Value, json};

use crate::{Sandbox, sandbox};

/// Waits until an event of a pod says something.
fn event(kubectl: &Kubectl, pod: &str, text: &str) {
    eventually(&format!("an event of {pod} says {text:?}"), || {
        let events = kubectl.ok(&["events", "--for", &format!("pod/{pod}")]);
        if events.contains(text) { Ok(()) } else { Err(events) }
    });
}

fn volume(name: &str, path: &Path, kind: &str) -> String {
    format!("{{name: {name}, hostPath: {{path: {}, type: {kind}}}}}", path.display())
}

#[test]
fn files_and_folders_of_the_node_are_mounted_and_made() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "found").unwrap();
    std::fs::write(path("kept"), "kept").unwrap();
    let volumes = [
        volume("file", &path("file"), "File"),
        volume("kept", &path("kept"), "FileOrCreate"),
        volume("new-file", &path("new-file"), "FileOrCreate"),
        volume("new-dir", &path("new/deep"), "DirectoryOrCreate"),
    ];
    let mounts = "volumeMounts: [
        {name: file, mountPath: /etc/file, readOnly: true}, {name: kept, mountPath: /etc/kept},
        {name: new-file, mountPath: /etc/new}, {name: new-dir, mountPath: /dir}]";
    t.hello_pod("mounts", &format!("terminationGracePeriodSeconds: 1, volumes: [{}]", volumes.join(", ")), mounts);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/mounts", "--timeout=60s"]);
    assert_eq!(t.kubectl.ok(&["exec", "mounts", "--", "cat", "/etc/file", "/etc/kept", "/etc/new"]), "foundkept");
    let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("new-file"), mode("new"), mode("new/deep")), (0o644, 0o755, 0o755));
    let source = folder.path().join("file");
    t.kubectl.ok(&["cp", source.to_str().unwrap(), "mounts:/dir/copy"]);
    assert_eq!(std::fs::read_to_string(path("new/deep/copy")).unwrap(), "found");
    t.kubectl.ok(&["delete", "pod", "mounts", "--timeout=60s"]);
    assert!(path("new-file").exists() && path("new/deep/copy").exists(), "what was made stays with the node");
}

#[test]
fn a_host_path_of_another_type_is_not_mounted() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (dir, none) = (folder.path(), folder.path().join("none"));
    let cases: &[(&str, &Path, &str, &str)] = &[
        ("dir", &file, "Directory", "is not a directory"),
        ("no-dir", &none, "Directory", "is not a directory"),
        ("make-dir", &file, "DirectoryOrCreate", "is not a directory"),
        ("file", dir, "File", "is not a file"),
        ("no-file", &none, "File", "is not a file"),
        ("make-file", dir, "FileOrCreate", "is not a file"),
        ("socket", &file, "Socket", "is not a socket file"),
        ("char", &file, "CharDevice", "is not a character device"),
        ("block", &file, "BlockDevice", "is not a block device"),
    ];
    for (name, path, kind, _) in cases {
        let spec = format!("terminationGracePeriodSeconds: 1, volumes: [{}]", volume("v", path, kind));
        t.hello_pod(name, &spec, "volumeMounts: [{name: v, mountPath: /v}]");
    }
    for (name, path, _, problem) in cases {
        let failed = "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: ";
        event(&t.kubectl, name, &format!("{failed}{} {problem}", path.display()));
        let shown = "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.reason}";
        assert_eq!(t.kubectl.ok(&["get", "pod", name, "-o", shown]), "Pending ContainerCreating", "{name}");
    }
    assert!(!none.exists());
    // It is mounted as soon as it is what it should be.
    std::fs::write(&none, "here now").unwrap();
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/no-file", "--timeout=90s"]);
    assert_eq!(t.kubectl.ok(&["exec", "no-file", "--", "cat", "/v"]), "here now");
}

/// A volume that an administrator has made, and a claim that it is for; both in a class of their own.
fn claimed(t: &Sandbox, name: &str, source: &Value, access: &str) -> String {
    let class = format!("{}-manual", t.namespace);
    let volume = format!("{}-{name}", t.namespace);
    let mut spec = json!({"storageClassName": class, "capacity": {"storage": "1Mi"}, "accessModes": [access],
        "persistentVolumeReclaimPolicy": "Retain"});
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": spec});
    t.kubectl.apply(&object.to_string());
    claim(t, name, &volume, access);
    volume
}

fn claim(t: &Sandbox, name: &str, volume: &str, access: &str) {
    let spec = json!({"storageClassName": format!("{}-manual", t.namespace), "volumeName": volume,
        "accessModes": [access], "resources": {"requests": {"storage": "1Mi"}}});
    let object = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec});
    t.kubectl.apply(&object.to_string());
}

fn on_node(name: &str) -> Value {
    let expression = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [name]});
    json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}})
}

/// A pod with a claim at `/data`.
fn uses(t: &Sandbox, pod: &str, claim: &str, read_only: bool) {
    let volume = format!("{{name: data, persistentVolumeClaim: {{claimName: {claim}, readOnly: {read_only}}}}}");
    let spec = format!("terminationGracePeriodSeconds: 1, volumes: [{volume}]");
    t.hello_pod(pod, &spec, "volumeMounts: [{name: data, mountPath: /data}]");
}

fn is_ready(t: &Sandbox, pod: &str) {
    t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), "--timeout=60s"]);
}

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

/// A process that appends to a file in its first volume, and goes on when that fails, or ends.
fn filler(goes_on: bool) -> String {
    let again = if goes_on { "(drop {}) (br $again)" } else { "(br_if $again (i32.eqz {}))" };
    let write = "(call $write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 4))";
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "fill")
  (func (export "_start")
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 1) (i64.const 64)
      (i64.const 0) (i32.const 1) (i32.const 0)))
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.const 32768))
    (loop $again {})))"#,
        again.replace("{}", write)
    )
}

/// What a volume in memory holds is its pod's: who writes more than that may have is killed, and a smaller volume is full.
#[test]
fn a_volume_in_memory_counts_as_memory() {
    if !nix::unistd::geteuid().is_root() {
        return println!("skipped: this user may not mount");
    }
    let t = sandbox();
    for (name, goes_on, source, expected) in [
        ("killed", true, "medium: Memory", "OOMKilled/137"),
        ("full", false, "medium: Memory, sizeLimit: 1Mi", "Completed/0"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), wat::parse_str(filler(goes_on)).unwrap()).unwrap();
        let image = format!("localhost/filler-{name}:latest");
        t.cluster.load_image(file.path(), &image);
        t.kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
  - {{name: main, image: '{image}', resources: {{limits: {{memory: 8Mi}}}},
     volumeMounts: [{{name: scratch, mountPath: /scratch}}]}}
  volumes: [{{name: scratch, emptyDir: {{{source}}}}}]
"
        ));
        let ended = ".status.containerStatuses[0].state.terminated";
        let path = format!("jsonpath={{{ended}.reason}}/{{{ended}.exitCode}}");
        eventually(&format!("{name} ends"), || match t.kubectl.ok(&["get", "pod", name, "-o", &path]) {
            told if told == expected => Ok(()),
            told => Err(told),
        });
    }
}
