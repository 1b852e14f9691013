use k8w_networking::dns::{server, wire};
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
        socket.send(wire::question(id, name, wire::Kind::A).unwrap().into(), network.dns_server()).unwrap();
    };
    let answered = async || {
        let answer = tokio::time::timeout(PATIENCE, socket.receive()).await.expect("no answer");
        (u16::from_be_bytes([answer.bytes[0], answer.bytes[1]]), wire::records(&answer.bytes).unwrap())
    };
    // More than all that are answered at a time; the last of them are told so at once.
    for id in 0..1200 {
        ask(id, "elsewhere.example");
        tokio::task::yield_now().await;
    }
    for _ in 512..1200 {
        assert_eq!(answered().await.1, []);
    }
    ask(7000, "web.default.svc.cluster.local");
    loop {
        let (id, records) = answered().await;
        if id == 7000 {
            let found: Vec<_> = records.into_iter().map(|record| record.data).collect();
            assert_eq!(found, [wire::Data::Address("10.96.0.9".parse().unwrap())]);
            break;
        }
    }
}
