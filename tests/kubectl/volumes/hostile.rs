//! Guests that mean harm, as pods: what lies beside a volume is out of their reach, whatever brings the volume.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use tempfile::TempDir;

use super::is_ready;
use crate::{HELLO, Sandbox, guest, sandbox};

const SECRET: &str = "the-secret";

/// A folder of this machine with a volume in it, a secret beside that, and links of every kind which lead there.
struct Trap {
    folder: TempDir,
    /// What is neither a file nor a directory, as far as this user may make it.
    special: Vec<&'static str>,
}

impl Trap {
    fn new() -> Self {
        let mut trap = Trap { folder: tempfile::tempdir().unwrap(), special: vec!["to-pipe", "pipe", "socket"] };
        let (volume, outside) = (trap.path("volume"), trap.path("outside"));
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(volume.join("inside"), "inside").unwrap();
        std::fs::write(outside.join("secret"), SECRET).unwrap();
        std::fs::write(outside.join("kept"), "kept").unwrap();
        let link = |to: &Path, name: &str| symlink(to, volume.join(name)).unwrap();
        link(&outside.join("secret"), "absolute");
        for (to, name) in [
            ("../outside/secret", "relative"),
            ("../outside", "directory"),
            ("directory", "chain"),
            ("..", "up"),
            ("/proc/self/root", "magic"),
            ("/dev/null", "device"),
            ("pipe", "to-pipe"),
        ] {
            link(Path::new(to), name);
        }
        mkfifo(&volume.join("pipe"), Mode::S_IRWXU).unwrap();
        // It stays when its listener is gone.
        drop(UnixListener::bind(volume.join("socket")).unwrap());
        // Zeros without end, and a disk.
        for (name, kind, number) in
            [("character", SFlag::S_IFCHR, makedev(1, 5)), ("block", SFlag::S_IFBLK, makedev(7, 0))]
        {
            if mknod(&volume.join(name), kind, Mode::S_IRWXU, number).is_ok() {
                trap.special.push(name);
            }
        }
        trap
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What lies beside the volume is as it was.
    fn check(&self) {
        let names = |folder: &Path| {
            let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.folder.path()), ["outside", "volume"]);
        assert_eq!(names(&self.path("outside")), ["kept", "secret"]);
        let read = |name: &str| std::fs::read_to_string(self.path(name)).unwrap();
        assert_eq!(["outside/secret", "outside/kept"].map(read), [SECRET, "kept"]);
    }
}

/// Guests of preview 1, WASI 0.2 and WASI 0.3 that make the same attempts; nothing where nobody has built them.
fn guests(t: &Sandbox) -> Vec<(&'static str, String)> {
    let mut images = Vec::new();
    for name in ["hostile", "hostile-p2", "hostile-p3"] {
        let Some(file) = guest(&format!("{name}.wasm")) else { return Vec::new() };
        let image = format!("localhost/{name}:latest");
        t.cluster.load_image(&file, &image);
        images.push((name, image));
    }
    images
}

/// What a guest said is no secret, and nothing outside of its volume came of what it did. In `/dev` and `/etc` a process has files
/// of its own.
fn check_words(said: &str) {
    assert!(!said.contains(SECRET) && !said.contains("root:x"), "{said}");
    let outside = ["/proc", "/outside", "/data/proc", "/data/..", "..", "/data/./..", "/data//.."];
    for line in said.lines().filter(|line| line.contains(": Ok(") && !line.starts_with("symlink ")) {
        let (what, path) = line.split_once(' ').unwrap();
        let is_read = what == "read" && (path.starts_with("/dev") || path.starts_with("/etc"));
        assert!(!is_read && !outside.iter().any(|outside| path.starts_with(outside)), "{line}");
    }
}

/// A pod whose guests make their attempts one after another, in a volume `data`; then a server begins, to be asked what is left.
fn attempts(name: &str, image: &str, volumes: &str, mount: &str, kept: &str, attempts: &[&str]) -> String {
    let attempt = |attempt: &&str| {
        format!("{{name: {attempt}, image: '{image}', args: [{attempt}], volumeMounts: [{{name: data, {mount}}}]}}")
    };
    let attempts: Vec<_> = attempts.iter().map(attempt).collect();
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  volumes: [{volumes}]
  initContainers: [{}]
  containers: [{{name: after, image: '{HELLO}', ports: [{{containerPort: 8080}}], volumeMounts: [{kept}]}}]
",
        attempts.join(", ")
    )
}

fn said(t: &Sandbox, pod: &str, container: &str) -> String {
    t.kubectl.ok(&["logs", pod, "-c", container])
}

#[test]
fn nothing_beside_a_host_path_or_a_part_of_one_is_read_or_changed() {
    let t = sandbox();
    t.hello_image();
    let (mut pods, mut traps) = (String::new(), Vec::new());
    for (guest, image) in guests(&t) {
        for (kind, path, mount) in
            [("whole", "volume", "mountPath: /data"), ("part", "", "mountPath: /data, subPath: volume")]
        {
            let (trap, name) = (Trap::new(), format!("{guest}-{kind}"));
            let volume = format!("{{name: data, hostPath: {{path: {}}}}}", trap.path(path).display());
            pods += &attempts(&name, &image, &volume, mount, "", &["paths", "links", "special"]);
            traps.push((name, trap));
        }
        let volume = "{name: data, hostPath: {path: /proc/self}}";
        pods += &attempts(&format!("{guest}-proc"), &image, volume, "mountPath: /data, readOnly: true", "", &["links"]);
    }
    if traps.is_empty() {
        return;
    }
    t.kubectl.apply(&pods);
    for (name, trap) in traps {
        is_ready(&t, &name);
        trap.check();
        for attempt in ["paths", "links"] {
            check_words(&said(&t, &name, attempt));
        }
        assert!(said(&t, &name, "links").contains("\nnested /data/a: Ok(())\n"), "{name} may write to its own volume");
        let told = said(&t, &name, "special");
        for name in trap.special {
            for how in ["read", "list", "write", "append", "truncate"] {
                let line = format!("{how} /data/{name}: Err(\"not-permitted\")\n");
                assert!(told.contains(&line), "{line} is not in {told}");
            }
        }
    }
    for (guest, _) in guests(&t) {
        let name = format!("{guest}-proc");
        is_ready(&t, &name);
        check_words(&said(&t, &name, "links"));
    }
}

/// The pod's own Secret lies beside its other volumes, in a place that the guests guess right.
#[test]
fn nothing_beside_an_empty_dir_or_a_config_map_is_read_or_changed() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.ok(&["create", "secret", "generic", "outside", &format!("--from-literal=secret={SECRET}")]);
    t.kubectl.ok(&["create", "configmap", "data", "--from-literal=inside=inside"]);
    let mut pods = String::new();
    for (guest, image) in guests(&t) {
        for (kind, source, mount) in [
            ("own", "emptyDir: {}", "mountPath: /data"),
            ("part", "emptyDir: {}", "mountPath: /data, subPath: part/of"),
            ("shown", "configMap: {name: data}", "mountPath: /data"),
        ] {
            let volumes = format!("{{name: data, {source}}}, {{name: outside, secret: {{secretName: outside}}}}");
            let kept = "{name: data, mountPath: /data}, {name: outside, mountPath: /outside}";
            pods += &attempts(&format!("{guest}-{kind}"), &image, &volumes, mount, kept, &["paths", "links"]);
        }
    }
    if pods.is_empty() {
        return;
    }
    t.kubectl.apply(&pods);
    for (guest, _) in guests(&t) {
        for kind in ["own", "part", "shown"] {
            let name = format!("{guest}-{kind}");
            is_ready(&t, &name);
            let exec = |command: &[&str]| t.kubectl.ok(&[&["exec", &name, "--"][..], command].concat());
            assert_eq!(exec(&["cat", "/outside/secret"]), SECRET);
            assert_eq!(exec(&["ls", "/outside"]), "secret\n");
            for attempt in ["paths", "links"] {
                check_words(&said(&t, &name, attempt));
            }
            let links = said(&t, &name, "links");
            let may_write = links.contains("\nnested /data/a: Ok(())\n");
            match kind {
                "shown" => {
                    assert!(!may_write && !links.contains(": Ok(())"), "{links}");
                    assert_eq!(exec(&["ls", "/data"]), "inside\n");
                    assert_eq!(exec(&["cat", "/data/inside"]), "inside");
                }
                "part" => {
                    assert!(may_write, "{links}");
                    assert_eq!(exec(&["ls", "/data"]), "part\n", "nothing is beside the part");
                    assert_eq!(exec(&["ls", "/data/part"]), "of\n");
                }
                _ => assert!(may_write, "{links}"),
            }
        }
    }
}

/// By that name there is nothing to be done with what lies beneath.
#[test]
fn a_file_that_is_mounted_over_one_of_a_volume_keeps_that_out_of_reach() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.ok(&["create", "configmap", "fixed", "--from-literal=fixed=inside"]);
    let folder = tempfile::tempdir().unwrap();
    let open = |guest: &str| folder.path().join(guest);
    let mut traps = Vec::new();
    for (guest, image) in guests(&t) {
        let trap = Trap::new();
        std::fs::write(trap.path("volume/laid"), "beneath").unwrap();
        std::fs::write(open(guest), "inside").unwrap();
        let volumes = format!(
            "{{name: data, hostPath: {{path: {}}}}}, {{name: open, hostPath: {{path: {}}}}}, \
             {{name: fixed, configMap: {{name: fixed}}}}",
            trap.path("volume").display(),
            open(guest).display(),
        );
        let mounts = "mountPath: /data}, {name: open, mountPath: /data/laid}, \
                      {name: fixed, mountPath: /data/sub/fixed, subPath: fixed";
        t.kubectl.apply(&attempts(guest, &image, &volumes, mounts, "", &["laid"]));
        traps.push((guest, trap));
    }
    for (guest, trap) in traps {
        is_ready(&t, guest);
        let told = said(&t, guest, "laid");
        for expected in [
            "laid: read: Ok(\"inside\")",
            "laid: write: Ok(())",
            "laid: rename from: Err(\"busy\")",
            "laid: link from: Err(\"cross-device\")",
            "laid: remove: Err(\"busy\")",
            "sub/fixed: read by a link: Ok(\"inside\")",
            "sub/fixed: write: Err(\"not-permitted\")",
            "sub/fixed: rename to: Err(\"busy\")",
            "sub/fixed: remove: Err(\"busy\")",
        ] {
            assert!(told.lines().any(|line| line == expected), "{guest}: {expected} is not in {told}");
        }
        trap.check();
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        assert_eq!(
            [trap.path("volume/laid"), trap.path("volume/inside"), open(guest)].map(read),
            ["beneath", "inside", "written"]
        );
        assert_eq!(t.kubectl.ok(&["get", "configmap", "fixed", "-o", "jsonpath={.data.fixed}"]), "inside");
    }
}

/// One container turns a name of the volume into a link that leads outside, and back; another uses the name.
#[test]
fn a_name_that_another_container_turns_into_a_link_leads_nowhere() {
    let t = sandbox();
    for (guest, image) in guests(&t) {
        let trap = Trap::new();
        let container = |attempt: &str| {
            format!(
                "{{name: {attempt}, image: '{image}', args: [{attempt}], volumeMounts: [{{name: data, mountPath: /data}}]}}"
            )
        };
        // One that starts in the moment in which the name leads outside may be refused, and is started again.
        t.kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {guest}}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: OnFailure
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  volumes: [{{name: data, hostPath: {{path: {}}}}}]
  containers: [{}, {}]
",
            trap.path("volume").display(),
            container("swap"),
            container("race"),
        ));
        let succeeded = "--for=jsonpath={.status.phase}=Succeeded";
        t.kubectl.ok(&["wait", succeeded, &format!("pod/{guest}"), "--timeout=120s"]);
        let told = said(&t, guest, "race");
        trap.check();
        check_words(&told);
        let met = told.lines().last().unwrap_or_default();
        assert!(
            met.starts_with("read ") && !met.contains("read 0 ") && !met.contains(" refused 0 "),
            "{guest}: {told}"
        );
    }
}
