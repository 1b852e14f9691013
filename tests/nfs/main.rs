//! Volumes of a real NFS server, each test in a network namespace of its own, in which the server has its usual ports.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::fs;
use std::path::Path;

use k8w_testkit::{
    ClusterOptions, Kubectl, NfsServer, Process, TestCluster, eventually, kernel_has_nfs, run_in_namespaces,
};

const BINARY: &str = env!("CARGO_BIN_EXE_k8w");

fn main() {
    run_in_namespaces(&[
        ("pods_share_a_servers_folder", pods_share_a_servers_folder),
        ("a_silent_server_keeps_nobody", a_silent_server_keeps_nobody),
        ("a_killed_node_leaves_nothing_and_mounts_anew", a_killed_node_leaves_nothing_and_mounts_anew),
        ("without_privilege_a_pod_says_so", without_privilege_a_pod_says_so),
    ])
}

fn start(options: ClusterOptions) -> TestCluster {
    let cluster = TestCluster::start(BINARY, options);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for name in ["cli", "hello"] {
        cluster.load_image(&examples.join(format!("{name}/{name}.wasm")), &format!("localhost/{name}:latest"));
    }
    cluster
}

/// A volume and the claim that has it.
fn claim(name: &str, server: &NfsServer, read_only: bool, options: &str) -> String {
    let path = server.export();
    format!(
        "
---
apiVersion: v1
kind: PersistentVolume
metadata: {{ name: {name} }}
spec:
  capacity: {{ storage: 1Gi }}
  accessModes: [ReadWriteMany]
  storageClassName: ''
  mountOptions: [{options}]
  claimRef: {{ namespace: default, name: {name} }}
  nfs: {{ server: 127.0.0.1, path: {}, readOnly: {read_only} }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{ name: {name} }}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: ''
  volumeName: {name}
  resources: {{ requests: {{ storage: 1Gi }} }}
",
        path.display()
    )
}

/// A pod that counts the words of `/data/input` and writes them to `/data/NAME`.
fn counter(name: &str, volume: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
    - name: c
      image: localhost/cli:latest
      imagePullPolicy: Never
      env: [{{ name: INPUT, value: /data/input }}, {{ name: OUTPUT, value: /data/{name} }}]
      volumeMounts: [{{ name: data, mountPath: /data }}]
  volumes: [{{ name: data, {volume} }}]
"
    )
}

/// A pod that stays, with a volume at `/data`.
fn server_pod(name: &str, volume: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  runtimeClassName: wasmtime
  containers:
    - name: c
      image: localhost/hello:latest
      imagePullPolicy: Never
      volumeMounts: [{{ name: data, mountPath: /data }}, {{ name: data, mountPath: /deep, subPath: made/here }}]
  volumes: [{{ name: data, {volume} }}]
"
    )
}

fn claimed(name: &str) -> String {
    format!("persistentVolumeClaim: {{ claimName: {name} }}")
}

fn inline(server: &NfsServer, read_only: bool) -> String {
    format!("nfs: {{ server: 127.0.0.1, path: {}, readOnly: {read_only} }}", server.export().display())
}

fn phase(kubectl: &Kubectl, pod: &str, wanted: &str) {
    eventually(&format!("pod {pod} is {wanted}"), || {
        match kubectl.ok(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]) {
            phase if phase == wanted => Ok(()),
            phase => Err(phase + &kubectl.ok(&["describe", "pod", pod])),
        }
    });
}

fn ready(kubectl: &Kubectl, pod: &str) {
    kubectl.ok(&["wait", "pod", pod, "--for=condition=Ready", "--timeout=60s"]);
}

/// Waits for an event that the pod's volume cannot be mounted, and says why.
fn failed_mount(kubectl: &Kubectl, pod: &str, why: &str) {
    let selector = format!("involvedObject.name={pod},reason=FailedMount");
    eventually("an event says why", || {
        let said = kubectl.ok(&["get", "events", "--field-selector", &selector, "-o", "jsonpath={.items[*].message}"]);
        if said.contains(why) { Ok(()) } else { Err(said) }
    });
}

/// What is mounted beneath a cluster's data.
fn left(cluster: &TestCluster) -> Vec<String> {
    let data = cluster.data_dir().display().to_string();
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    mounts.lines().filter(|line| line.contains(&data)).map(str::to_owned).collect()
}

fn pods_share_a_servers_folder() {
    let Some(server) = NfsServer::start() else { return };
    fs::write(server.export().join("input"), "one two three").unwrap();
    let mut cluster = start(ClusterOptions::default());
    let kubectl = cluster.kubectl().in_namespace("default");
    kubectl.apply(&[counter("inline", &inline(&server, false)), server_pod("reader", &claimed("kept"))].concat());
    kubectl.apply(&claim("kept", &server, false, "timeo=50, nfsvers=3"));
    phase(&kubectl, "inline", "Succeeded");
    assert_eq!(fs::read_to_string(server.export().join("inline")).unwrap(), "3\n");
    ready(&kubectl, "reader");
    assert_eq!(kubectl.ok(&["exec", "reader", "--", "cat", "/data/inline"]), "3\n");
    assert!(server.export().join("made/here").is_dir(), "a subPath is made");

    kubectl.apply(&claim("read", &server, true, ""));
    for (name, volume) in [("closed", inline(&server, true)), ("read", claimed("read"))] {
        kubectl.apply(&counter(name, &volume));
        phase(&kubectl, name, "Failed");
        let exit = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        assert_eq!(kubectl.ok(&["get", "pod", name, "-o", exit]), "1");
        assert!(!server.export().join(name).exists());
    }

    kubectl.apply(&claim("hard", &server, false, "hard"));
    kubectl.apply(&server_pod("hard", &claimed("hard")));
    failed_mount(&kubectl, "hard", "mount option \"hard\" is not supported");
    let none = format!("nfs: {{ server: 127.0.0.1, path: {}/none }}", server.export().display());
    kubectl.apply(&server_pod("none", &none));
    failed_mount(&kubectl, "none", "MountVolume.SetUp failed for volume \"data\" : mounting 127.0.0.1:");
    if kernel_has_nfs() {
        every_version_can_be_had(&cluster, &kubectl, &server);
    } else {
        kubectl.apply(&claim("newer", &server, false, "nfsvers=4.2"));
        kubectl.apply(&server_pod("newer", &claimed("newer")));
        let why = "mount option \"nfsvers=4.2\" is not supported without the kernel's NFS";
        failed_mount(&kubectl, "newer", why);
    }

    assert!(!left(&cluster).is_empty());
    cluster.stop();
    assert_eq!(left(&cluster), Vec::<String>::new());
    assert!(server.export().join("inline").exists(), "what a server has stays");
}

/// By the kernel, which has each that it is asked for, and by itself the one that gives up a silent server.
fn every_version_can_be_had(cluster: &TestCluster, kubectl: &Kubectl, server: &NfsServer) {
    let versions = [
        ("any", "", "nfs", "vers=3"),
        ("four-0", "nfsvers=4.0", "nfs4", "vers=4.0"),
        ("four-1", "nfsvers=4.1", "nfs4", "vers=4.1"),
        ("four", "nfsvers=4", "nfs4", "vers=4.2"),
    ];
    let pods =
        versions.map(|(name, option, ..)| claim(name, server, false, option) + &server_pod(name, &claimed(name)));
    kubectl.apply(&pods.concat());
    for (name, option, kind, version) in versions {
        ready(kubectl, name);
        assert_eq!(kubectl.ok(&["exec", name, "--", "cat", "/data/inline"]), "3\n");
        let uid = kubectl.ok(&["get", "pod", name, "-o", "jsonpath={.metadata.uid}"]);
        let mounted: Vec<String> = left(cluster).into_iter().filter(|line| line.contains(&uid)).collect();
        let wanted = [format!(" {kind} "), format!(",{version},"), ",soft,".to_owned()];
        let is_so = mounted.len() == 1 && wanted.iter().all(|wanted| mounted[0].contains(wanted));
        assert!(is_so, "{option:?}: {mounted:?}");
    }
}

fn a_silent_server_keeps_nobody() {
    let Some(server) = NfsServer::start() else { return };
    fs::write(server.export().join("input"), "one two three").unwrap();
    let mut cluster = start(ClusterOptions::default());
    let kubectl = cluster.kubectl().in_namespace("default");
    let reader = server_pod("reader", &claimed("kept"));
    kubectl.apply(&[claim("kept", &server, false, "timeo=5, retrans=1"), reader].concat());
    ready(&kubectl, "reader");
    assert_eq!(kubectl.ok(&["exec", "reader", "--", "cat", "/data/input"]), "one two three");
    server.freeze();
    let said = kubectl.fails(&["exec", "reader", "--", "ls", "/data"]);
    // The kernel calls a root stale that it cannot ask for.
    let known = ["timed out", "Input/output error", "Stale file handle"];
    assert!(known.iter().any(|why| said.contains(why)), "{said}");
    kubectl.apply(&server_pod("late", &claimed("kept")));
    failed_mount(&kubectl, "late", "the server does not answer");
    for pod in ["reader", "late"] {
        kubectl.ok(&["delete", "pod", pod, "--timeout=60s"]);
    }
    nothing_is_mounted(&cluster);
    cluster.stop();
}

fn nothing_is_mounted(cluster: &TestCluster) {
    eventually("nothing is mounted", || match left(cluster) {
        none if none.is_empty() => Ok(()),
        left => Err(left.join("\n")),
    });
}

/// Also when a server is silent, and somebody waits for it.
fn a_killed_node_leaves_nothing_and_mounts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let options = || ClusterOptions { data_dir: Some(folder.path().join("data")), ..ClusterOptions::default() };
    let Some(mut server) = NfsServer::start() else { return };
    fs::write(server.export().join("input"), "one two three").unwrap();
    let mut cluster = start(options());
    let kubectl = cluster.kubectl().in_namespace("default");
    kubectl.apply(&claim("kept", &server, false, "timeo=20, retrans=1, actimeo=0"));
    for pod in ["reader", "deleted"] {
        kubectl.apply(&server_pod(pod, &claimed("kept")));
        ready(&kubectl, pod);
    }
    assert_eq!(left(&cluster).len(), 2);
    server.freeze();
    std::thread::scope(|scope| {
        scope.spawn(|| kubectl.run(&["exec", "reader", "--", "ls", "/data"]));
        eventually("a thread waits for the server", || {
            let is_it =
                |wait: &String| wait.contains("fuse") || wait == "request_wait_answer" || wait.starts_with("rpc_");
            match waiting(cluster.process_id()) {
                threads if threads.iter().any(is_it) => Ok(()),
                threads => Err(format!("{threads:?}")),
            }
        });
        cluster.kill();
    });
    if kernel_has_nfs() {
        // What the kernel has mounted is nobody's process; the node finds it again.
        assert_eq!(left(&cluster).len(), 2);
    } else {
        nothing_is_mounted(&cluster);
    }
    drop(cluster);
    server.kill();
    server.restart();

    let mut cluster = TestCluster::start(BINARY, options());
    let kubectl = cluster.kubectl().in_namespace("default");
    eventually("the volume is there again", || {
        let read = kubectl.run(&["exec", "reader", "--", "cat", "/data/input"]);
        if read.stdout == "one two three" { Ok(()) } else { Err(read.stderr) }
    });
    kubectl.ok(&["delete", "pod", "deleted", "--timeout=60s"]);
    cluster.stop();
    assert_eq!(left(&cluster), Vec::<String>::new());
    assert!(server.export().join("input").exists(), "what a server has stays");
}

/// What the threads of a process wait for in the kernel.
fn waiting(process: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("wchan")).ok()).collect()
}

fn without_privilege_a_pod_says_so() {
    let Some(server) = NfsServer::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let arguments = ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin", BINARY, "up", "--kernel-network", "off"];
    let ports = ["--port", "0", "--ingress-http-port", "0", "--ingress-https-port", "0", "--kubelet-port", "0"];
    let [data, kubeconfig] = ["data", "kubeconfig"].map(|name| path(name).display().to_string());
    let paths = ["--data-dir", &data, "--kubeconfig", &kubeconfig];
    let arguments: Vec<String> = [&arguments[..], &ports, &paths].concat().into_iter().map(String::from).collect();
    let mut process = Process::start("setpriv", &arguments, &path("out"), &path("err")).unwrap();
    process.line("Ingress for HTTP: ");
    let kubectl = Kubectl::new(&path("kubeconfig"), &path("cache"));
    eventually("the default service account", || {
        let outcome = kubectl.run(&["get", "serviceaccount", "default"]);
        if outcome.success { Ok(()) } else { Err(outcome.stderr) }
    });
    kubectl.apply(&server_pod("reader", &inline(&server, false)));
    failed_mount(&kubectl, "reader", "which takes CAP_SYS_ADMIN or the program fusermount3");
    kubectl.apply(&server_pod("scratch", "emptyDir: {medium: Memory}"));
    failed_mount(&kubectl, "scratch", "which takes CAP_SYS_ADMIN: Operation not permitted");
}
