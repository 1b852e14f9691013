//! A port of the node for UDP: hands what comes in to a Service's endpoint or a pod, and lets the answers out by the same
//! port.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::door::{Clients, Door};
use super::flows::MAX_FLOWS;
use super::host_socket::{Received, receive};
use super::{FAILURE_PAUSE, Hop, MAX_DATAGRAM_BYTES, host_socket};
use crate::network::{Network, Refused};
use crate::node_port::Leads;
use crate::origin::Origin;
use crate::service::Protocol;
use crate::tables::Tables;

/// Serves one port until `stop`.
pub(crate) async fn serve(
    network: Arc<Network>,
    socket: UdpSocket,
    at: SocketAddr,
    leads: Leads,
    stop: CancellationToken,
) {
    let told = host_socket::tell_addresses(&socket, at.ip());
    let answering = match told.and_then(|()| socket.as_fd().try_clone_to_owned()) {
        Ok(clone) => Arc::new(clone),
        Err(error) => return tracing::warn!(%error, %at, "a port of the node cannot answer and is not served"),
    };
    let mut clients = Clients::new(MAX_FLOWS);
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer)) => received,
            () = clients.sweep() => continue,
        };
        let Ok(Received { length, client, to }) = received else {
            tokio::time::sleep(FAILURE_PAUSE).await;
            continue;
        };
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        let origin = Origin::Outside(client.ip());
        let door = Arc::new(Door::NodePort { socket: Arc::downgrade(&answering), from: to });
        let find = |tables: &Tables, known| match leads {
            Leads::ToPod => {
                let to = network.host_port(at, Protocol::Udp)?;
                network.own_queue(to).map(|queue| (to, Hop::Pod(queue)))
            }
            Leads::ToService | Leads::HealthCheck => {
                let port = at.port();
                let service = tables.node_port(port, Protocol::Udp).ok_or(Refused::NoSuchNodePort(port))?;
                network.hop_of(service, origin, known)
            }
        };
        if let Err(error) = clients.forward(&network, (client, to), client, origin, &door, bytes, find).await {
            tracing::debug!(%error, %at, "a datagram to a port of the node is lost");
        }
    }
}
