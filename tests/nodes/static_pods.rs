//! A machine's own folder of pods, while its control plane is away.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use k8w_testkit::{eventually, get, get_ok, guest, node_port_range};

use crate::machines::{Cluster, loopback};

/// Reached by a port of the machine, which needs nobody's leave.
fn manifest(name: &str, port: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers: [{{name: c, image: 'localhost/probe:latest', ports: [{{containerPort: 8080, hostPort: {port}}}]}}]
"
    )
}

/// Writes a file as editors do, so that nobody reads half of it.
fn write(folder: &Path, name: &str, text: &str) {
    let new = folder.join(format!(".{name}.new"));
    fs::write(&new, text).unwrap();
    fs::rename(new, folder.join(name)).unwrap();
}

#[test]
fn static_pods_live_on_while_the_control_plane_is_away() {
    let Some(probe) = guest("probe.wasm") else { return };
    // None that the kernel gives to clients: whoever asks for an API server that is away must not find itself.
    let range = node_port_range();
    let api: u16 = range.split('-').next().unwrap().parse().unwrap();
    let [kept, gone, new] = [1, 2, 3].map(|n| api + n);
    let mut cluster = Cluster::at(api);
    let folder = tempfile::tempdir().unwrap();
    let token = cluster.token();
    let token: Vec<&str> = token.iter().map(String::as_str).collect();
    let node = cluster.node("a", 2, &[&token[..], &["--pod-manifest-path", folder.path().to_str().unwrap()]].concat());
    node.load(&probe.display().to_string(), "localhost/probe:latest");
    write(folder.path(), "kept.yaml", &manifest("kept", kept));
    write(folder.path(), "gone.yaml", &manifest("gone", gone));

    let at = |port: u16| SocketAddr::new(loopback(2).into(), port);
    let runs = |name: &str, port: u16| {
        eventually(&format!("{name} answers"), || match get_ok(at(port), "any", "/env")?.body {
            told if told.contains(&format!("HOSTNAME={name}-a\n")) => Ok(()),
            told => Err(told),
        });
    };
    // Uid, restarts and readiness of its mirror.
    let path = "{.metadata.uid} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
    let path = format!("jsonpath={path}");
    let mirror = |cluster: &Cluster, name: &str, is_wanted: &dyn Fn(u32) -> bool| {
        eventually(&format!("the mirror of {name}"), || {
            let outcome = cluster.kubectl.run(&["get", "pod", &format!("{name}-a"), "-o", &path]);
            let parts: Vec<&str> = outcome.stdout.split(' ').collect();
            match parts[..] {
                [uid, restarts, "true"] if is_wanted(restarts.parse().unwrap()) => Ok(uid.to_owned()),
                _ => Err(outcome.stdout + &outcome.stderr),
            }
        })
    };
    runs("kept", kept);
    runs("gone", gone);
    let before = mirror(&cluster, "kept", &|restarts| restarts == 0);
    mirror(&cluster, "gone", &|restarts| restarts == 0);

    let status = cluster.process.terminate();
    assert!(status.success(), "{}", cluster.process.stderr());
    assert!(!cluster.kubectl.run(&["get", "nodes"]).success, "nobody is there to ask");
    runs("kept", kept);
    // So many traps are the container's end. The log of its next attempt is a file of its own.
    let logs = node.data.join("node/logs");
    let is_restarted = || {
        let mut pods = fs::read_dir(&logs).unwrap().map(|pod| pod.unwrap());
        let pod = pods.find(|pod| pod.file_name().to_string_lossy().starts_with("default_kept-a_"));
        pod.is_some_and(|pod| pod.path().join("c/1.log").exists())
    };
    eventually("the container is started again", || {
        let answer = get(at(kept), "any", "/trap");
        if is_restarted() { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    runs("kept", kept);
    write(folder.path(), "new.yaml", &manifest("new", new));
    runs("new", new);
    fs::remove_file(folder.path().join("gone.yaml")).unwrap();
    eventually("a pod ends with its file", || match get(at(gone), "any", "/env") {
        Err(_) => Ok(()),
        Ok(answer) => Err(format!("{answer:?}")),
    });

    cluster.resume(api);
    assert_eq!(mirror(&cluster, "kept", &|restarts| restarts > 0), before, "it is the same mirror");
    mirror(&cluster, "new", &|restarts| restarts == 0);
    eventually("a mirror ends with its pod", || {
        match cluster.kubectl.run(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]) {
            outcome if outcome.stdout == "kept-a new-a" => Ok(()),
            outcome => Err(outcome.stdout + &outcome.stderr),
        }
    });
    for name in ["kept-a", "new-a"] {
        eventually("commands run in it", || match cluster.kubectl.run(&["exec", name, "--", "echo", name]) {
            outcome if outcome.stdout == format!("{name}\n") => Ok(()),
            outcome => Err(outcome.stderr),
        });
    }
    runs("kept", kept);
    runs("new", new);
}
