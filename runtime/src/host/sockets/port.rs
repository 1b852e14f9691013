//! Ports of a pod's own address, as both versions of `wasi:sockets` take them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use k8w_networking::PodListener;
use k8w_networking::udp::PodSocket;

use crate::host::pod_network::PodNetwork;

/// A claimed TCP port.
pub struct TcpPort {
    /// As the guest asked for it (it may be `0.0.0.0`), with the port that it got.
    pub local: SocketAddr,
    pub listener: Arc<PodListener>,
}

/// Claims a TCP port.
///
/// # Errors
/// `AddrNotAvailable` when the address is not the pod's, `AddrInUse`.
pub async fn bind_tcp(own: &PodNetwork, mut local: SocketAddr) -> io::Result<TcpPort> {
    let (network, pod) = (&own.network, &own.pod);
    let listener = match meant(own, local)? {
        Own::Loopback => network.bind_tcp_loopback(pod, local.port()).await?,
        Own::Address => network.bind_tcp(pod, local.port()).await?,
    };
    let listener = Arc::new(listener);
    own.listens(&listener);
    local.set_port(listener.local_addr().port());
    Ok(TcpPort { local, listener })
}

/// Claims a UDP port: its socket, and the address as the guest asked for it with the port that it got.
///
/// # Errors
/// As [`bind_tcp`].
pub fn bind_udp(own: &PodNetwork, mut local: SocketAddr) -> io::Result<(SocketAddr, PodSocket)> {
    let (network, pod) = (&own.network, &own.pod);
    let socket = match meant(own, local)? {
        Own::Loopback => network.bind_udp_loopback(pod, local.port())?,
        Own::Address => network.bind_udp(pod, local.port())?,
    };
    local.set_port(socket.local_addr().port());
    Ok((local, socket))
}

/// Which of a pod's addresses is meant.
enum Own {
    Loopback,
    Address,
}

fn meant(own: &PodNetwork, local: SocketAddr) -> io::Result<Own> {
    match local.ip().to_canonical() {
        ip if ip.is_loopback() => Ok(Own::Loopback),
        ip if ip.is_unspecified() || ip == own.pod.ip => Ok(Own::Address),
        _ => Err(io::ErrorKind::AddrNotAvailable.into()),
    }
}
