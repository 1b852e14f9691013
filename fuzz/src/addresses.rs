//! Addresses that a pod connects to: what belongs to the cluster or to the pod itself is never dialled outside, whatever
//! clothes the address comes in, and a port that listens on loopback is nobody else's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use k8w_networking::{Endpoint, Network, Objects, PodIdentity, PodListener, Tables};
use serde_json::json;

/// An input is a byte for who asks, one for how the address is spelled, 16 of an address, and a port.
pub fn check(input: &[u8]) {
    let Some((&[who, form], rest)) = input.split_first_chunk() else { return };
    let Some((&address, rest)) = rest.split_first_chunk::<16>() else { return };
    let Some((&port, _)) = rest.split_first_chunk() else { return };
    let [a, b, c, d, ..] = address;
    let ip: IpAddr = match form % 4 {
        0 => Ipv4Addr::new(a, b, c, d).into(),
        1 => Ipv4Addr::new(a, b, c, d).to_ipv6_mapped().into(),
        2 => Ipv4Addr::new(10, a, b, c).into(),
        _ => Ipv6Addr::from(address).into(),
    };
    let dst = SocketAddr::new(ip, u16::from_be_bytes(port));
    let node = node();
    let from = (who % 2 == 0).then_some(&node.pod);
    let Ok(endpoint) = node.network.select(from, dst) else { return };
    match endpoint {
        Endpoint::Remote(to) => leaves(from, dst, to),
        Endpoint::Listener(queue) => {
            let own = queue.address().ip() == node.pod.ip;
            assert!(queue.address() == OPEN || own && from.is_some(), "{dst} gives {}", queue.address());
        }
        Endpoint::Local(_) => panic!("{dst} is no component"),
        Endpoint::Peer(_) => panic!("there are no other nodes"),
    }
}

/// Listens on the other pod's own address, for everybody.
const OPEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 64, 0, 3)), 8080);
/// An endpoint of a Service on another node.
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 64, 64, 9)), 8080);
const SERVICE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 7)), 80);

/// What may be dialled outside.
fn leaves(from: Option<&PodIdentity>, dst: SocketAddr, to: SocketAddr) {
    let plain = SocketAddr::new(dst.ip().to_canonical(), dst.port());
    if to == ELSEWHERE {
        assert_eq!(plain, SERVICE, "only by the Service's address");
        return;
    }
    assert_eq!(to, plain);
    if let IpAddr::V4(ip) = to.ip() {
        let [a, b, ..] = ip.octets();
        assert!(!(a == 10 && (b == 64 || b == 96)), "{to} belongs to the cluster");
    }
    assert!(from.is_none() || !to.ip().is_loopback() && !to.ip().is_unspecified(), "{to} is the host's own");
}

struct Node {
    network: Arc<Network>,
    pod: PodIdentity,
    _listening: [PodListener; 3],
}

fn node() -> &'static Node {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(|| {
        let network = crate::network::node();
        let service = json!({
            "metadata": {"namespace": "a", "name": "web"},
            "spec": {"clusterIPs": [SERVICE.ip()], "ports": [{"port": SERVICE.port()}]},
        });
        let slice = json!({
            "metadata": {"namespace": "a", "name": "web", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ELSEWHERE.ip()], "conditions": {"ready": true}}],
            "ports": [{"port": ELSEWHERE.port()}],
        });
        let services = [Arc::new(serde_json::from_value(service).expect("a Service"))];
        let slices = [Arc::new(serde_json::from_value(slice).expect("an EndpointSlice"))];
        network.update(Tables::build(
            &Objects { services: &services, endpoint_slices: &slices, ..Objects::default() },
            "node",
        ));
        let pod = |name: &str, ip: IpAddr| PodIdentity {
            namespace: "a".to_owned(),
            name: name.to_owned(),
            uid: name.to_owned(),
            ip,
            service_account: "default".to_owned(),
        };
        let (own, other) = (pod("own", Ipv4Addr::new(10, 64, 0, 2).into()), pod("other", OPEN.ip()));
        let listening = [
            network.bind_tcp_loopback(&own, 80).now_or_never(),
            network.bind_tcp_loopback(&other, 80).now_or_never(),
            network.bind_tcp(&other, OPEN.port()).now_or_never(),
        ];
        let listening = listening.map(|bound| bound.and_then(Result::ok).expect("a free port"));
        Node { network, pod: own, _listening: listening }
    })
}
