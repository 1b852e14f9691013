//! Nodes that are too small to compile what they run.

use std::path::Path;

use k8w_testkit::{Outcome, Process, eventually};

use crate::machines::Cluster;
use crate::pod;

const PATH: &str = "/k8w.dev/machine-code";

/// How many pages the children of a process have touched that it has waited for (proc_pid_stat(5): cminflt): none, if it never
/// had any.
fn pages_of_children(process: &Process) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.id())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(8).unwrap().parse().unwrap()
}

/// What is in a folder.
fn files(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read(file.unwrap().path()).unwrap());
    files.collect()
}

/// A pod that runs on its node and answers by its component.
fn runs(cluster: &Cluster, name: &str, node: &str) {
    cluster.kubectl.apply(&pod(name, "hello", node));
    cluster.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
    let proxied = format!("/api/v1/namespaces/default/pods/{name}:8080/proxy/p");
    assert_eq!(cluster.kubectl.ok(&["get", "--raw", &proxied]), format!("Hello from {name}: you asked for /p\n"));
}

/// Waits until a pod's container does for a reason that begins like this.
fn waits(cluster: &Cluster, name: &str, expected: &str) {
    let waiting =
        "{.status.containerStatuses[0].state.waiting.reason}: {.status.containerStatuses[0].state.waiting.message}";
    eventually("its status says why", || match cluster.jsonpath(&["pod", name], waiting) {
        shown if shown.starts_with(expected) => Ok(()),
        shown => Err(shown),
    });
}

#[test]
fn a_node_that_does_not_compile_runs_what_its_control_plane_has_compiled() {
    let cluster = Cluster::start();
    let token = cluster.token();
    let node = |name, last, compile| {
        let join: Vec<&str> = token.iter().map(String::as_str).chain([compile]).collect();
        let node = cluster.node(name, last, &join);
        node.load("hello/hello.wasm", "localhost/hello:latest");
        node
    };
    let own = node("own", 2, "--compile=here");
    assert!(own.process.stderr().contains("\nCompiler: on this machine\n"), "{}", own.process.stderr());
    runs(&cluster, "on-own", "own");
    assert_ne!(pages_of_children(&own.process), 0);
    assert_eq!(pages_of_children(&cluster.process), 0);

    let small = node("small", 3, "--compile=control-plane");
    assert!(small.process.stderr().contains("\nCompiler: the control plane's\n"), "{}", small.process.stderr());
    runs(&cluster, "on-small", "small");
    assert_eq!(pages_of_children(&small.process), 0);
    let compiled = pages_of_children(&cluster.process);
    assert_ne!(compiled, 0);
    let (kept, used) = (cluster.folder.path().join("server/compiled"), small.data.join("wasm/compiled"));
    assert_eq!(files(&kept), files(&used));
    assert_eq!(files(&kept).len(), 1);

    // It is there for others, too.
    let other = node("other", 4, "--compile=control-plane");
    runs(&cluster, "on-other", "other");
    assert_eq!(pages_of_children(&other.process), 0);
    assert_eq!(pages_of_children(&cluster.process), compiled);
}

#[test]
fn what_is_not_compiled_is_told_why() {
    let cluster = Cluster::start();
    let token = cluster.token();
    let join: Vec<&str> = token.iter().map(String::as_str).chain(["--compile=control-plane"]).collect();
    let node = cluster.node("small", 2, &join);
    node.load("hello/hello.wasm", "localhost/hello:latest");
    let broken = cluster.folder.path().join("broken.wasm");
    std::fs::write(&broken, b"\0asm\x0d\0\x01\0\xff").unwrap();
    node.load(&broken.display().to_string(), "localhost/broken:latest");

    // The component's own fault is told as everywhere.
    cluster.kubectl.apply(&pod("broken", "broken", "small"));
    waits(&cluster, "broken", "CreateContainerError: image is not a valid WebAssembly component or module: ");

    // So is a refusal.
    cluster.kubectl.ok(&["delete", "clusterrolebinding", "k8w:machine-code"]);
    cluster.kubectl.apply(&pod("hello", "hello", "small"));
    let forbidden = "CreateContainerError: no machine code from the control plane: forbidden: User \"system:node:small\" cannot \
                     post path \"/k8w.dev/machine-code\"";
    waits(&cluster, "hello", forbidden);
}

#[test]
fn only_nodes_ask_for_machine_code_and_only_for_what_there_is() {
    let cluster = Cluster::start();
    let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello/hello.wasm").display().to_string();
    let query = format!(
        "digest=sha256:00&wasmtime=47.0.1&target={}-unknown-linux-gnu&features=&memoryBytes=4294967296&stackBytes=1048576\
         &wasiP3=false&fingerprint=00",
        std::env::consts::ARCH
    );
    let ask = |query: &str, user: &[&str]| {
        let path = format!("{PATH}?{query}");
        let Outcome { success, stderr, .. } =
            cluster.kubectl.run(&[&["create", "--raw", &path, "-f", &component], user].concat());
        assert!(!success, "{stderr}");
        stderr.lines().last().unwrap_or_default().to_owned()
    };
    let jane = ask(&query, &["--as=jane"]);
    assert!(jane.starts_with("Error from server (Forbidden): "), "{jane}");
    assert!(jane.contains(&format!("User \"jane\" cannot post path \"{PATH}\"")), "{jane}");
    let node = ["--as=system:node:a", "--as-group=system:nodes"];
    let refused = ask(&query, &node);
    let ours = refused.split("the control plane has wasmtime ").nth(1).unwrap_or_else(|| panic!("{refused}"));
    assert!(ours.contains(", and the node 47.0.1; run the same k8w on machines alike"), "{refused}");
    let current = query.replace("47.0.1", ours.split(',').next().unwrap());
    let refused = ask(&current.replace(std::env::consts::ARCH, "s390x"), &node);
    assert!(refused.contains(", and the node needs code for s390x-unknown-linux-gnu"), "{refused}");
    let refused = ask(&current, &node);
    assert!(refused.contains("the control plane sets its compiler otherwise than the node"), "{refused}");
    let refused = ask("digest=sha256:00", &node);
    assert!(refused.starts_with("Error from server (BadRequest): "), "{refused}");
    let got = cluster.kubectl.run(&["get", "--raw", PATH]);
    assert!(got.stderr.contains("the server does not allow this method"), "{}", got.stderr);
}
