//! Clients that are no pods of this node: the doors that answers go out by, and what stands for each client.

use std::hash::Hash;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Instant;

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::flows::{FLOW_TIMEOUT, Peers};
use super::{Datagram, FAILURE_PAUSE, Hop, MAX_DATAGRAM_BYTES, Tunnel, connected, host_socket};
use crate::kernel::Answers;
use crate::network::{Network, Refused};
use crate::origin::Origin;
use crate::peers::Claim;
use crate::service::Protocol;
use crate::tables::Tables;

/// Where a client's datagrams came in, and answers to it go out. Nothing here blocks: what does not fit is lost.
#[derive(Debug)]
pub(crate) enum Door {
    /// A port of the node, at the address of it that the client asked. Whoever remembers it does not keep it open.
    NodePort { socket: Weak<OwnedFd>, from: IpAddr },
    /// An address of the cluster, by the kernel.
    Kernel { answers: Arc<Answers>, from: SocketAddrV4 },
    /// A tunnel from another node.
    Tunnel(mpsc::Sender<Bytes>),
}

impl Door {
    pub fn send_to(&self, bytes: &[u8], client: SocketAddr) -> io::Result<()> {
        match (self, client) {
            (Self::NodePort { socket, from }, client) => match socket.upgrade() {
                Some(socket) => host_socket::send(&socket, bytes, *from, client),
                // The port was closed meanwhile: what is answered is lost.
                None => Ok(()),
            },
            (Self::Kernel { answers, from }, SocketAddr::V4(client)) => answers.send(bytes, *from, client),
            (Self::Kernel { .. }, SocketAddr::V6(_)) => Err(io::ErrorKind::AddrNotAvailable.into()),
            (Self::Tunnel(answers), _) => {
                match answers.try_send(Bytes::copy_from_slice(bytes)) {
                    // What does not fit is lost.
                    Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
                    Err(TrySendError::Closed(_)) => Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
        }
    }
}

/// Where a client's datagrams go.
#[derive(Clone)]
struct Way {
    endpoint: SocketAddr,
    /// For an endpoint elsewhere.
    relay: Option<Arc<Relay>>,
}

/// What stands for one client elsewhere.
enum Relay {
    Socket { socket: Arc<UdpSocket>, _answering: AbortOnDropHandle<()> },
    Tunnel(Tunnel),
}

/// The clients of one door, or of several that `K` tells apart.
pub(crate) struct Clients<K> {
    known: Peers<K, Way>,
    sweeps: Interval,
}

impl<K: Copy + Eq + Hash> Clients<K> {
    pub fn new(max: usize) -> Self {
        let mut sweeps = tokio::time::interval(FLOW_TIMEOUT);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { known: Peers::new(max), sweeps }
    }

    /// Waits until it is time, and lets go of those that have been silent for too long: until then their relays take sockets
    /// of the host's. Cancel safe.
    pub async fn sweep(&mut self) {
        self.sweeps.tick().await;
        self.known.forget(Instant::now());
    }

    /// Hands a datagram to whom `find` says, who is told the endpoint that earlier ones went to, if the policies allow it.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own about one datagram")]
    pub async fn forward(
        &mut self,
        network: &Arc<Network>,
        key: K,
        client: SocketAddr,
        origin: Origin<'_>,
        door: &Arc<Door>,
        bytes: Bytes,
        find: impl FnOnce(&Tables, Option<SocketAddr>) -> Result<(SocketAddr, Hop), Refused>,
    ) -> io::Result<()> {
        let now = Instant::now();
        let known = self.known.get(key, now).cloned();
        let (endpoint, hop) = {
            let tables = network.load_tables();
            let (endpoint, hop) = find(&tables, known.as_ref().map(|way| way.endpoint))?;
            if !tables.policies.allows(origin.end(), hop.end(), endpoint.port(), Protocol::Udp) {
                return Err(Refused::NotAllowed(endpoint).into());
            }
            (endpoint, hop)
        };
        let relay = known.filter(|way| way.endpoint == endpoint).and_then(|way| way.relay);
        let relay = match (hop, relay.filter(|relay| !relay.has_ended())) {
            (Hop::Pod(queue), _) => {
                queue.offer(Datagram { bytes: bytes.clone(), peer: client, door: Some(door.clone()) });
                None
            }
            (_, Some(known)) => Some(known),
            (Hop::Peer(peer), None) => {
                let door = door.clone();
                let answers = move |bytes: Bytes| drop(door.send_to(&bytes, client));
                let tunnel = Tunnel::open(network.clone(), client, Claim::of(origin), peer, answers);
                Some(Arc::new(Relay::Tunnel(tunnel)))
            }
            (Hop::Outside(address), None) => Some(Arc::new(Relay::open(door.clone(), client, address).await?)),
        };
        match relay.as_deref() {
            Some(Relay::Socket { socket, .. }) => drop(socket.send(&bytes).await?),
            Some(Relay::Tunnel(tunnel)) => tunnel.send(bytes),
            None => {}
        }
        self.known.set(key, Way { endpoint, relay }, now);
        Ok(())
    }
}

impl Relay {
    async fn open(door: Arc<Door>, client: SocketAddr, endpoint: SocketAddr) -> io::Result<Relay> {
        let socket = Arc::new(connected(endpoint).await?);
        let answering = tokio::spawn(answer(socket.clone(), door, client));
        Ok(Relay::Socket { socket, _answering: AbortOnDropHandle::new(answering) })
    }

    fn has_ended(&self) -> bool {
        matches!(self, Self::Tunnel(tunnel) if tunnel.has_ended())
    }
}

/// Sends what the endpoint answers to the client, out of the door.
async fn answer(endpoint: Arc<UdpSocket>, door: Arc<Door>, client: SocketAddr) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        match endpoint.recv(&mut buffer).await {
            // What cannot be sent is lost.
            Ok(length) => drop(door.send_to(&buffer[..length], client)),
            Err(_) => tokio::time::sleep(FAILURE_PAUSE).await,
        }
    }
}
