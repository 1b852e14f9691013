//! Pods that have DNS servers of their own: real ones on loopback, behind Services at the port of DNS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8w_networking::dns::wire::op::ResponseCode;
use k8w_networking::dns::wire::rr::rdata::CNAME;
use k8w_networking::dns::wire::rr::{RData, Record, RecordType};
use k8w_networking::dns::wire::{self, MAX_MESSAGE_BYTES};
use k8w_networking::dns::{Resolver, Server, Unresolved};
use k8w_networking::{Network, PodIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::harness::*;

/// What a server says by datagrams; over connections it always knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Knows,
    Silent,
    Failing,
}

/// A server that knows a few names of `example`.
struct Dns {
    datagrams: SocketAddr,
    connections: SocketAddr,
    /// Questions that came by datagrams, and over connections.
    asked: Arc<[AtomicUsize; 2]>,
    _serving: JoinSet<()>,
}

impl Dns {
    async fn start(manner: Manner) -> Dns {
        let (socket, listener) = (UdpSocket::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await);
        let (socket, listener) = (socket.unwrap(), listener.unwrap());
        let (datagrams, connections) = (socket.local_addr().unwrap(), listener.local_addr().unwrap());
        let (asked, mut serving) = (Arc::<[AtomicUsize; 2]>::default(), JoinSet::new());
        let counting = asked.clone();
        serving.spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
                counting[0].fetch_add(1, Ordering::Relaxed);
                if manner != Manner::Silent {
                    // Whoever does not take it asks again.
                    let _ = socket.send_to(&answer(&buffer[..length], manner, 512), peer).await;
                }
            }
        });
        let counting = asked.clone();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut question = vec![0; stream.read_u16().await.unwrap().into()];
                stream.read_exact(&mut question).await.unwrap();
                counting[1].fetch_add(1, Ordering::Relaxed);
                let answer = answer(&question, Manner::Knows, MAX_MESSAGE_BYTES);
                stream.write_u16(answer.len().try_into().unwrap()).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        Dns { datagrams, connections, asked, _serving: serving }
    }

    /// Puts it behind an address, where a pod finds it at port 53.
    fn behind(&self, cluster: Cluster, ip: &str) -> Cluster {
        let name = ip.replace('.', "-");
        let cluster = cluster.udp_service(&format!("u{name}"), ip, None, &[self.datagrams]).at_port(53);
        cluster.service(&format!("t{name}"), ip, None, &[self.connections]).at_port(53)
    }

    fn asked(&self) -> [usize; 2] {
        [0, 1].map(|way| self.asked[way].load(Ordering::Relaxed))
    }
}

fn answer(question: &[u8], manner: Manner, room: u16) -> Vec<u8> {
    let question = wire::read(question).unwrap().unwrap();
    let record = |name: &str, data| Record::from_rdata(wire::name(name).unwrap(), 5, data);
    let address = |ip: &str| RData::from(ip.parse::<IpAddr>().unwrap());
    let asked = &question.queries[0];
    let name = asked.name.to_lowercase().to_ascii();
    let name = name.trim_end_matches('.');
    let answers = match (name, asked.query_type) {
        ("db.example", RecordType::A) => vec![record(name, address("192.0.2.7"))],
        ("both.example", RecordType::A) => vec![record(name, address("192.0.2.8"))],
        ("both.example", RecordType::AAAA) => vec![record(name, address("2001:db8::8"))],
        ("alias.example", RecordType::A) => {
            let alias = record(name, RData::CNAME(CNAME(wire::name("DB.example").unwrap())));
            let foreign = record("other.example", address("192.0.2.99"));
            vec![alias, record("db.example", address("192.0.2.7")), foreign]
        }
        ("many.example", RecordType::A) => {
            (1..=100).map(|last| record(name, address(&format!("192.0.2.{last}")))).collect()
        }
        _ => Vec::new(),
    };
    let is_known = ["db.example", "both.example", "alias.example", "many.example"].contains(&name);
    let mut reply = wire::reply(&question);
    match manner {
        Manner::Failing => reply.metadata.response_code = ResponseCode::ServFail,
        _ if is_known => reply.answers = answers,
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    wire::write(&reply, room).unwrap()
}

fn resolver(servers: &[&str]) -> Resolver {
    let servers = servers.iter().map(|server| Server::At(server.parse().unwrap())).collect();
    Resolver { servers, timeout_seconds: 1, ..Resolver::default() }
}

async fn resolve(network: &Arc<Network>, resolver: &Resolver, pod: &PodIdentity, name: &str) -> String {
    let found = tokio::time::timeout(PATIENCE, resolver.resolve(network, pod, name)).await.expect("it does not end");
    match found {
        Ok(found) => found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(unresolved) => format!("{unresolved:?}"),
    }
}

#[tokio::test]
async fn a_pods_own_server_is_asked_for_both_families_and_aliases() {
    let (network, dns) = (network(), Dns::start(Manner::Knows).await);
    network.update(dns.behind(Cluster::default(), "10.96.0.53").tables());
    let own = resolver(&["10.96.0.53"]);
    let ask = async |name: &str| resolve(&network, &own, &pod(2), name).await;
    assert_eq!(ask("db.example").await, "192.0.2.7");
    assert_eq!(ask("DB.Example.").await, "192.0.2.7");
    assert_eq!(ask("both.example").await, "192.0.2.8 2001:db8::8");
    assert_eq!(ask("alias.example").await, "192.0.2.7", "what is said of others is not its address");
    assert_eq!(ask("none.example").await, format!("{:?}", Unresolved::NoSuchName));
    let only_ipv4 = Resolver { only_ipv4: true, ..own.clone() };
    assert_eq!(resolve(&network, &only_ipv4, &pod(2), "both.example").await, "192.0.2.8");
    assert_eq!(dns.asked()[1], 0);
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_is_asked_for_again() {
    let (network, dns) = (network(), Dns::start(Manner::Knows).await);
    network.update(dns.behind(Cluster::default(), "10.96.0.53").tables());
    let own = Resolver { only_ipv4: true, ..resolver(&["10.96.0.53"]) };
    let found = resolve(&network, &own, &pod(2), "many.example").await;
    assert_eq!((found.split(' ').count(), dns.asked()), (100, [1, 1]));
    let by_tcp = Resolver { use_tcp: true, ..own };
    assert_eq!(resolve(&network, &by_tcp, &pod(2), "db.example").await, "192.0.2.7");
    assert_eq!(dns.asked(), [1, 2]);
}

#[tokio::test]
async fn servers_are_asked_in_order_until_one_says_something() {
    let network = network();
    let [silent, failing, knowing] =
        [Dns::start(Manner::Silent).await, Dns::start(Manner::Failing).await, Dns::start(Manner::Knows).await];
    let cluster = silent.behind(Cluster::default(), "10.96.0.51");
    let cluster = knowing.behind(failing.behind(cluster, "10.96.0.52"), "10.96.0.53");
    network.update(cluster.tables());
    // Nobody is at the first address.
    let all = Resolver { only_ipv4: true, ..resolver(&["10.96.0.50", "10.96.0.51", "10.96.0.52", "10.96.0.53"]) };
    assert_eq!(resolve(&network, &all, &pod(2), "db.example").await, "192.0.2.7");
    assert_eq!([&silent, &failing, &knowing].map(Dns::asked), [[1, 0]; 3]);
    // Who knows that there is no such name is believed.
    let first = Resolver { only_ipv4: true, ..resolver(&["10.96.0.53", "10.96.0.51"]) };
    assert_eq!(resolve(&network, &first, &pod(2), "none.example").await, "NoSuchName");
    let nobody = Resolver { only_ipv4: true, attempts: 3, ..resolver(&["10.96.0.50", "10.96.0.52"]) };
    assert_eq!(resolve(&network, &nobody, &pod(2), "db.example").await, "NoAnswer");
    assert_eq!([&silent, &failing].map(Dns::asked), [[1, 0], [4, 0]]);
    let rotating = Resolver { rotate: true, ..all };
    assert_eq!(resolve(&network, &rotating, &pod(2), "db.example").await, "192.0.2.7");
}

#[tokio::test]
async fn policies_hold_for_questions_too() {
    let (network, dns) = (network(), Dns::start(Manner::Knows).await);
    let cluster = dns.behind(Cluster::default().pod(2).pod(3), "10.96.0.53");
    let none = "{podSelector: {matchLabels: {pod: '2'}}, policyTypes: [Egress]}";
    network.update(cluster.policy(serde_saphyr::from_str(none).unwrap()).tables());
    let own = resolver(&["10.96.0.53"]);
    assert_eq!(resolve(&network, &own, &pod(2), "db.example").await, "NoAnswer");
    assert_eq!(dns.asked(), [0, 0]);
    assert_eq!(resolve(&network, &own, &pod(3), "db.example").await, "192.0.2.7");
}

#[tokio::test]
async fn cluster_dns_can_be_one_of_them() {
    let (network, dns) = (network(), Dns::start(Manner::Knows).await);
    network.update(dns.behind(Cluster::default(), "10.96.0.53").service("web", "10.96.0.9", None, &[]).tables());
    let own = resolver(&["10.96.0.53"]);
    let both = Resolver { servers: [vec![Server::ClusterDns], own.servers].concat(), ..resolver(&[]) };
    // As long as cluster DNS is not there, the others are asked.
    assert_eq!(resolve(&network, &both, &pod(2), "db.example").await, "192.0.2.7");
    let stop = tokio_util::sync::CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let upstream = dns.datagrams;
    tokio::spawn(k8w_networking::dns::server::serve(network.clone(), move || vec![upstream], stop));
    let name = "web.default.svc.cluster.local";
    let answered = async {
        while resolve(&network, &both, &pod(2), name).await != "10.96.0.9" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("cluster DNS does not answer");
    assert_eq!(resolve(&network, &both, &pod(2), "db.example").await, "192.0.2.7", "it asks others itself");
}
