use std::net::{IpAddr, SocketAddr};

use k8w_networking::dns::server;
use k8w_networking::dns::wire::op::{Message, ResponseCode};
use k8w_networking::dns::wire::rr::RecordType;
use k8w_networking::dns::wire::{self, MAX_DATAGRAM_BYTES};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::harness::*;

#[tokio::test]
async fn names_of_the_cluster_do_not_wait_for_servers_outside() {
    let network = network();
    network.update(Cluster::default().service("web", "10.96.0.9", None, &[]).tables());
    // It is there and never answers.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstreams = vec![silent.local_addr().unwrap()];
    tokio::spawn(server::serve(network.clone(), move || upstreams.clone(), CancellationToken::new()));
    let socket = network.bind_udp(&pod(5), 0).unwrap();
    while network.connect(Some(&pod(5)), network.dns_server()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let ask = |id: u16, name: &str| {
        let question = wire::question(id, wire::name(name).unwrap(), RecordType::A);
        socket.send(question.to_vec().unwrap().into(), network.dns_server()).unwrap();
    };
    let answered = async || {
        let answer = tokio::time::timeout(PATIENCE, socket.receive()).await.expect("no answer");
        Message::from_vec(&answer.bytes).unwrap()
    };
    // More than all that are answered at a time; the last of them are told so at once.
    for id in 0..1200 {
        ask(id, "elsewhere.example");
        tokio::task::yield_now().await;
    }
    for _ in 512..1200 {
        assert_eq!(answered().await.answers, []);
    }
    ask(7000, "web.default.svc.cluster.local");
    loop {
        let answer = answered().await;
        if answer.id == 7000 {
            let found: Vec<IpAddr> = answer.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
            assert_eq!(found, ["10.96.0.9".parse::<IpAddr>().unwrap()]);
            break;
        }
    }
}

#[tokio::test]
async fn answers_are_made_as_the_protocol_wants_them() {
    let network = network();
    // The pods of a Service without an address of its own: more than fit into a datagram.
    let pods: Vec<SocketAddr> = (1..=200).map(|last| SocketAddr::from(([10, 64, 7, last], 80))).collect();
    network.update(Cluster::default().service("db", "None", None, &pods).tables());
    tokio::spawn(server::serve(network.clone(), Vec::new, CancellationToken::new()));
    let socket = network.bind_udp(&pod(5), 0).unwrap();
    let mut stream = loop {
        match network.connect(Some(&pod(5)), network.dns_server()).await {
            Ok(stream) => break stream,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    // As some clients write it, so that nobody else can answer.
    let name = wire::name("dB.Default.sVc.cluster.LOCAL").unwrap();
    let asked = wire::question(7, name.clone(), RecordType::A);
    let by_datagram = async |question: &Message| {
        socket.send(question.to_vec().unwrap().into(), network.dns_server()).unwrap();
        tokio::time::timeout(PATIENCE, socket.receive()).await.expect("no answer").bytes
    };
    let head = |message: &Message| {
        (message.authoritative, message.recursion_available, message.recursion_desired, message.response_code)
    };

    let answer = by_datagram(&asked).await;
    assert!((1_200..=1_232).contains(&answer.len()), "{}", answer.len());
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(head(&answer), (true, true, true, ResponseCode::NoError));
    assert!(answer.truncation && answer.queries[0].name.eq_case(&name));
    assert_eq!(answer.max_payload(), MAX_DATAGRAM_BYTES);
    let mut plain = asked.clone();
    (plain.edns, plain.metadata.recursion_desired) = (None, false);
    let answer = by_datagram(&plain).await;
    assert!((480..=512).contains(&answer.len()), "{}", answer.len());
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(head(&answer), (true, true, false, ResponseCode::NoError));
    assert!(answer.truncation && answer.edns.is_none());

    let question = asked.to_vec().unwrap();
    stream.write_u16(question.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&question).await.unwrap();
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.truncation, answer.answers.len()), (false, pods.len()));

    // Ports come with the addresses of what they are of.
    let answer = by_datagram(&wire::question(7, name.clone(), RecordType::SRV)).await;
    assert!(Message::from_vec(&answer).unwrap().truncation);
    let one = Cluster::default().service("db", "None", None, &pods[..1]);
    network.update(one.tables());
    let answer = by_datagram(&wire::question(7, name.clone(), RecordType::SRV)).await;
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!(answer.answers[0].data.to_string(), "0 100 80 10-64-7-1.db.default.svc.cluster.local.");
    assert_eq!(answer.additionals[0].data.ip_addr(), Some(pods[0].ip()));

    for (name, code) in
        [("Gone.default.svc.cluster.local", ResponseCode::NXDomain), ("svc.cluster.local", ResponseCode::NoError)]
    {
        let answer = by_datagram(&wire::question(7, wire::name(name).unwrap(), RecordType::A)).await;
        let answer = Message::from_vec(&answer).unwrap();
        assert_eq!((answer.response_code, answer.answers.len()), (code, 0));
        let said = answer.authorities[0].to_string();
        let soa = "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5";
        assert_eq!(said, format!("cluster.local. 5 IN SOA {soa}"));
    }
    // Nobody is there to be asked for others.
    let answer = by_datagram(&wire::question(7, wire::name("elsewhere.example").unwrap(), RecordType::A)).await;
    assert_eq!(head(&Message::from_vec(&answer).unwrap()), (false, true, true, ResponseCode::ServFail));
}
