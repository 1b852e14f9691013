//! `k8w up` with the kernel's side of its network, each test in a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers included")]

#[path = "../nodes/machines.rs"]
#[allow(dead_code, reason = "tests of nodes use the rest")]
mod machines;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use k8w_networking::dns::wire::op::ResponseCode;
use k8w_networking::dns::wire::rr::rdata::CNAME;
use k8w_networking::dns::wire::rr::{RData, Record, RecordType};
use k8w_networking::dns::wire::{self, MAX_DATAGRAM_BYTES};
use k8w_testkit::{
    ClusterOptions, HERE, Neighbour, Process, THERE, TestCluster, eventually, get, get_ok, guest, output, run,
    run_in_namespaces,
};
use machines::BINARY;
use nix::sched::{CloneFlags, unshare};

/// How long an answer to a datagram is waited for before it counts as lost. Whoever wants one asks again.
const DATAGRAM_PATIENCE: Duration = Duration::from_millis(500);

/// Where cluster DNS is.
const DNS: &str = "@10.96.0.10";

fn main() {
    run_in_namespaces(&[
        ("everything_is_reached_by_its_address", everything_is_reached_by_its_address),
        ("nothing_stays_and_what_was_left_is_mended", nothing_stays_and_what_was_left_is_mended),
        ("a_second_cluster_says_why_it_does_without", a_second_cluster_says_why_it_does_without),
        ("without_privilege_it_says_so", without_privilege_it_says_so),
        ("traffic_from_outside_stays_on_its_node", traffic_from_outside_stays_on_its_node),
        ("datagrams_are_answered_from_where_they_were_sent", datagrams_are_answered_from_where_they_were_sent),
        ("an_external_name_is_what_the_machines_dns_says", an_external_name_is_what_the_machines_dns_says),
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

/// A socket that sends to one address, and hears nobody else.
fn client(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(DATAGRAM_PATIENCE)).unwrap();
    socket
}

fn say(client: &UdpSocket) -> std::io::Result<String> {
    client.send(b"hello")?;
    let mut buffer = [0; 1500];
    let length = client.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Two endpoints behind a Service of datagrams, asked at every address that it has: from here, and from outside.
fn datagrams_are_answered_from_where_they_were_sent() {
    const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);
    let Some(probe) = guest("probe.wasm") else { return };
    let neighbour = Neighbour::new();
    output("ip", &["address", "add", &format!("{OTHER}/24"), "dev", "here"]);
    let arguments = ["--address", "0.0.0.0"].map(String::from).to_vec();
    let options = ClusterOptions { kernel_network: true, arguments, ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(BINARY, options);
    cluster.load_image(&probe, "localhost/probe:latest");
    let kubectl = cluster.kubectl().clone();
    let pod = |name: &str| {
        format!(
            "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: hears}}}}
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 1
  containers: [{{name: c, image: 'localhost/probe:latest', args: [hear, 0.0.0.0, '5353', {name}, '60000']}}]
"
        )
    };
    let service = "
---
apiVersion: v1
kind: Service
metadata: {name: hears}
spec: {type: NodePort, selector: {app: hears}, ports: [{protocol: UDP, port: 53, targetPort: 5353}]}
";
    kubectl.apply(&[pod("one"), pod("two"), service.to_owned()].concat());
    kubectl.ok(&["wait", "--for=condition=Ready", "pods", "--all", "--timeout=60s"]);
    let service = address_of(&cluster, &["service", "hears"], ".spec.clusterIP", 53);
    let port = kubectl.ok(&["get", "service", "hears", "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    let node_port = |ip: Ipv4Addr| SocketAddr::new(ip.into(), port.parse().unwrap());
    let ask = |is_outside: bool, to: SocketAddr| {
        if is_outside { neighbour.run(move || say(&client(to))) } else { say(&client(to)) }
    };
    let both = [service, node_port(HERE), node_port(OTHER)].map(|to| [(false, to), (true, to)]);
    let doors = [both.as_flattened(), &[(false, node_port(Ipv4Addr::LOCALHOST))]].concat();
    for &(is_outside, to) in &doors {
        for name in ["one", "two"] {
            let expected = format!("{name} heard hello");
            eventually(&format!("{name} answers from {to}, asked from outside: {is_outside}"), || {
                let heard = ask(is_outside, to).map_err(|error| error.to_string())?;
                if heard == expected { Ok(()) } else { Err(heard) }
            });
        }
    }

    kubectl.ok(&["patch", "service", "hears", "--patch", r#"{"spec": {"sessionAffinity": "ClientIP"}}"#]);
    for (is_outside, to) in [(false, service), (true, service), (true, node_port(HERE))] {
        eventually("a client keeps its endpoint", || {
            let heard: std::io::Result<BTreeSet<String>> = (0..20).map(|_| ask(is_outside, to)).collect();
            let heard = heard.map_err(|error| error.to_string())?;
            if heard.len() == 1 { Ok(()) } else { Err(format!("{heard:?}")) }
        });
    }

    // A client whose endpoint goes away gets the other.
    let kept = client(service);
    let first = eventually("an answer", || say(&kept).map_err(|error| error.to_string()));
    let (gone, left) = if first.starts_with("one") { ("one", "two") } else { ("two", "one") };
    kubectl.ok(&["delete", "pod", gone]);
    eventually("the other answers", || match say(&kept).map_err(|error| error.to_string())? {
        heard if heard == format!("{left} heard hello") => Ok(()),
        heard => Err(heard),
    });
    // And then there is nobody. An address of the cluster says so.
    kubectl.ok(&["delete", "pod", left]);
    let is_refused = |is_outside: bool, to: SocketAddr| {
        eventually(&format!("{to} refuses, asked from outside: {is_outside}"), || match ask(is_outside, to) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    [false, true].into_iter().for_each(|is_outside| is_refused(is_outside, service));
    for &(is_outside, to) in &doors {
        let heard = ask(is_outside, to);
        assert!(heard.is_err(), "{to} says {heard:?}");
    }
    kubectl.ok(&["delete", "service", "hears"]);
    doors.iter().for_each(|(is_outside, to)| is_refused(*is_outside, *to));
    cluster.stop();
    assert_eq!(self::left(), "");
}

/// A DNS server on this namespace's loopback that knows a few names outside of the cluster, until it is dropped.
struct Dns {
    stop: UdpSocket,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl Dns {
    fn start() -> Dns {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).unwrap();
        let stop = client(socket.local_addr().unwrap());
        let own = stop.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut buffer)
                && client != own
            {
                // Whoever does not get it asks again.
                let _ = socket.send_to(&answer(&buffer[..length]), client);
            }
        });
        Dns { stop, serving: Some(serving) }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.stop.send(b"stop");
        let _ = self.serving.take().map(std::thread::JoinHandle::join);
    }
}

/// `db.example` is at [`THERE`]; `alias.example` leads to it by another alias.
fn answer(question: &[u8]) -> Vec<u8> {
    let question = wire::read(question).unwrap().unwrap();
    let chain = ["alias.example", "second.example", "db.example"].map(|name| wire::name(name).unwrap());
    let (asked, mut reply) = (&question.queries[0], wire::reply(&question));
    match chain.iter().position(|name| *name == asked.name) {
        Some(first) => {
            for pair in chain[first..].windows(2) {
                reply.add_answer(Record::from_rdata(pair[0].clone(), 5, RData::CNAME(CNAME(pair[1].clone()))));
            }
            if asked.query_type == RecordType::A {
                reply.add_answer(Record::from_rdata(chain[2].clone(), 5, RData::from(THERE)));
            }
        }
        None => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    wire::write(&reply, MAX_DATAGRAM_BYTES).unwrap()
}

/// Answers every request with where it was sent to, for as long as the process lives.
fn tell_hosts(listener: &TcpListener) {
    for mut stream in listener.incoming().flatten() {
        let lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let host = lines.take_while(|line| !line.is_empty()).find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("host").then(|| value.to_owned())
        });
        let said = format!("asked as {}", host.unwrap_or_default());
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", said.len());
        let _ = stream.write_all((head + &said).as_bytes());
    }
}

/// The machine asks a server of the test's own, and what names stand for is outside of the cluster.
fn an_external_name_is_what_the_machines_dns_says() {
    let Some(probe) = guest("probe.wasm") else { return };
    let neighbour = Neighbour::new();
    let listener = neighbour.run(|| TcpListener::bind((THERE, 8080)).unwrap());
    std::thread::spawn(move || tell_hosts(&listener));
    let _dns = Dns::start();
    // What this thread starts sees another file in place of the machine's.
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    output("mount", &["--make-rprivate", "/"]);
    output("mount", &["--bind", &resolv_conf.display().to_string(), "/etc/resolv.conf"]);

    let options = ClusterOptions { kernel_network: true, ..ClusterOptions::default() };
    let mut cluster = TestCluster::start(BINARY, options);
    cluster.load_image(&probe, "localhost/probe:latest");
    let external = |name: &str, to: &str| {
        format!(
            "
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{type: ExternalName, externalName: {to}}}
"
        )
    };
    let services = [
        external("db", "db.example"),
        external("chain", "alias.example"),
        external("gone", "nowhere.example"),
        external("again", "chain.default.svc.cluster.local"),
    ];
    let asks = "
---
apiVersion: v1
kind: Pod
metadata: {name: asks}
spec:
  runtimeClassName: wasmtime
  containers: [{name: c, image: 'localhost/probe:latest', ports: [{containerPort: 8080}]}]
";
    cluster.kubectl().apply(&(services.concat() + asks));
    cluster.kubectl().ok(&["wait", "--for=condition=Ready", "pod/asks", "--timeout=60s"]);
    let pod = address_of(&cluster, &["pod", "asks"], ".status.podIP", 8080);
    let asked = |path: &str| eventually("an answer", || get_ok(pod, "any", path)).body;
    let there = format!("{THERE}\n");
    for name in ["db", "chain", "again", "db.default", "db.default.svc.cluster.local", "db.example", "alias.example"] {
        eventually(&format!("{name} is found"), || match asked(&format!("/resolve?{name}")) {
            found if found == there => Ok(()),
            found => Err(found),
        });
        assert_eq!(asked(&format!("/fetch?{name}:8080/")), format!("asked as {name}:8080"));
    }
    for name in ["gone", "nowhere.example"] {
        assert_eq!(asked(&format!("/resolve?{name}")), "name-unresolvable");
        let error = asked(&format!("/fetch?{name}:8080/"));
        assert!(error.contains("DnsError") && !error.contains("asked as"), "{name}: {error}");
    }

    // A real client of cluster DNS is told the whole way.
    let dig = |arguments: &[&str]| output("dig", &[&[DNS, "+tries=5"], arguments].concat());
    let name = |service: &str| format!("{service}.default.svc.cluster.local");
    let chain = format!("alias.example.\nsecond.example.\ndb.example.\n{there}");
    assert_eq!(dig(&["+short", &name("db")]), format!("db.example.\n{there}"));
    assert_eq!(dig(&["+short", &name("chain")]), chain);
    assert_eq!(dig(&["+short", &name("again")]), format!("{}.\n{chain}", name("chain")));
    assert_eq!(dig(&["+short", "CNAME", &name("chain")]), "alias.example.\n");
    assert_eq!(dig(&["+short", "AAAA", &name("db")]), "db.example.\n", "it has no such address");
    assert_eq!(dig(&["+short", &name("gone")]), "nowhere.example.\n", "and nothing is known of that");
    let missing = dig(&["nowhere.example"]);
    assert!(missing.contains("status: NXDOMAIN"), "{missing}");
    cluster.stop();
    assert_eq!(left(), "");
}
