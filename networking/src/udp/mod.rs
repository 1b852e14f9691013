//! A pod's UDP sockets without a socket: datagrams in this process are handed over whole.
//!
//! Two pods can both have port 53, because a port belongs to a pod's address and not to the host. A client that sends to a
//! Service's address keeps its endpoint while it goes on sending, and sees the answers come from the Service's address.
//! What goes to pods of other nodes goes through a tunnel to each; what goes to hosts outside goes through one real socket,
//! opened for the first such datagram. Datagrams may be lost, as everywhere: what does not fit into its receiver's buffer is.

mod door;
mod flows;
mod host_socket;
pub(crate) mod node_port;
mod part;
mod tunnel;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::door::{Clients, Door};
use self::flows::Flows;
pub(crate) use self::part::PartSocket;
use self::tunnel::Tunnel;
pub(crate) use self::tunnel::Tunnels;
use crate::endpoint::PodIdentity;
use crate::network::{EPHEMERAL_PORTS, Network, Refused};
use crate::origin::Origin;
use crate::peers::{Claim, Peer};
use crate::policy::End;
use crate::registry::Owner;
use crate::service::{Protocol, ServicePort};
use crate::tables::Tables;
use crate::{open_files, reach};

/// Largest payload of a datagram over IPv4 (RFC 768, RFC 791).
pub const MAX_DATAGRAM_BYTES: usize = 65_507;
/// Payload that may wait in front of one socket (Linux's `net.core.rmem_default`).
const RECEIVE_BUFFER_BYTES: usize = 212_992;
/// Datagrams that may wait in front of one socket, however small.
const RECEIVE_QUEUE_DATAGRAMS: usize = 1_024;
/// A pause after a failed receive, which does not pass by trying.
pub(crate) const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// A datagram as its receiver sees it.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub bytes: Bytes,
    /// Where it came from, and where an answer goes.
    pub peer: SocketAddr,
    /// The door that it came in by, if that is a real socket.
    door: Option<Arc<Door>>,
}

/// The sending side of a port.
#[derive(Clone)]
pub(crate) struct Queue {
    owner: Owner,
    ip: IpAddr,
    /// Bound to the pod's loopback address: only the pod itself is heard.
    private: bool,
    datagrams: mpsc::Sender<Datagram>,
    waiting_bytes: Arc<AtomicUsize>,
}

impl Queue {
    fn new(owner: Owner, ip: IpAddr, private: bool, datagrams: mpsc::Sender<Datagram>) -> Self {
        Self { owner, ip, private, datagrams, waiting_bytes: Arc::default() }
    }

    /// Who is there, to a NetworkPolicy.
    fn end(&self) -> End<'_> {
        self.owner.end(self.ip)
    }

    pub fn admits(&self, from: Option<IpAddr>) -> bool {
        !self.private || from == Some(self.ip)
    }

    /// Makes room for another, now that this one was taken out.
    fn taken(&self, datagram: &Datagram) {
        self.waiting_bytes.fetch_sub(datagram.bytes.len(), Ordering::AcqRel);
    }

    /// Hands a datagram over, or loses it.
    fn offer(&self, datagram: Datagram) {
        let length = datagram.bytes.len();
        let before = self.waiting_bytes.fetch_add(length, Ordering::AcqRel);
        if before + length > RECEIVE_BUFFER_BYTES || self.datagrams.try_send(datagram).is_err() {
            self.waiting_bytes.fetch_sub(length, Ordering::AcqRel);
        }
    }
}

/// Every pod's own port space.
#[derive(Default)]
pub(crate) struct Ports {
    queues: RwLock<HashMap<SocketAddr, Queue>>,
    changes: watch::Sender<()>,
}

impl Ports {
    pub fn get(&self, address: SocketAddr) -> Option<Queue> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    /// Tells when something has come or gone.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Every address that others than the pod itself can send to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.iter().filter(|(_, queue)| queue.admits(None)).map(|(address, _)| *address).collect()
    }

    fn claim(&self, address: SocketAddr, queue: &Queue) -> bool {
        let is_free = match self.queues.write().unwrap_or_else(PoisonError::into_inner).entry(address) {
            Entry::Vacant(free) => {
                free.insert(queue.clone());
                true
            }
            Entry::Occupied(_) => false,
        };
        if is_free {
            self.changes.send_replace(());
        }
        is_free
    }

    fn release(&self, address: SocketAddr) {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).remove(&address);
        self.changes.send_replace(());
    }
}

/// Where a datagram goes.
pub(crate) enum Hop {
    /// To a port in this process.
    Pod(Queue),
    /// To a pod of another node.
    Peer(Peer),
    Outside(SocketAddr),
}

impl Hop {
    /// Who is there, to a NetworkPolicy.
    fn end(&self) -> End<'_> {
        match self {
            Hop::Pod(queue) => queue.end(),
            Hop::Peer(peer) => End::Address(peer.address.ip()),
            Hop::Outside(address) => End::Address(address.ip()),
        }
    }
}

/// A pod's UDP socket. Dropping it gives the port back.
pub struct PodSocket {
    network: Arc<Network>,
    pod: PodIdentity,
    address: SocketAddr,
    queue: Queue,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Datagram>>,
    flows: Arc<Mutex<Flows>>,
    /// Real sockets, for IPv4 and IPv6.
    outside: Mutex<[Option<Outside>; 2]>,
}

struct Outside {
    socket: Arc<std::net::UdpSocket>,
    _receiving: AbortOnDropHandle<()>,
}

impl Network {
    /// Takes a UDP port of the pod's own address; port 0 picks a free one. Errors: `AddrInUse`.
    pub fn bind_udp(self: &Arc<Self>, pod: &PodIdentity, port: u16) -> io::Result<PodSocket> {
        self.bind_socket(pod, port, false)
    }

    /// Likewise on the pod's loopback address: only the pod itself is heard.
    pub fn bind_udp_loopback(self: &Arc<Self>, pod: &PodIdentity, port: u16) -> io::Result<PodSocket> {
        self.bind_socket(pod, port, true)
    }

    fn bind_socket(self: &Arc<Self>, pod: &PodIdentity, port: u16, private: bool) -> io::Result<PodSocket> {
        let (datagrams, incoming) = mpsc::channel(RECEIVE_QUEUE_DATAGRAMS);
        let queue = Queue::new(Owner::Pod(Arc::new(pod.clone())), pod.ip, private, datagrams);
        let claim = |port| {
            let address = SocketAddr::new(pod.ip, port);
            self.udp_ports().claim(address, &queue).then_some(address)
        };
        let address = match port {
            0 => EPHEMERAL_PORTS.clone().find_map(|_| claim(self.ephemeral_port())),
            port => claim(port),
        };
        Ok(PodSocket {
            address: address.ok_or(io::ErrorKind::AddrInUse)?,
            network: self.clone(),
            pod: pod.clone(),
            queue,
            incoming: tokio::sync::Mutex::new(incoming),
            flows: Arc::default(),
            outside: Mutex::default(),
        })
    }

    /// An endpoint of a Service and what stands behind it: the one that is `known` from earlier datagrams while it is one.
    pub(crate) fn hop_of(
        &self,
        port: &ServicePort,
        origin: Origin<'_>,
        known: Option<SocketAddr>,
    ) -> Result<(SocketAddr, Hop), Refused> {
        if !port.admits(origin) {
            return Err(Refused::SourceRanges { service: port.service.to_string() });
        }
        let find = |address| Some((address, self.hop_at(address)?));
        let known = known.filter(|endpoint| port.endpoints(origin).contains(endpoint)).and_then(find);
        let chosen = known.or_else(|| self.choose(port, origin, find));
        chosen.ok_or_else(|| Refused::NoEndpoints { service: port.service.to_string() })
    }

    /// A port of a pod of this node, for who comes from another node, or by a port of this one.
    pub(crate) fn own_queue(&self, address: SocketAddr) -> Result<Queue, Refused> {
        let queue = self.udp_ports().get(address).filter(|queue| queue.owner.is_pod() && queue.admits(None));
        queue.ok_or(Refused::NothingListens(address))
    }

    /// What stands behind an endpoint's address. A pod of this node that has no such port is nothing.
    fn hop_at(&self, address: SocketAddr) -> Option<Hop> {
        match self.udp_ports().get(address) {
            Some(queue) => queue.admits(None).then_some(Hop::Pod(queue)),
            None if self.is_taken(address, Protocol::Udp) => None,
            None => Some(self.peer_at(address).map_or(Hop::Outside(address), Hop::Peer)),
        }
    }
}

impl PodSocket {
    /// The pod's address and the port that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address that a peer at `remote` is seen by: the pod's loopback is its own address.
    pub fn peer_of(&self, remote: SocketAddr) -> SocketAddr {
        reach::as_seen_by(Some(&self.pod), remote)
    }

    /// Sends a datagram of at most [`MAX_DATAGRAM_BYTES`]. That it was sent does not mean that it arrives. Errors:
    /// `ConnectionRefused` when it is known that nobody is there, and what a real socket gives.
    pub fn send(&self, bytes: Bytes, remote: SocketAddr) -> io::Result<()> {
        let now = Instant::now();
        // A client of the node on the host's loopback is none of the pod's own.
        let door = self.flows().doors.get(remote, now).cloned();
        if let Some(door) = door {
            return door.send_to(&bytes, remote);
        }
        let remote = self.peer_of(remote);
        match self.hop(remote, now)? {
            Hop::Pod(queue) => queue.offer(Datagram { bytes, peer: self.address, door: None }),
            Hop::Peer(peer) => self.send_to_peer(bytes, peer, now),
            Hop::Outside(address) => {
                let socket = self.outside(address)?;
                self.flows().outside.set(address, (), now);
                socket.send_to(&bytes, address)?;
            }
        }
        Ok(())
    }

    /// Sends to a pod of another node, by the tunnel of earlier datagrams while it is open.
    fn send_to_peer(&self, bytes: Bytes, peer: Peer, now: Instant) {
        let address = peer.address;
        let mut flows = self.flows();
        let known = flows.tunnels.get(address, now).filter(|tunnel| !tunnel.has_ended()).cloned();
        let tunnel = known.unwrap_or_else(|| {
            let (queue, claim) = (self.queue.clone(), Claim::of(Origin::Pod(&self.pod)));
            let answers = move |bytes| queue.offer(Datagram { bytes, peer: address, door: None });
            Arc::new(Tunnel::open(self.network.clone(), self.address, claim, peer, answers))
        });
        tunnel.send(bytes);
        flows.tunnels.set(address, tunnel, now);
    }

    /// The next datagram, in order of arrival. Cancel safe.
    pub async fn receive(&self) -> Datagram {
        let received = self.incoming.lock().await.recv().await;
        match received {
            Some(datagram) => self.received(datagram),
            // This socket holds a sender itself.
            None => std::future::pending().await,
        }
    }

    /// The next datagram, if one is there.
    pub fn try_receive(&self) -> Option<Datagram> {
        let received = self.incoming.try_lock().ok()?.try_recv().ok()?;
        Some(self.received(received))
    }

    fn received(&self, mut datagram: Datagram) -> Datagram {
        self.queue.taken(&datagram);
        let now = Instant::now();
        let mut flows = self.flows();
        if let Some(door) = datagram.door.take() {
            flows.doors.set(datagram.peer, door, now);
            return datagram;
        }
        flows.heard.set(datagram.peer, (), now);
        if let Some(service) = flows.services.get(datagram.peer, now) {
            datagram.peer = *service;
        }
        datagram
    }

    /// Where a datagram to `remote` goes, if the policies of both ends allow it: each datagram is decided on.
    fn hop(&self, remote: SocketAddr, now: Instant) -> Result<Hop, Refused> {
        let tables = self.network.load_tables();
        let (address, hop) = self.find(&tables, remote, now)?;
        let pod = &self.pod;
        let allowed = tables.policies.allows(End::Pod(pod), hop.end(), address.port(), Protocol::Udp)
            || self.flows().heard.get(address, now).is_some();
        if allowed { Ok(hop) } else { Err(Refused::NotAllowed(remote)) }
    }

    /// What `remote` stands for, and who is there.
    fn find(&self, tables: &Tables, remote: SocketAddr, now: Instant) -> Result<(SocketAddr, Hop), Refused> {
        let (network, pod) = (&self.network, &self.pod);
        let own = network.udp_ports().get(remote);
        let Some(port) = tables.virtual_port(remote, Protocol::Udp).filter(|_| own.is_none()) else {
            // Who is spoken to directly answers so, though a Service led there before.
            self.flows().services.remove(remote);
            let hop = match own {
                Some(queue) => queue.admits(Some(pod.ip)).then_some(Hop::Pod(queue)),
                None if network.may_leave(Some(pod), remote) => Some(Hop::Outside(remote)),
                None => network.peer_at(remote).map(Hop::Peer),
            };
            return hop.map(|hop| (remote, hop)).ok_or(Refused::NothingListens(remote));
        };
        let known = self.flows().endpoints.get(remote, now).copied();
        let (endpoint, hop) = network.hop_of(port, Origin::Pod(pod), known)?;
        let mut flows = self.flows();
        flows.endpoints.set(remote, endpoint, now);
        flows.services.set(endpoint, remote, now);
        Ok((endpoint, hop))
    }

    fn outside(&self, remote: SocketAddr) -> io::Result<Arc<std::net::UdpSocket>> {
        let mut all = self.outside.lock().unwrap_or_else(PoisonError::into_inner);
        let place = &mut all[usize::from(remote.is_ipv6())];
        if let Some(outside) = place {
            return Ok(outside.socket.clone());
        }
        // A new socket of the runtime's cannot send until it was polled.
        let socket = std::net::UdpSocket::bind(any_like(remote))?;
        open_files::check_room(&socket)?;
        socket.set_nonblocking(true)?;
        let receiver = UdpSocket::from_std(socket.try_clone()?)?;
        let receiving = tokio::spawn(receive_outside(receiver, self.queue.clone(), self.flows.clone()));
        let socket = Arc::new(socket);
        *place = Some(Outside { socket: socket.clone(), _receiving: AbortOnDropHandle::new(receiving) });
        Ok(socket)
    }

    fn flows(&self) -> MutexGuard<'_, Flows> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for PodSocket {
    fn drop(&mut self) {
        self.network.udp_ports().release(self.address);
    }
}

/// Any address of this machine's that a peer can be sent to from, and any port.
fn any_like(peer: SocketAddr) -> SocketAddr {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, 0)
}

/// A real socket that sends to one peer, and hears nobody else.
pub(crate) async fn connected(peer: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any_like(peer)).await?;
    socket.connect(peer).await?;
    Ok(socket)
}

/// Takes in what peers outside answer.
async fn receive_outside(socket: UdpSocket, queue: Queue, flows: Arc<Mutex<Flows>>) {
    let mut buffer = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(FAILURE_PAUSE).await;
            continue;
        };
        let known = flows.lock().unwrap_or_else(PoisonError::into_inner).outside.get(peer, Instant::now()).is_some();
        if known {
            queue.offer(Datagram { bytes: Bytes::copy_from_slice(&buffer[..length]), peer, door: None });
        }
    }
}
