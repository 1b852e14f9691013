//! Cluster DNS, asked over the host's sockets.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream, UdpSocket};

use k8w_networking::dns::wire::rr::RecordType;
use k8w_networking::dns::{server, wire};
use k8w_networking::{Objects, Tables};
use k8w_testkit::Neighbour;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::harness::*;

const SERVER: &str = "10.96.0.10:53";

fn over_udp(question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(SERVER).unwrap();
    let mut answer = vec![0; 65_535];
    socket.send(question).unwrap();
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

fn over_tcp(question: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(SERVER).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = u16::try_from(question.len()).unwrap();
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    answer
}

pub fn cluster_dns_answers_at_its_address() {
    let neighbour = Neighbour::new();
    // Another server of the host has the port.
    let _udp = UdpSocket::bind("0.0.0.0:53").unwrap();
    let _tcp = std::net::TcpListener::bind("0.0.0.0:53").unwrap();
    block_on(async {
        let network = network();
        let served = Served::start(&network).await;
        let stop = CancellationToken::new();
        let answering = tokio::spawn(server::serve(network.clone(), Vec::new, stop.clone()));
        let service = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "kubernetes"},
            "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"name": "https", "port": 443}]},
        }));
        let services = [std::sync::Arc::new(service.unwrap())];
        network.update(Tables::build(&Objects { services: &services, ..Objects::default() }, "here"));
        // Its port for TCP opens in the same transaction as the one for UDP.
        let begun = std::time::Instant::now();
        while TcpStream::connect(SERVER).is_err() {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let question = wire::question(7, wire::name("kubernetes.default.svc.cluster.local").unwrap(), RecordType::A);
        for way in [over_udp, over_tcp] {
            let asked = question.to_vec().unwrap();
            let here = tokio::task::spawn_blocking(move || way(&asked)).await.unwrap();
            let asked = question.to_vec().unwrap();
            for answer in [here, neighbour.run(move || way(&asked))] {
                let answer = wire::answer(&answer, &question).unwrap();
                let found: Vec<_> = answer.answers.iter().map(|record| record.data.ip_addr()).collect();
                assert_eq!(found, [Some(IpAddr::from([10, 96, 0, 1]))]);
            }
        }
        stop.cancel();
        answering.await.unwrap().unwrap();
        served.stop().await;
    });
}
