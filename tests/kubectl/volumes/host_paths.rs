//! Files and directories of the node: host paths of every type, of pods and of PersistentVolumes.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{claimed, event, is_ready, uses};
use crate::sandbox;

fn volume(name: &str, path: &Path, kind: &str) -> String {
    format!("{{name: {name}, hostPath: {{path: {}, type: {kind}}}}}", path.display())
}

/// A disk of this machine, where it shows one.
fn block_device() -> Option<PathBuf> {
    let is_disk = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
    std::fs::read_dir("/dev").unwrap().filter_map(|entry| Some(entry.ok()?.path())).find(is_disk)
}

#[test]
fn files_and_folders_of_the_node_are_mounted_and_made() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "found").unwrap();
    std::fs::write(path("kept"), "kept").unwrap();
    std::fs::create_dir(path("dir")).unwrap();
    std::fs::write(path("dir/in"), "in").unwrap();
    // As files of a node often are.
    std::os::unix::fs::symlink(path("dir/in"), path("link")).unwrap();
    let volumes = [
        volume("dir", &path("dir"), "Directory"),
        volume("link", &path("link"), "File"),
        volume("any-dir", &path("dir"), "''"),
        volume("any-file", &path("file"), "''"),
        volume("any-new", &path("any/new"), "''"),
        volume("file", &path("file"), "File"),
        volume("kept", &path("kept"), "FileOrCreate"),
        volume("new-file", &path("new-file"), "FileOrCreate"),
        volume("new-dir", &path("new/deep"), "DirectoryOrCreate"),
    ];
    let mounts = "volumeMounts: [
        {name: file, mountPath: /etc/file, readOnly: true}, {name: kept, mountPath: /etc/kept},
        {name: new-file, mountPath: /etc/new}, {name: new-dir, mountPath: /dir}, {name: dir, mountPath: /found},
        {name: link, mountPath: /etc/link}, {name: any-dir, mountPath: /any}, {name: any-file, mountPath: /etc/any},
        {name: any-new, mountPath: /any-new}]";
    t.hello_pod("mounts", &format!("terminationGracePeriodSeconds: 1, volumes: [{}]", volumes.join(", ")), mounts);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/mounts", "--timeout=60s"]);
    let files = ["/etc/file", "/etc/kept", "/etc/new", "/found/in", "/etc/link", "/any/in", "/etc/any"];
    let read = [&["exec", "mounts", "--", "cat"][..], &files].concat();
    assert_eq!(t.kubectl.ok(&read), "foundkeptinininfound");
    let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode() & 0o777;
    let made = ["new-file", "new", "new/deep", "any", "any/new"];
    assert_eq!(made.map(mode), [0o644, 0o755, 0o755, 0o755, 0o755]);
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
    let (dir, none, socket) = (folder.path(), folder.path().join("none"), folder.path().join("socket"));
    let _listener = UnixListener::bind(&socket).unwrap();
    let cases: &[(&str, &Path, &str, &str)] = &[
        ("dir", &file, "Directory", "is not a directory"),
        ("no-dir", &none, "Directory", "is not a directory"),
        ("make-dir", &file, "DirectoryOrCreate", "is not a directory"),
        ("file", dir, "File", "is not a file"),
        ("no-file", &none, "File", "is not a file"),
        ("make-file", dir, "FileOrCreate", "is not a file"),
        ("any", &socket, "''", "is neither a directory nor a file"),
        ("socket", &file, "Socket", "is not a socket file"),
        ("no-socket", &none, "Socket", "is not a socket file"),
        ("char", &socket, "CharDevice", "is not a character device"),
        ("no-char", &none, "CharDevice", "is not a character device"),
        ("block", Path::new("/dev/null"), "BlockDevice", "is not a block device"),
        ("no-block", &none, "BlockDevice", "is not a block device"),
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
    // What no component could open is refused even where it is what the manifest says.
    for (name, path, kind) in [
        ("own-socket", Some(socket), "Socket"),
        ("own-char", Some(PathBuf::from("/dev/null")), "CharDevice"),
        ("own-block", block_device(), "BlockDevice"),
    ] {
        let Some(path) = path else { continue };
        let spec = format!("terminationGracePeriodSeconds: 1, volumes: [{}]", volume("v", &path, kind));
        t.hello_pod(name, &spec, "volumeMounts: [{name: v, mountPath: /v}]");
        let why = format!(
            "MountVolume.SetUp failed for volume \"v\" : hostPath type {kind} is not supported on this node: a component \
             can open files and directories alone, and {} is neither",
            path.display()
        );
        event(&t.kubectl, name, &why);
    }
    // It is mounted as soon as it is what it should be.
    std::fs::write(&none, "here now").unwrap();
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/no-file", "--timeout=90s"]);
    assert_eq!(t.kubectl.ok(&["exec", "no-file", "--", "cat", "/v"]), "here now");
}

#[test]
fn a_persistent_volume_can_be_a_file_of_the_node() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "found").unwrap();
    let mut volumes = Vec::new();
    for (name, kind) in [("file", "File"), ("new", "FileOrCreate"), ("any", "")] {
        let source = json!({"hostPath": {"path": path(if name == "any" { "file" } else { name }), "type": kind}});
        volumes.push(claimed(&t, name, &source, "ReadWriteOnce"));
        uses(&t, name, name, false);
        is_ready(&t, name);
        let expected = if name == "new" { "" } else { "found" };
        assert_eq!(t.kubectl.ok(&["exec", name, "--", "cat", "/data"]), expected, "{name}");
    }
    let source = json!({"hostPath": {"path": "/dev/null", "type": "CharDevice"}});
    volumes.push(claimed(&t, "device", &source, "ReadWriteOnce"));
    uses(&t, "device", "device", false);
    event(&t.kubectl, "device", "hostPath type CharDevice is not supported on this node");
    for volume in volumes {
        t.kubectl.ok(&["delete", "pv", &volume, "--wait=false"]);
    }
}
