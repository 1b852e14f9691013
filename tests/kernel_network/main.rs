//! `k8w up` with the kernel's side of its network, each test in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../nodes/machines.rs"]
#[allow(dead_code, reason = "tests of nodes use the rest")]
mod machines;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use k8w_testkit::{
    ClusterOptions, HERE, Neighbour, Process, TestCluster, eventually, get, get_ok, output, run, run_in_namespaces,
};
use machines::BINARY;

/// Where cluster DNS is.
const DNS: &str = "@10.96.0.10";

fn main() {
    run_in_namespaces(&[
        ("everything_is_reached_by_its_address", everything_is_reached_by_its_address),
        ("nothing_stays_and_what_was_left_is_mended", nothing_stays_and_what_was_left_is_mended),
        ("a_second_cluster_says_why_it_does_without", a_second_cluster_says_why_it_does_without),
        ("without_privilege_it_says_so", without_privilege_it_says_so),
        ("traffic_from_outside_stays_on_its_node", traffic_from_outside_stays_on_its_node),
    ])
}

fn options() -> ClusterOptions {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hello");
    ClusterOptions { dir: Some(dir), kernel_network: true, ..ClusterOptions::default() }
}

/// What of this namespace is a cluster's.
fn left() -> String {
    output("nft", &["list", "tables"]) + &output("ip", &["route", "show", "table", "all", "proto", "107"])
}

/// Asks until there is an answer.
fn greeting(address: SocketAddr) -> String {
    eventually("an answer", || get_ok(address, "any", "/").map_err(|error| format!("{address}: {error}"))).body
}

fn address_of(cluster: &TestCluster, what: &[&str], path: &str, port: u16) -> SocketAddr {
    let path = format!("jsonpath={{{path}}}");
    let shown = cluster.kubectl().ok(&[&["get"], what, &["-o", &path]].concat());
    SocketAddr::new(shown.parse::<IpAddr>().unwrap_or_else(|error| panic!("{shown}: {error}")), port)
}

fn everything_is_reached_by_its_address() {
    let neighbour = Neighbour::new();
    let cluster = TestCluster::start(BINARY, options());
    let said = cluster.stderr();
    assert!(said.contains("Network: in this process and the kernel; "), "{said}");
    let pod = address_of(&cluster, &["pods"], ".items[0].status.podIP", 8080);
    let service = address_of(&cluster, &["service", "hello"], ".spec.clusterIP", 80);
    for address in [pod, service] {
        assert!(greeting(address).starts_with("Hello from hello-"));
        assert!(neighbour.run(move || greeting(address)).starts_with("Hello from hello-"));
    }

    // A real client of DNS, with the names of Services, of what is nobody's, and by TCP.
    let kube_dns = ["--namespace", "kube-system", "service", "kube-dns"];
    assert_eq!(address_of(&cluster, &kube_dns, ".spec.clusterIP", 53).ip().to_string(), DNS[1..]);
    let dig = |arguments: &[&str]| output("dig", &[&[DNS, "+tries=5"], arguments].concat());
    assert_eq!(dig(&["+short", "kubernetes.default.svc.cluster.local"]), "10.96.0.1\n");
    let name = "hello.default.svc.cluster.local";
    let ip = service.ip().to_string();
    assert_eq!(dig(&["+short", "+tcp", name]), format!("{ip}\n"));
    assert_eq!(dig(&["+short", "-x", &ip]), format!("{name}.\n"));
    assert!(dig(&["+short", "SRV", "_https._tcp.kubernetes.default.svc.cluster.local"]).contains(" 443 kubernetes."));
    let missing = dig(&["nobody.default.svc.cluster.local"]);
    assert!(missing.contains("status: NXDOMAIN") && missing.contains("SOA"), "{missing}");
    let empty = dig(&["AAAA", name]);
    assert!(empty.contains("status: NOERROR") && empty.contains("ANSWER: 0"), "{empty}");
    let there = neighbour.run(|| output("dig", &[DNS, "+short", "kubernetes.default.svc.cluster.local"]));
    assert_eq!(there, "10.96.0.1\n");
}

fn nothing_stays_and_what_was_left_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let options = || ClusterOptions { data_dir: Some(folder.path().join("data")), ..options() };
    let mut cluster = TestCluster::start(BINARY, options());
    let service = address_of(&cluster, &["service", "hello"], ".spec.clusterIP", 80);
    greeting(service);
    cluster.kill();
    assert!(left().contains("table ip k8w") && left().contains("10.96.0.0/16"), "{}", left());
    drop(cluster);

    let mut cluster = TestCluster::start(BINARY, options());
    assert!(greeting(service).starts_with("Hello from hello-"));
    cluster.stop();
    assert_eq!(left(), "");
}

/// Starts `k8w` behind a command of its own, and waits until it is ready; what it printed comes with it.
fn start(before: &str, arguments: &[&str]) -> (Process, String) {
    let folder = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (folder.path().join("out"), folder.path().join("err"));
    let script = format!("exec {before} {BINARY} \"$@\"");
    let all = ["-c", &script, "k8w"].into_iter().chain(arguments.iter().copied());
    let all: Vec<String> = all.map(String::from).collect();
    let mut process = Process::start("/bin/sh", &all, &stdout, &stderr).unwrap();
    process.line("Ingress for HTTP: ");
    let said = process.stderr();
    (process, said)
}

/// Of an `up` whose folders and ports disturb nobody.
fn arguments(whether: &str) -> Vec<&str> {
    let arguments = ["up", "--ephemeral", "--kernel-network", whether];
    let ports = ["--port", "0", "--ingress-http-port", "0", "--ingress-https-port", "0", "--kubelet-port", "0"];
    [&arguments[..], &ports].concat()
}

fn a_second_cluster_says_why_it_does_without() {
    let first = TestCluster::start(BINARY, options());
    let refused = run(BINARY, &arguments("on"));
    assert!(!refused.success);
    let error = refused.stderr.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
    assert!(error.contains("--kernel-network cannot be on: another k8w has this machine's kernel network"), "{error}");

    let (_second, said) = start("", &arguments("auto"));
    let why = "Network: in this process (the kernel's cannot be had: another k8w has this machine's kernel network); ";
    assert!(said.contains(why), "{said}");
    greeting(address_of(&first, &["service", "hello"], ".spec.clusterIP", 80));
}

fn without_privilege_it_says_so() {
    let (_cluster, said) = start("setpriv --bounding-set=-net_admin --inh-caps=-net_admin", &arguments("auto"));
    let why = "Network: in this process (the kernel's cannot be had: it takes the privilege CAP_NET_ADMIN); ";
    assert!(said.contains(why), "{said}");
    assert_eq!(left(), "");
}

/// Two nodes of one machine, each with an address that a client outside of it knows.
fn traffic_from_outside_stays_on_its_node() {
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
    let neighbour = Neighbour::new();
    output("ip", &["address", "add", &format!("{OTHER}/24"), "dev", "here"]);
    let cluster = machines::Cluster::start();
    let (kubectl, token) = (&cluster.kubectl, cluster.token());
    let token = token.each_ref().map(String::as_str);
    let nodes = [("a", HERE), ("b", OTHER)].map(|(name, ip)| machines::node(cluster.folder.path(), name, ip, &token));
    nodes.iter().for_each(|node| node.load("hello/hello.wasm", "localhost/hello:latest"));
    let pod = |name: &str, node: &str| {
        format!(
            "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: hello, pod: {name}}}}}
spec:
  runtimeClassName: wasmtime
  nodeSelector: {{kubernetes.io/hostname: {node}}}
  containers:
  - name: c
    image: localhost/hello:latest
    ports: [{{name: http, containerPort: 8080}}]
    env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
"
        )
    };
    let service = |name: &str, policy: &str, selector: &str| {
        format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: NodePort, externalTrafficPolicy: {policy}, selector: {{{selector}}}, ports: [{{port: 80, targetPort: http}}]}}
"
        )
    };
    let services = [
        service("all", "Cluster", "app: hello"),
        service("own", "Local", "app: hello"),
        service("on-b", "Local", "pod: hello-b"),
    ];
    kubectl.apply(&[pod("hello-a", "a"), pod("hello-b", "b"), services.concat()].concat());
    kubectl.ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    let port = |name: &str| cluster.jsonpath(&["service", name], "{.spec.ports[0].nodePort}").parse::<u16>().unwrap();
    let said = |name: &str| format!("Hello from {name}: you asked for /\n");
    let outside = |ip: Ipv4Addr, port: u16| neighbour.run(move || greeting(SocketAddr::new(ip.into(), port)));
    let (all, own, on_b) = (port("all"), port("own"), port("on-b"));
    for (ip, name) in [(HERE, "hello-a"), (OTHER, "hello-b")] {
        for other in ["hello-a", "hello-b"] {
            eventually("everybody answers", || match outside(ip, all) {
                heard if heard == said(other) => Ok(()),
                heard => Err(heard),
            });
        }
        for _ in 0..20 {
            assert_eq!(outside(ip, own), said(name));
        }
    }
    assert_eq!(outside(OTHER, on_b), said("hello-b"));
    let refused = neighbour.run(move || get(SocketAddr::new(HERE.into(), on_b), "any", "/").is_err());
    assert!(refused, "its pod is on the other node");
}
