//! `k8w up` as a user meets it: starting, stopping, coming back, and refusing in one clear sentence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;

use k8w_testkit::{ClusterOptions, TestCluster, eventually, get, get_ok, run, send};

const BINARY: &str = env!("CARGO_BIN_EXE_k8w");

fn repo(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn start(options: ClusterOptions) -> TestCluster {
    TestCluster::start(BINARY, options)
}

/// Standard error of an `up` that must not start.
fn refusal(arguments: &[&str]) -> String {
    let outcome = run(BINARY, &[&["up"], arguments].concat());
    assert!(!outcome.success, "k8w up {arguments:?} started");
    let errors: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("not one error: {}", outcome.stderr) };
    assert!(!outcome.stderr.contains("WARN"), "{}", outcome.stderr);
    error.to_owned()
}

/// An `up` whose folders and ports disturb nobody, but for `arguments`.
fn refusal_in(folder: &Path, arguments: &[&str]) -> String {
    let data_dir = folder.join("data").display().to_string();
    let ports = ["--ingress-http-port", "0", "--ingress-https-port", "0", "--kubelet-port", "0"];
    let free = [&["--data-dir", &data_dir][..], &ports].concat();
    refusal(&[&free[..], arguments].concat())
}

#[test]
fn a_folder_is_served_and_its_urls_answer() {
    let cluster = start(ClusterOptions { dir: Some(repo("examples/hello")), ..ClusterOptions::default() });
    let kubectl = cluster.kubectl();
    let line = kubectl.ok(&["get", "deployment", "hello", "--no-headers"]);
    assert_eq!(line.split_whitespace().nth(1), Some("3/3"), "{line}");
    let managers = ["get", "pods,deployments", "-o", "jsonpath={.items[*].metadata.managedFields[*].manager}"];
    let managers = kubectl.ok(&managers);
    for manager in ["k8w-up", "kube-controller-manager", "kubelet"] {
        assert!(managers.contains(manager) && !managers.contains("unknown"), "{managers}");
    }
    // How many components can be alive, and what bounds them.
    let mappings: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
    let printed = cluster.stderr();
    let instances = k8w_testkit::line(&printed, "Instances: at most ").unwrap();
    let (alive, why) = instances.split_once(" alive").unwrap();
    let by_mappings = format!(", (vm.max_map_count {mappings} - ");
    assert!(why.is_empty() || why.starts_with(&by_mappings) || why.contains("address space"), "{instances}");
    let published = ["get", "nodes", "-o", r"jsonpath={.items[0].status.allocatable.k8w\.dev/instances}"];
    assert_eq!(kubectl.ok(&published), alive, "the node publishes the same");
    let urls = eventually("the URLs are printed", || match cluster.stdout() {
        urls if urls.lines().count() == 2 => Ok(urls),
        other => Err(other),
    });
    let port = cluster.ingress_http().port();
    assert!(urls.contains(&format!("http://hello.localhost:{port}/\n")), "{urls}");
    let answer = get(cluster.ingress_http(), "hello.localhost", "/a/b?c").unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with("Hello from hello-"), "{answer:?}");
    assert!(answer.body.ends_with("you asked for /a/b?c\n"), "{answer:?}");
    let node_port = urls.lines().find_map(|url| url.strip_prefix("http://127.0.0.1:")).unwrap();
    let address = format!("127.0.0.1:{}", node_port.trim_end_matches('/')).parse().unwrap();
    assert_eq!(get(address, "localhost", "/").unwrap().status, 200);
    assert_eq!(get(cluster.ingress_http(), "unknown.localhost", "/").unwrap().status, 404);
}

#[test]
fn at_an_address_of_its_own_a_name_of_localhost_is_told_with_it() {
    let arguments = ["--address", "127.0.0.2"].map(String::from).to_vec();
    let dir = Some(repo("examples/hello"));
    let cluster = start(ClusterOptions { dir, arguments, ..ClusterOptions::default() });
    let ingress = cluster.ingress_http();
    let port = ingress.port();
    let how = format!("Reached by: curl --resolve hello.localhost:{port}:127.0.0.2 http://hello.localhost:{port}/\n");
    eventually("it says how", || if cluster.stderr().contains(&how) { Ok(()) } else { Err(cluster.stderr()) });
    let url = eventually("the other URL is printed", || match cluster.stdout() {
        url if url.lines().count() == 1 => Ok(url),
        other => Err(other),
    });
    let address = url.trim_end().strip_prefix("http://").and_then(|url| url.strip_suffix('/')).unwrap();
    for at in [ingress, address.parse().unwrap()] {
        assert_eq!(get(at, "hello.localhost", "/").unwrap().status, 200);
    }
}

#[test]
fn the_ingress_takes_bodies_up_to_the_bound_it_was_given() {
    let arguments = ["--ingress-max-body-bytes", "10", "--ingress-timeout-seconds", "300"].map(String::from).to_vec();
    let dir = Some(repo("examples/hello"));
    let cluster = start(ClusterOptions { dir, arguments, ..ClusterOptions::default() });
    let ingress = cluster.ingress_http();
    eventually("hello answers", || get_ok(ingress, "hello.localhost", "/"));
    let post = |body: &[u8]| send(ingress, "POST", "/", &[("host", "hello.localhost")], body).unwrap();
    assert_eq!(post(b"0123456789").status, 200);
    let refused = post(b"0123456789a");
    assert_eq!((refused.status, &*refused.body), (413, "the request's body is larger than 10 bytes\n"));
}

#[test]
fn components_reach_each_other_by_service_name() {
    let cluster = start(ClusterOptions { dir: Some(repo("examples/chain")), ..ClusterOptions::default() });
    let answer = get(cluster.ingress_http(), "chain.localhost", "/hop").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.starts_with("front asked, back-"), "{answer:?}");
    assert!(answer.body.ends_with("heard /hop\n"), "{answer:?}");
}

#[test]
fn a_node_port_in_use_is_told_on_its_service_and_taken_when_it_is_free() {
    let cluster = start(ClusterOptions { dir: Some(repo("examples/hello")), ..ClusterOptions::default() });
    let kubectl = cluster.kubectl();
    let port = kubectl.ok(&["get", "service", "hello", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let address: std::net::SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    kubectl.ok(&["patch", "service", "hello", "-p", "{\"spec\": {\"type\": \"ClusterIP\"}}"]);
    let taken = eventually("the port is given back", || TcpListener::bind(address).map_err(|error| error.to_string()));
    let patch =
        format!("{{\"spec\": {{\"type\": \"NodePort\", \"ports\": [{{\"port\": 80, \"nodePort\": {port}}}]}}}}");
    kubectl.ok(&["patch", "service", "hello", "-p", &patch]);
    let described = eventually("the service says so", || {
        let described = kubectl.ok(&["describe", "service", "hello"]);
        if described.contains("FailedToOpenNodePort") { Ok(described) } else { Err(described) }
    });
    assert!(described.contains(&format!("Node port {port}/TCP cannot be opened on 127.0.0.1: Address already in use")));
    drop(taken);
    eventually("the port answers", || get_ok(address, "localhost", "/"));
}

#[test]
fn a_stopped_cluster_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let options = || ClusterOptions { data_dir: Some(data_dir.clone()), ..ClusterOptions::default() };
    let mut cluster = start(ClusterOptions { dir: Some(repo("examples/hello")), ..options() });
    let uid =
        |cluster: &TestCluster| cluster.kubectl().ok(&["get", "deployment", "hello", "-o", "jsonpath={.metadata.uid}"]);
    let before = uid(&cluster);
    cluster.stop();
    drop(cluster);
    let cluster = start(options());
    assert_eq!(uid(&cluster), before);
    let answer = eventually("hello answers again", || get_ok(cluster.ingress_http(), "hello.localhost", "/"));
    assert!(answer.body.starts_with("Hello from hello-"));
}

/// Restart counts and readiness of hello's pods by name, when there are three of them.
fn hello_pods(cluster: &TestCluster) -> Result<BTreeMap<String, (u32, bool)>, String> {
    let columns = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount} \
                   {.status.containerStatuses[0].ready}{'\\n'}{end}";
    let listed = cluster.kubectl().ok(&["get", "pods", "-l", "app=hello", "-o", columns]);
    let pod = |line: &str| {
        let mut words = line.split(' ');
        let (name, restarts, ready) = (words.next()?, words.next()?, words.next()?);
        Some((name.to_owned(), (restarts.parse().ok()?, ready == "true")))
    };
    let pods: BTreeMap<_, _> = listed.lines().filter_map(pod).collect();
    if pods.len() == 3 { Ok(pods) } else { Err(listed) }
}

#[test]
fn acknowledged_writes_survive_a_kill_and_pods_are_restarted() {
    const WRITERS: usize = 8;
    const BATCHES: usize = 5;
    const BATCH: usize = 25;
    const WRITES: usize = WRITERS * BATCHES * BATCH;
    const _: () = assert!(WRITES == 1_000);
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let options = || ClusterOptions { data_dir: Some(data_dir.clone()), ..ClusterOptions::default() };
    let mut cluster = start(ClusterOptions { dir: Some(repo("examples/hello")), ..options() });
    let before = hello_pods(&cluster).unwrap();
    assert!(before.values().all(|pod| *pod == (0, true)), "{before:?}");
    // Writers go on until the server is gone under them; each remembers what was acknowledged.
    let acknowledged = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (kubectl, acknowledged) = (cluster.kubectl().clone(), &acknowledged);
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    let manifest = |n| {
                        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: w{writer}-{batch}-{n}}}\n")
                    };
                    let manifests: String = (0..BATCH).map(manifest).collect();
                    let outcome = kubectl.run_with_input(&["create", "-f", "-"], &manifests);
                    let created = outcome.stdout.lines().filter_map(|line| {
                        line.strip_prefix("configmap/")?.strip_suffix(" created").map(str::to_owned)
                    });
                    acknowledged.lock().unwrap().extend(created);
                    if !outcome.success {
                        return;
                    }
                }
            });
        }
        eventually("the writes are under way", || {
            let count = acknowledged.lock().unwrap().len();
            if count >= WRITES / 3 { Ok(()) } else { Err(format!("{count} writes")) }
        });
        cluster.kill();
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() < WRITES, "the kill came after all writes");
    drop(cluster);

    let cluster = start(options());
    let stored = cluster.kubectl().ok(&["get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}"]);
    let stored: HashSet<&str> = stored.split(' ').collect();
    let lost: Vec<_> = acknowledged.iter().filter(|name| !stored.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());
    // The same pods, each restarted once.
    let expected: BTreeMap<_, _> = before.into_keys().map(|name| (name, (1, true))).collect();
    eventually("pods come back", || match hello_pods(&cluster)? {
        pods if pods == expected => Ok(()),
        pods => Err(format!("{pods:?}")),
    });
    assert_eq!(get(cluster.ingress_http(), "hello.localhost", "/").unwrap().status, 200);
}

/// What an init container has made in memory is gone with the node. It runs again, and those that need it wait, as for a
/// sidecar.
#[test]
fn after_a_kill_init_containers_and_sidecars_come_first_again() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    let options = || ClusterOptions { data_dir: Some(data_dir.clone()), ..ClusterOptions::default() };
    let mut cluster = start(options());
    let (cli, hello) = ("localhost/cli:latest", "localhost/hello:latest");
    cluster.load_image(&repo("examples/cli/cli.wasm"), cli);
    cluster.load_image(&repo("examples/hello/hello.wasm"), hello);
    let medium = if run("id", &["-u"]).stdout.trim() == "0" { "Memory" } else { "" };
    cluster.kubectl().apply(&format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: words}}
data: {{input: one two three}}
---
apiVersion: v1
kind: Pod
metadata: {{name: ordered}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 1
  volumes: [{{name: words, configMap: {{name: words}}}}, {{name: made, emptyDir: {{medium: '{medium}'}}}}]
  initContainers:
  - {{name: makes, image: '{cli}', env: [{{name: INPUT, value: /words/input}}, {{name: OUTPUT, value: /made/count}}],
     volumeMounts: [{{name: words, mountPath: /words}}, {{name: made, mountPath: /made}}]}}
  - {{name: beside, image: '{hello}', restartPolicy: Always, ports: [{{containerPort: 8081}}],
     startupProbe: {{httpGet: {{port: 8081}}, periodSeconds: 1}}}}
  containers:
  - {{name: needs, image: '{hello}', ports: [{{containerPort: 8080}}],
     readinessProbe: {{exec: {{command: [test, -e, /made/count]}}, periodSeconds: 1}},
     volumeMounts: [{{name: made, mountPath: /made}}]}}
"
    ));
    let counts = "jsonpath={.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount} \
                  {.status.containerStatuses[*].ready}";
    let comes = |cluster: &TestCluster, expected: &str| {
        eventually("the pod is ready", || match cluster.kubectl().ok(&["get", "pod", "ordered", "-o", counts]) {
            shown if shown == expected => Ok(()),
            shown => Err(shown),
        });
    };
    comes(&cluster, "0 0 0 true");
    cluster.kill();
    drop(cluster);
    let cluster = start(options());
    comes(&cluster, "1 1 1 true");
    let started = ["get", "events", "--field-selector=involvedObject.name=ordered,reason=Started"];
    let path = ["-o", "jsonpath={.items[*].involvedObject.fieldPath}"];
    let order = "spec.initContainers{makes} spec.initContainers{beside} spec.containers{needs}";
    // Events are listed in the order of their names, which is that of their times.
    eventually("all are said to have started", || match cluster.kubectl().ok(&[&started[..], &path].concat()) {
        told if told == format!("{order} {order}") => Ok(()),
        told => Err(told),
    });
}

/// An `up --ephemeral` with its temporary and home folders in `folder`.
fn start_ephemeral(folder: &Path, further: &[&str]) -> k8w_testkit::Process {
    let ports = ["--port", "0", "--ingress-http-port", "0", "--ingress-https-port", "0", "--kubelet-port", "0"];
    let arguments = [&["up", "--ephemeral", "--kernel-network", "off"][..], &ports, further].concat();
    for made in ["tmp", "home/.kube"] {
        std::fs::create_dir_all(folder.join(made)).unwrap();
    }
    let script = format!(
        "HOME={} KUBECONFIG=/nowhere TMPDIR={} exec {BINARY} \"$@\"",
        folder.join("home").display(),
        folder.join("tmp").display()
    );
    let arguments: Vec<String> = ["-c", &script, "k8w"].iter().chain(&arguments).map(ToString::to_string).collect();
    k8w_testkit::Process::start("/bin/sh", &arguments, &folder.join("out"), &folder.join("err")).unwrap()
}

/// How much of what a client has sent its server has yet to read (proc_net_tcp(5)).
fn unread(client: &TcpStream) -> Option<u64> {
    let port = |address: &str| u16::from_str_radix(address.split_once(':')?.1, 16).ok();
    let ends = (client.peer_addr().unwrap().port(), client.local_addr().unwrap().port());
    std::fs::read_to_string("/proc/net/tcp").unwrap().lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, _, queues, ..] = words[..] else { return None };
        let is_it = port(local) == Some(ends.0) && port(remote) == Some(ends.1);
        is_it.then(|| u64::from_str_radix(queues.split_once(':')?.1, 16).ok()).flatten()
    })
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn an_ephemeral_cluster_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("tmp");
    let merged = folder.path().join("home/.kube/config");
    std::fs::create_dir_all(merged.parent().unwrap()).unwrap();
    std::fs::write(&merged, "contexts: [{name: mine, context: {}}]\n").unwrap();
    let mut process = start_ephemeral(folder.path(), &["--merge-kubeconfig"]);
    process.line("Ingress for HTTP: ");
    assert_eq!(entries(&scratch), 1);
    let contexts =
        run("kubectl", &["--kubeconfig", &merged.display().to_string(), "config", "get-contexts", "-o", "name"]);
    assert_eq!(contexts.stdout, "k8w\nmine\n");
    assert!(process.interrupt().success());
    assert_eq!(entries(&scratch), 0);
}

#[test]
fn an_ephemeral_cluster_leaves_nothing_to_whoever_does_not_wait_for_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let scratch = folder.path().join("tmp");
    let mut process = start_ephemeral(folder.path(), &[&repo("examples/hello").display().to_string()]);
    let ingress = process.line("Ingress for HTTP: ");
    let address = ingress.trim_start_matches("http://").trim_end_matches('/');
    // A clean stop waits for a while for a client that has begun its request.
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost:").unwrap();
    eventually("the beginning is read", || match unread(&client) {
        Some(0) => Ok(()),
        other => Err(format!("{other:?} bytes are not")),
    });
    process.tell_to_stop();
    process.line("Stopping");
    assert_eq!(entries(&scratch), 1);
    assert_eq!(process.interrupt().code(), Some(130), "it stopped by itself");
    assert_eq!(entries(&scratch), 0);
}

#[test]
fn a_second_up_on_the_same_data_is_refused() {
    let cluster = start(ClusterOptions::default());
    let error = refusal(&["--port", "0", "--data-dir", &cluster.data_dir().display().to_string()]);
    assert!(error.contains(&format!("is in use by another k8w (process {})", cluster.process_id())), "{error}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (data_dir, taken) = (folder.path().join("data").display().to_string(), address.port().to_string());
    let options = ["--port", "--ingress-http-port", "--ingress-https-port", "--kubelet-port"];
    for option in options {
        let ports = options.map(|other| [other, if other == option { &taken } else { "0" }]).concat();
        let error = refusal(&[&["--data-dir", &data_dir][..], &ports].concat());
        assert!(error.contains(&format!("cannot listen on {address}")) && error.contains(option), "{error}");
    }
}

#[test]
fn data_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/format"), "1000\n").unwrap();
    let error = refusal_in(folder.path(), &["--port", "0"]);
    assert!(error.contains("has format 1000") && error.contains("use a newer k8w"), "{error}");
}

#[test]
fn a_data_dir_that_is_no_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "").unwrap();
    let error = refusal_in(folder.path(), &["--port", "0"]);
    assert!(error.contains("cannot make the data directory"), "{error}");
}

#[test]
fn broken_manifests_are_refused_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = folder.path().join("app");
    std::fs::create_dir(&manifests).unwrap();
    let manifests_text = manifests.display().to_string();
    let try_with = |text: &str| {
        std::fs::write(manifests.join("a.yaml"), text).unwrap();
        refusal_in(folder.path(), &["--port", "0", &manifests_text])
    };
    let error = try_with("a: [");
    assert!(error.contains("a.yaml is not valid YAML"), "{error}");
    let error = try_with("a: 1\na: 2\n");
    assert!(error.ends_with("a.yaml is not valid YAML: line 2 column 1: duplicate mapping key: a"), "{error}");
    let error = try_with("apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n");
    assert!(error.contains("a.yaml (document 1) was refused") && error.contains("Nonsense"), "{error}");
    let error = try_with("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_Valid}\n");
    assert!(
        error.contains("a.yaml (document 1) was refused") && error.contains("metadata.name: Invalid value"),
        "{error}"
    );
    let error = try_with("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nbogus: 1\n");
    assert!(error.contains("was refused") && error.contains("bogus"), "{error}");
    let error = refusal_in(folder.path(), &["--port", "0", "/nonexistent"]);
    assert!(error.contains("cannot read the folder /nonexistent"), "{error}");
}

#[test]
fn names_and_ranges_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = refusal_in(folder.path(), &["--port", "0", "--node-name", "Bad_Name"]);
    assert!(error.contains("--node-name") && error.contains("lowercase RFC 1123 subdomain"), "{error}");
    let error = refusal_in(folder.path(), &["--port", "0", "--service-cidr", "10.64.0.0/20"]);
    assert!(error.contains("--wasm-cidr 10.64.0.0/11 and --service-cidr 10.64.0.0/20 overlap"), "{error}");
    let error = refusal_in(folder.path(), &["--port", "0", "--image-gc-high-threshold", "80"]);
    let why = "imageGCLowThresholdPercent (--image-gc-low-threshold) 80 must be less than imageGCHighThresholdPercent \
               (--image-gc-high-threshold) 80";
    assert!(error.ends_with(why), "{error}");
    let error = refusal_in(folder.path(), &["--port", "0", "--minimum-image-ttl-duration=-1s"]);
    assert!(error.contains("must not be negative"), "{error}");
}

#[test]
fn what_cannot_become_ready_is_not_called_ready() {
    let folder = tempfile::tempdir().unwrap();
    let pod =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: localhost/none}]}\n";
    std::fs::write(folder.path().join("a.yaml"), pod).unwrap();
    let cluster = start(ClusterOptions { dir: Some(folder.path().to_owned()), ..ClusterOptions::default() });
    let printed = eventually("it says what it is up to", || match cluster.stderr() {
        printed if printed.contains("Ingress for HTTP: ") => Ok(printed),
        printed => Err(printed),
    });
    assert!(printed.contains("Started, with 1 of 1 objects not ready"), "{printed}");
    assert!(printed.contains("warning: ") && printed.contains("Waiting: 0 of 1 objects are ready"), "{printed}");
}

#[test]
fn what_goes_wrong_later_is_streamed() {
    let mut cluster = start(ClusterOptions { dir: Some(repo("examples/crash")), ..ClusterOptions::default() });
    eventually("it says that the pod is restarted again and again", || {
        let printed = cluster.stderr();
        let (_, later) = printed.split_once("Ingress for HTTP: ").ok_or("it starts")?;
        let both = later.contains("warning: pod crash: BackOff: ") && printed.contains("\ncrash: about to fall over\n");
        if both { Ok(()) } else { Err(printed) }
    });
    cluster.stop();
}

#[test]
fn progress_is_drawn_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), "apiVersion: v1\nkind: Nonsense\nmetadata: {name: x}\n").unwrap();
    let ports = "--port 0 --ingress-http-port 0 --ingress-https-port 0 --kubelet-port 0";
    let up = format!("{BINARY} up {0} {ports} --data-dir {0}/data", folder.path().display());
    let outcome = run("script", &["--quiet", "--return", "--command", &up, "/dev/null"]);
    assert!(!outcome.success && outcome.stdout.contains("was refused"), "{}", outcome.stdout);
    // It goes back to the line's beginning, and clears it.
    assert!(outcome.stdout.contains("\r\u{1b}[2K") && outcome.stdout.contains("Starting"), "{:?}", outcome.stdout);
}

/// As root, the cluster is started as another user; otherwise every test here already is such a one.
#[test]
fn a_normal_user_can_start_it() {
    if run("id", &["-u"]).stdout.trim() != "0" {
        return;
    }
    const NOBODY: u32 = 65_534;
    let folder =
        tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
    // The build folder may be closed to others.
    let binary = folder.path().join("k8w");
    std::fs::copy(BINARY, &binary).unwrap();
    let example = folder.path().join("hello");
    std::fs::create_dir(&example).unwrap();
    for file in ["hello.wasm", "hello.yaml"] {
        std::fs::copy(repo("examples/hello").join(file), example.join(file)).unwrap();
    }
    let (stdout, stderr) = (folder.path().join("out"), folder.path().join("err"));
    let script = format!(
        "ulimit -S -n 512; exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups env HOME={} {} up {} --port 0 \
         --ingress-http-port 0 --ingress-https-port 0 --kubelet-port 0 --node-port-range 18000-18049",
        home.display(),
        binary.display(),
        example.display()
    );
    let mut process = k8w_testkit::Process::start("/bin/sh", &["-c".into(), script], &stdout, &stderr).unwrap();
    let url = eventually("the URLs are printed", || {
        let urls = std::fs::read_to_string(&stdout).unwrap();
        let url = urls.lines().find_map(|url| url.strip_prefix("http://hello.localhost:")?.strip_suffix('/'));
        url.map(str::to_owned).ok_or_else(|| std::fs::read_to_string(&stderr).unwrap())
    });
    let answer = get(format!("127.0.0.1:{url}").parse().unwrap(), "hello.localhost", "/").unwrap();
    assert_eq!(answer.status, 200);
    assert!(home.join(".local/share/k8w/kubeconfig").exists());
    assert!(!home.join(".kube").exists(), "the user's own is merged into when that is asked for");
    // It has as many open files as it may have, not as few as its shell.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let files: Vec<&str> =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[0], files[1], "{limits}");
    assert!(process.terminate().success());
}
