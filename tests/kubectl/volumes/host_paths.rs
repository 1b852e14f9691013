//! What lies on the node: host paths of every type, of pods and of PersistentVolumes.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
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
    // It is mounted as soon as it is what it should be.
    std::fs::write(&none, "here now").unwrap();
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/no-file", "--timeout=90s"]);
    assert_eq!(t.kubectl.ok(&["exec", "no-file", "--", "cat", "/v"]), "here now");
}

/// A command of preview 1 that says of each of its arguments what it is in its first mount, by WASI's number, and by which error
/// it cannot be opened.
const TELLS: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_filestat_get" (func $stat (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 32) "? ??\n")
  (func $digit (param $at i32) (param $number i32)
    (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10)))))
  (func $length (param $text i32) (result i32)
    (local $end i32)
    (local.set $end (local.get $text))
    (block $ends
      (loop $next
        (br_if $ends (i32.eqz (i32.load8_u (local.get $end))))
        (local.set $end (i32.add (local.get $end) (i32.const 1)))
        (br $next)))
    (i32.sub (local.get $end) (local.get $text)))
  (func (export "_start")
    (local $argument i32) (local $name i32) (local $error i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 256) (i32.const 1024)))
    (i32.store (i32.const 16) (i32.const 32))
    (i32.store (i32.const 20) (i32.const 5))
    (block $ends
      (loop $next
        (local.set $argument (i32.add (local.get $argument) (i32.const 1)))
        (br_if $ends (i32.ge_u (local.get $argument) (i32.load (i32.const 0))))
        (local.set $name (i32.load (i32.add (i32.const 256) (i32.shl (local.get $argument) (i32.const 2)))))
        (if (call $stat (i32.const 3) (i32.const 1) (local.get $name) (call $length (local.get $name)) (i32.const 128))
          (then unreachable))
        (call $digit (i32.const 32) (i32.load8_u (i32.const 144)))
        (local.set $error
          (call $open (i32.const 3) (i32.const 1) (local.get $name) (call $length (local.get $name)) (i32.const 0)
            (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 8)))
        (call $digit (i32.const 34) (i32.div_u (local.get $error) (i32.const 10)))
        (call $digit (i32.const 35) (local.get $error))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 12)))
        (br $next)))))"#;

/// As in Kubernetes they are mounted; but whoever opens a component's files for it opens none of them.
#[test]
fn sockets_and_devices_of_the_node_are_seen_and_not_opened() {
    const NOT_PERMITTED: &str = "63";
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let (file, socket, pipe) = (folder.path().join("file"), folder.path().join("socket"), folder.path().join("pipe"));
    std::fs::write(&file, "text").unwrap();
    let _listener = UnixListener::bind(&socket).unwrap();
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    // WASI's numbers: wasmtime tells of sockets and pipes as of what it does not know.
    let mut special = vec![
        ("socket", socket.clone(), "Socket", 0),
        ("any", socket, "''", 0),
        ("pipe", pipe, "''", 0),
        ("char", PathBuf::from("/dev/zero"), "CharDevice", 2),
    ];
    special.extend(block_device().map(|disk| ("block", disk, "BlockDevice", 1)));
    let volumes = special.iter().map(|(name, path, kind, _)| volume(name, path, kind));
    let volumes: Vec<_> = volumes.chain([volume("file", &file, "File")]).collect();
    let spec =
        format!("terminationGracePeriodSeconds: 1, volumes: [{{name: dir, emptyDir: {{}}}}, {}]", volumes.join(", "));
    let at = |dir: &str| {
        let mounts = special.iter().map(|(name, ..)| format!("{{name: {name}, mountPath: {dir}/{name}}}"));
        mounts.collect::<Vec<_>>().join(", ")
    };
    // In a directory of their own, beside a file, and over files of a volume.
    let mounts = format!(
        "volumeMounts: [{{name: dir, mountPath: /dir}}, {{name: file, mountPath: /own/file}}, {}, {}]",
        at("/dir"),
        at("/own")
    );
    t.hello_pod("sees", &spec, &mounts);
    is_ready(&t, "sees");
    for dir in ["/dir", "/own"] {
        for (name, ..) in &special {
            let path = format!("{dir}/{name}");
            let told = t.kubectl.ok(&["exec", "sees", "--", "stat", &path]);
            assert!(told.contains("special file"), "{told}");
            let read = t.kubectl.run(&["exec", "sees", "--", "cat", &path]);
            assert!(!read.success && read.stderr.contains("Permission denied"), "{path}: {read:?}");
        }
    }
    assert_eq!(t.kubectl.ok(&["exec", "sees", "--", "cat", "/own/file"]), "text");
    let image = t.text_image("tells", TELLS);
    let names: Vec<_> = special.iter().map(|(name, ..)| *name).collect();
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: tells}}
spec: {{
  runtimeClassName: wasmtime, restartPolicy: Never,
  containers: [{{name: tells, image: '{image}', args: [{}],
    volumeMounts: [{{name: dir, mountPath: /dir}}, {}]}}],
  {spec}
  }}
",
        names.join(", "),
        at("/dir")
    ));
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/tells", "--timeout=60s"]);
    let expected: Vec<_> = special.iter().map(|(.., kind)| format!("{kind} {NOT_PERMITTED}\n")).collect();
    assert_eq!(t.kubectl.ok(&["logs", "tells"]), expected.concat());
}

#[test]
fn a_persistent_volume_can_be_a_file_of_the_node() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("file"), "found").unwrap();
    let mut volumes = Vec::new();
    for (name, path, kind, expected) in [
        ("file", path("file"), "File", Some("found")),
        ("new", path("new"), "FileOrCreate", Some("")),
        ("any", path("file"), "", Some("found")),
        ("device", "/dev/null".into(), "CharDevice", None),
    ] {
        let source = json!({"hostPath": {"path": path, "type": kind}});
        volumes.push(claimed(&t, name, &source, "ReadWriteOnce"));
        uses(&t, name, name, false);
        is_ready(&t, name);
        let read = t.kubectl.run(&["exec", name, "--", "cat", "/data"]);
        assert_eq!(read.success.then_some(read.stdout.as_str()), expected, "{name}: {}", read.stderr);
    }
    for volume in volumes {
        t.kubectl.ok(&["delete", "pv", &volume, "--wait=false"]);
    }
}
