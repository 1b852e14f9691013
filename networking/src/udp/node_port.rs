//! A node port for UDP: hands what comes in to a Service's endpoint, and lets the answers out by the same port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::flows::Peers;
use super::{Datagram, Door, FAILURE_PAUSE, Hop, MAX_DATAGRAM_BYTES};
use crate::network::{Network, Refused};
use crate::origin::Origin;
use crate::service::Protocol;

/// Where a client's datagrams go.
#[derive(Clone)]
struct Way {
    endpoint: SocketAddr,
    /// For an endpoint outside of this process.
    relay: Option<Arc<Relay>>,
}

/// A real socket that stands for one client.
struct Relay {
    socket: Arc<UdpSocket>,
    _answering: AbortOnDropHandle<()>,
}

/// Serves one node port until `stop`.
pub(crate) async fn serve(network: Arc<Network>, socket: UdpSocket, port: u16, stop: CancellationToken) {
    let door = match socket.as_fd().try_clone_to_owned() {
        Ok(clone) => Arc::new(Door::from(clone)),
        Err(error) => return tracing::warn!(%error, port, "a node port cannot answer and is not served"),
    };
    let socket = Arc::new(socket);
    let mut clients: Peers<Way> = Peers::default();
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
            () = tokio::time::sleep(super::flows::FLOW_TIMEOUT) => {
                clients.forget(Instant::now());
                continue;
            }
        };
        let Ok((length, client)) = received else {
            tokio::time::sleep(FAILURE_PAUSE).await;
            continue;
        };
        let bytes = Bytes::copy_from_slice(&buffer[..length]);
        let way = Node { network: &network, socket: &socket, door: &door, port };
        if let Err(error) = way.forward(&mut clients, client, bytes).await {
            tracing::debug!(%error, port, "a datagram to a node port is lost");
        }
    }
}

/// The node's side of one port.
struct Node<'a> {
    network: &'a Network,
    socket: &'a Arc<UdpSocket>,
    /// The same socket.
    door: &'a Arc<Door>,
    port: u16,
}

impl Node<'_> {
    async fn forward(&self, clients: &mut Peers<Way>, client: SocketAddr, bytes: Bytes) -> io::Result<()> {
        let network = self.network;
        let now = Instant::now();
        let origin = Origin::Outside(client.ip());
        let known = clients.get(client, now).cloned();
        let (endpoint, hop) = {
            let tables = network.load_tables();
            let Some(port) = tables.node_port(self.port, Protocol::Udp) else { return Ok(()) };
            let (endpoint, hop) = network.hop_of(port, origin, known.as_ref().map(|way| way.endpoint))?;
            if !tables.policies.allows(origin.end(), hop.end(), endpoint.port(), Protocol::Udp) {
                return Err(Refused::NotAllowed(endpoint).into());
            }
            (endpoint, hop)
        };
        let relay = known.filter(|way| way.endpoint == endpoint).and_then(|way| way.relay);
        let relay = match hop {
            Hop::Pod(queue) => {
                queue.offer(Datagram { bytes, peer: client, door: Some(self.door.clone()) });
                None
            }
            Hop::Outside(address) => {
                let relay = match relay {
                    Some(relay) => relay,
                    None => Arc::new(Relay::open(self.socket.clone(), client, address).await?),
                };
                relay.socket.send(&bytes).await?;
                Some(relay)
            }
        };
        clients.set(client, Way { endpoint, relay }, now);
        Ok(())
    }
}

impl Relay {
    async fn open(door: Arc<UdpSocket>, client: SocketAddr, endpoint: SocketAddr) -> io::Result<Relay> {
        let unspecified: IpAddr =
            if endpoint.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = Arc::new(UdpSocket::bind((unspecified, 0)).await?);
        socket.connect(endpoint).await?;
        let answering = tokio::spawn(answer(socket.clone(), door, client));
        Ok(Relay { socket, _answering: AbortOnDropHandle::new(answering) })
    }
}

/// Sends what the endpoint answers to the client, out of the node port.
async fn answer(endpoint: Arc<UdpSocket>, door: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match endpoint.recv(&mut buffer).await {
            // What cannot be sent is lost.
            Ok(length) => drop(door.send_to(&buffer[..length], client).await),
            Err(_) => tokio::time::sleep(FAILURE_PAUSE).await,
        }
    }
}
