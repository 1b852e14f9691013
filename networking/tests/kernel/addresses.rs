//! Pods by their addresses.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8w_networking::kernel::{Error, Kernel};
use k8w_testkit::{Neighbour, THERE};

use crate::harness::*;

pub fn pods_are_reached_and_nothing_stays_behind() {
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let component = network.bind_http(&pod(2), 8080, Arc::new(Hello)).unwrap();
        assert!(once_open("10.64.0.2:8080").await.ends_with("hello"));
        let telling = tell_peers(&network, &pod(3), 5432).await;
        assert_eq!(once_open("10.64.0.3:5432").await, HOST.to_string());

        // A port of the host of the same number is in nobody's way, and no port of the host is a pod's.
        let host = std::net::TcpListener::bind("0.0.0.0:8080").unwrap();
        let other = std::net::TcpListener::bind("0.0.0.0:81").unwrap();
        assert!(ask("10.64.0.2:8080").await.unwrap().ends_with("hello"));
        for closed in ["10.64.0.2:81", "10.64.0.77:8080", "10.96.0.9:81", "10.96.7.7:80"] {
            let refused = TcpStream::connect(closed).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{closed}");
        }
        // Nobody is in another node's range, and nothing leaves for it.
        let unreachable = TcpStream::connect("10.244.3.4:80").unwrap_err();
        assert_eq!(unreachable.kind(), ErrorKind::HostUnreachable);
        drop((host, other));
        drop(component);
        closes("10.64.0.2:8080").await;

        // Somebody removes the table; the next change puts it back.
        output("nft", &["delete", "table", "ip", "k8w"]);
        let _again = network.bind_http(&pod(4), 8080, Arc::new(Hello)).unwrap();
        assert!(once_open("10.64.0.4:8080").await.ends_with("hello"));
        assert_eq!(ask("10.64.0.3:5432").await.unwrap(), HOST.to_string());
        assert_eq!(ours(), (true, 4));
        // Somebody removes a route; without a change it is put back, too.
        output("ip", &["route", "del", "local", "10.96.0.0/16", "dev", "lo", "table", "local"]);
        assert_eq!(ours(), (true, 3));
        are_whole((true, 4)).await;

        served.stop().await;
        assert_eq!(ours(), (false, 0));
        telling.abort();
    });
}

pub fn another_namespace_comes_under_its_own_address() {
    let neighbour = Neighbour::new();
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let telling = tell_peers(&network, &pod(3), 5432).await;
        // Once it is open here it is open there.
        assert_eq!(once_open("10.64.0.3:5432").await, HOST.to_string());
        assert_eq!(neighbour.run(|| hear(at("10.64.0.3:5432"))).unwrap(), THERE.to_string());
        for closed in ["10.64.0.3:81", "10.64.0.4:5432"] {
            let refused = neighbour.run(|| hear(at(closed))).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{closed}");
        }
        served.stop().await;
        telling.abort();
    });
}

pub fn what_a_killed_run_left_is_replaced() {
    block_on(async {
        let first = network();
        let served = Served::start(&first).await;
        let _gone = first.bind_http(&pod(2), 8080, Arc::new(Hello)).unwrap();
        assert!(once_open("10.64.0.2:8080").await.ends_with("hello"));
        served.kill().await;
        assert_eq!(ours(), (true, 4));

        let second = network();
        let served = Served::start(&second).await;
        let _here = second.bind_http(&pod(3), 8080, Arc::new(Hello)).unwrap();
        assert!(once_open("10.64.0.3:8080").await.ends_with("hello"));
        assert_eq!(TcpStream::connect("10.64.0.2:8080").unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(ours(), (true, 4));
        served.stop().await;
        assert_eq!(ours(), (false, 0));
    });
}

pub fn two_clusters_do_not_share_a_kernel() {
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let refused = Kernel::open(crate::harness::network()).await.err().unwrap();
        assert!(matches!(refused, Error::Claimed(_)));
        assert_eq!(refused.to_string(), "another k8w has this machine's kernel network");
        // It leaves the first one alone.
        let _here = network.bind_http(&pod(3), 8080, Arc::new(Hello)).unwrap();
        assert!(once_open("10.64.0.3:8080").await.ends_with("hello"));
        served.stop().await;
        let again = Served::start(&crate::harness::network()).await;
        again.stop().await;
    });
}

pub fn ranges_of_others_are_left_alone() {
    output("ip", &["link", "add", "vpn0", "type", "veth", "peer", "name", "vpn1"]);
    output("ip", &["link", "set", "vpn0", "up"]);
    output("ip", &["route", "add", "10.64.8.0/24", "dev", "vpn0"]);
    block_on(async {
        let refused = Kernel::open(network()).await.err().unwrap();
        let said = "10.64.0.0/18 is routed to vpn0 already; choose other addresses with --wasm-cidr";
        assert_eq!(refused.to_string(), said);
        assert_eq!(ours(), (false, 0));
    });
}

/// Listening sockets for TCP, and sockets of any sort for UDP, in this namespace.
fn sockets() -> usize {
    let of = |table: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
    let listening = of("tcp").lines().filter(|line| line.split_whitespace().nth(3) == Some("0A")).count();
    listening + ["udp", "raw"].map(|table| of(table).lines().count() - 1).iter().sum::<usize>()
}

pub fn idle_pods_cost_no_socket() {
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let _first = network.bind_http(&pod(2), 8080, Arc::new(Hello)).unwrap();
        once_open("10.64.0.2:8080").await;
        let before = sockets();
        assert_eq!(before, 4, "two for TCP, one for UDP and one for answers");
        let pods = (1..8).flat_map(|high| (1..=250).map(move |low| pod_at(high, low)));
        let mut held: Vec<_> = pods.map(|pod| network.bind_http(&pod, 8080, Arc::new(Hello)).unwrap()).collect();
        held.push(network.bind_http(&pod(9), 8080, Arc::new(Hello)).unwrap());
        assert!(once_open("10.64.0.9:8080").await.ends_with("hello"));
        assert!(ask("10.64.7.250:8080").await.unwrap().ends_with("hello"));
        assert_eq!(sockets(), before);
        served.stop().await;
    });
}

/// The answer to one datagram, and whom it is from.
fn ask_by_datagram(to: SocketAddr, bytes: &[u8]) -> std::io::Result<(Vec<u8>, SocketAddr)> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // One that is connected is told when it is refused.
    socket.connect(to)?;
    socket.send(bytes)?;
    let mut answer = vec![0; 65_535];
    let (length, from) = socket.recv_from(&mut answer)?;
    answer.truncate(length);
    Ok((answer, from))
}

pub fn datagrams_reach_pods_and_answers_come_back() {
    let neighbour = Neighbour::new();
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let socket = network.bind_udp(&pod(2), 5353).unwrap();
        let answering = tokio::spawn(async move {
            loop {
                let datagram = socket.receive().await;
                let answer = [datagram.peer.ip().to_string().as_bytes(), b" ", &datagram.bytes].concat();
                let _ = socket.send(answer.into(), datagram.peer);
            }
        });
        let to = at("10.64.0.2:5353");
        let begun = Instant::now();
        let (said, from) = loop {
            match tokio::task::spawn_blocking(move || ask_by_datagram(to, b"ping")).await.unwrap() {
                Ok(answer) => break answer,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        assert_eq!((String::from_utf8(said).unwrap(), from), (format!("{HOST} ping"), to));
        // Larger than the link's packets.
        let (said, from) = neighbour.run(move || ask_by_datagram(to, &[b'x'; 20_000])).unwrap();
        assert_eq!((said.len(), from), (20_000 + THERE.to_string().len() + 1, to));
        assert!(said.starts_with(THERE.to_string().as_bytes()));
        // Closed ports refuse, though the host has one of that number.
        let _host = UdpSocket::bind("0.0.0.0:5354").unwrap();
        for client in [None, Some(&neighbour)] {
            let closed = || ask_by_datagram(at("10.64.0.2:5354"), b"ping");
            let refused = client.map_or_else(closed, |neighbour| neighbour.run(closed)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        served.stop().await;
        answering.abort();
    });
}
