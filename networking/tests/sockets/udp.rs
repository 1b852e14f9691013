use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use k8w_networking::udp::{Datagram, PodSocket};
use k8w_networking::{HostPort, Network, Protocol};
use tokio::net::UdpSocket;

use crate::harness::*;
use crate::node_ports;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub async fn received(socket: &PodSocket) -> Datagram {
    tokio::time::timeout(PATIENCE, socket.receive()).await.expect("no datagram comes")
}

/// Answers every datagram with its own text in upper case, until the test ends.
pub fn shout(socket: PodSocket) {
    tokio::spawn(async move {
        loop {
            let datagram = socket.receive().await;
            socket.send(datagram.bytes.to_ascii_uppercase().into(), datagram.peer).unwrap();
        }
    });
}

/// Likewise on a real socket.
async fn shout_outside() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
            socket.send_to(&buffer[..length].to_ascii_uppercase(), peer).await.unwrap();
        }
    });
    address
}

/// Sends a datagram and gives the answer with where it came from.
pub async fn ask(socket: &PodSocket, text: &'static str, remote: SocketAddr) -> (String, SocketAddr) {
    socket.send(text.into(), remote).unwrap();
    let answer = received(socket).await;
    (String::from_utf8(answer.bytes.to_vec()).unwrap(), answer.peer)
}

#[tokio::test]
async fn two_pods_have_the_same_port_and_loopback_is_their_own() {
    let network = network();
    let (a, b) = (pod(2), pod(3));
    let sockets = (network.bind_udp(&a, 53).unwrap(), network.bind_udp(&b, 53).unwrap());
    assert_eq!(network.bind_udp(&a, 53).map(drop).unwrap_err().kind(), ErrorKind::AddrInUse);
    let picked = network.bind_udp(&a, 0).unwrap();
    assert!(picked.local_addr().port() >= 32768);
    picked.send("to b".into(), sockets.1.local_addr()).unwrap();
    let at_b = received(&sockets.1).await;
    assert_eq!((&at_b.bytes[..], at_b.peer), (&b"to b"[..], picked.local_addr()));
    picked.send("to a".into(), address("127.0.0.1:53")).unwrap();
    assert_eq!(received(&sockets.0).await.bytes, "to a", "a pod's loopback is its own");

    let private = network.bind_udp_loopback(&a, 54).unwrap();
    let refused = sockets.1.send("x".into(), private.local_addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    picked.send("own".into(), private.local_addr()).unwrap();
    assert_eq!(received(&private).await.bytes, "own");

    drop(sockets);
    let gone = picked.send("x".into(), address("10.64.0.3:53")).unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused, "an address of the cluster never leaves the process");
}

#[tokio::test]
async fn a_service_leads_to_one_endpoint_and_answers_by_its_own_address() {
    let network = network();
    let endpoints = [3, 4].map(|last| network.bind_udp(&pod(last), 5353).unwrap());
    let addresses = [endpoints[0].local_addr(), endpoints[1].local_addr()];
    network.update(Cluster::default().udp_service("dns", "10.96.0.9", None, &addresses).tables());
    let service = address("10.96.0.9:80");
    let client = network.bind_udp(&pod(2), 0).unwrap();
    client.send("first".into(), service).unwrap();
    let chosen = tokio::select! {
        _ = received(&endpoints[0]) => 0,
        _ = received(&endpoints[1]) => 1,
    };
    for _ in 0..20 {
        client.send("more".into(), service).unwrap();
        assert_eq!(received(&endpoints[chosen]).await.peer, client.local_addr(), "the endpoint is kept");
    }
    endpoints[chosen].send("answer".into(), client.local_addr()).unwrap();
    assert_eq!(received(&client).await.peer, service);
    // Spoken to directly, it answers so.
    client.send("direct".into(), addresses[chosen]).unwrap();
    received(&endpoints[chosen]).await;
    endpoints[chosen].send("answer".into(), client.local_addr()).unwrap();
    assert_eq!(received(&client).await.peer, addresses[chosen]);
    // The endpoint goes away, and the client gets the other.
    let [first, second] = endpoints;
    let left = if chosen == 0 {
        drop(first);
        second
    } else {
        drop(second);
        first
    };
    client.send("again".into(), service).unwrap();
    assert_eq!(received(&left).await.bytes, "again");
    drop(left);
    assert_eq!(client.send("x".into(), service).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn an_endpoint_outside_answers_through_the_service_and_strangers_are_not_heard() {
    let network = network();
    let outside = shout_outside().await;
    network.update(Cluster::default().udp_service("dns", "10.96.0.9", None, &[outside]).tables());
    let client = network.bind_udp(&pod(2), 0).unwrap();
    let service = address("10.96.0.9:80");
    assert_eq!(ask(&client, "question", service).await, ("QUESTION".to_owned(), service));
}

#[tokio::test]
async fn what_a_slow_reader_does_not_take_is_lost_and_nothing_grows() {
    let network = network();
    let (slow, sender) = (network.bind_udp(&pod(2), 53).unwrap(), network.bind_udp(&pod(3), 0).unwrap());
    for _ in 0..100 {
        sender.send(vec![0; 60_000].into(), slow.local_addr()).unwrap();
    }
    let mut kept = 0;
    while slow.try_receive().is_some() {
        kept += 1;
    }
    assert_eq!(kept, 3);
    sender.send("small".into(), slow.local_addr()).unwrap();
    assert_eq!(received(&slow).await.bytes, "small");
}

/// A client outside that has sent to a node port as soon as that is open, and its answer.
async fn ask_node_port(port: u16) -> (String, SocketAddr) {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 1500];
    let answered = async {
        loop {
            // Nobody may be there yet, which the next call then says.
            let _ = client.send_to(b"hello", ("127.0.0.1", port)).await;
            let answer =
                tokio::time::timeout(std::time::Duration::from_millis(20), client.recv_from(&mut buffer)).await;
            if let Ok(Ok((length, peer))) = answer {
                return (String::from_utf8(buffer[..length].to_vec()).unwrap(), peer);
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the node port does not answer")
}

#[tokio::test]
async fn a_node_port_leads_to_pods_and_to_endpoints_elsewhere() {
    let network = network();
    let (_failures, _stop) = node_ports::start(&network);
    let inside = network.bind_udp(&pod(3), 5353).unwrap();
    let endpoint = inside.local_addr();
    shout(inside);
    let ports = [free_port().await, free_port().await];
    let cluster = Cluster::default().udp_service("inside", "10.96.0.9", Some(ports[0]), &[endpoint]).udp_service(
        "outside",
        "10.96.0.8",
        Some(ports[1]),
        &[shout_outside().await],
    );
    network.update(cluster.tables());
    for port in ports {
        let expected = ("HELLO".to_owned(), SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(ask_node_port(port).await, expected, "the answer comes from the node port");
    }
}

#[tokio::test]
async fn a_node_port_without_endpoints_refuses() {
    let network = network();
    let (_failures, _stop) = node_ports::start(&network);
    let inside = network.bind_udp(&pod(3), 5353).unwrap();
    let endpoints = [shout_outside().await, inside.local_addr()];
    shout(inside);
    for endpoint in endpoints {
        refuses_without(&network, endpoint).await;
    }
}

/// Also where a pod remembers clients to answer.
async fn refuses_without(network: &Arc<Network>, endpoint: SocketAddr) {
    let port = free_port().await;
    let cluster = |endpoints: &[SocketAddr]| {
        Cluster::default().udp_service("shouting", "10.96.0.9", Some(port), endpoints).tables()
    };
    network.update(cluster(&[endpoint]));
    ask_node_port(port).await;
    network.update(cluster(&[]));
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", port)).await.unwrap();
    let refused = async {
        loop {
            // What is on its way is answered.
            let sent = client.send(b"hello").await.map(drop);
            let answered = tokio::time::timeout(std::time::Duration::from_millis(20), client.recv(&mut [0; 16])).await;
            if let Err(error) = sent.and(answered.unwrap_or(Ok(0)).map(drop)) {
                return error.kind();
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, refused).await.expect("the node port is silent");
    assert_eq!(refused, ErrorKind::ConnectionRefused);
    network.update(cluster(&[endpoint]));
    assert_eq!(ask_node_port(port).await.0, "HELLO", "it is open again");
}

#[tokio::test]
async fn a_host_port_leads_to_its_pod() {
    let network = network();
    let (_failures, _stop) = node_ports::start(&network);
    shout(network.bind_udp(&pod(3), 5353).unwrap());
    let host = HostPort { protocol: Protocol::Udp, port: free_port().await, ip: None };
    let _lead = network.register_host_port(host, &pod(3), 5353);
    let expected = ("HELLO".to_owned(), SocketAddr::from(([127, 0, 0, 1], host.port)));
    assert_eq!(ask_node_port(host.port).await, expected);
}

async fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
