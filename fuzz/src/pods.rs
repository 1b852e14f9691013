//! Two pods of a node that have sockets, as those targets have them whose inputs are calls of `wasi:sockets`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use k8w_networking::Network;
use k8w_runtime::engine::Names;
use k8w_runtime::host::pod_network::PodNetwork;

pub use crate::network::{PODS, identity};

/// Sockets that each of them may have.
pub const MAX_SOCKETS: usize = 4;

/// What each has of the node's network.
pub fn networks(node: &Arc<Network>) -> [Arc<PodNetwork>; 2] {
    [0, 1].map(|pod| Arc::new(PodNetwork::new(node.clone(), identity(pod), Names::default(), MAX_SOCKETS)))
}

/// An address as a pod may be given it: its own, the other's, of no pod, of another family.
pub fn address(pod: usize, is_v6: bool, with: u8) -> SocketAddr {
    let v6 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        ip => ip,
    };
    let ip = match with % 8 {
        0 | 1 => PODS[pod],
        2 | 3 => PODS[1 - pod],
        4 => Ipv4Addr::UNSPECIFIED.into(),
        5 => Ipv4Addr::LOCALHOST.into(),
        6 => Ipv4Addr::new(10, 64, 0, 9).into(),
        _ => return SocketAddr::new(if is_v6 { PODS[pod] } else { Ipv6Addr::LOCALHOST.into() }, 80),
    };
    let ip = if is_v6 { v6(ip) } else { ip };
    SocketAddr::new(ip, [80, 81, 80, 0][usize::from(with / 8 % 4)])
}
