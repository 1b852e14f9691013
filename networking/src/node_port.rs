//! The node's own ports that Services and its pods have: listeners that come and go with the tables and the pods.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::endpoint::PodIdentity;
use crate::network::Network;
use crate::service::{Protocol, ServiceName};
use crate::stack::{self, Port};
use crate::{accept, health_check, udp};

/// A port that was taken is tried again after this time.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Door {
    address: SocketAddr,
    protocol: Protocol,
    leads: Leads,
}

/// Where a port leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Leads {
    ToService,
    ToPod,
    /// Nowhere: it tells load balancers about a Service.
    HealthCheck,
}

/// Whose a port is.
#[derive(Clone, Debug)]
pub enum PortOwner {
    Service(ServiceName),
    Pod(Arc<PodIdentity>),
}

/// A port that cannot be opened now.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable<'a> {
    pub owner: &'a PortOwner,
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub error: &'a io::Error,
}

/// Listens on the node ports of the network's tables and the host ports of its pods, at each of `addresses`, until `stop`. A
/// port that cannot be bound is told to `failed`, once, and tried again; the others are served all the same.
pub async fn serve(
    network: Arc<Network>,
    addresses: Vec<IpAddr>,
    failed: impl Fn(Unavailable<'_>),
    stop: CancellationToken,
) {
    let mut changes = network.changes();
    let mut open: HashMap<Door, CancellationToken> = HashMap::new();
    // Sockets of UDP that are told to close: one that is wanted again is opened once it has. (TCP drains without its listener.)
    let mut closing: HashSet<Door> = HashSet::new();
    let mut reported: BTreeSet<Door> = BTreeSet::new();
    let mut listeners = JoinSet::new();
    loop {
        let wanted = wanted(&network, &addresses);
        open.retain(|door, listener| {
            let keep = wanted.contains_key(door);
            if !keep {
                listener.cancel();
                if door.protocol == Protocol::Udp {
                    closing.insert(*door);
                }
            }
            keep
        });
        reported.retain(|door| wanted.contains_key(door));
        for (door, owner) in wanted {
            if open.contains_key(&door) || closing.contains(&door) {
                continue;
            }
            match Listener::bind(door).await {
                Ok(listener) => {
                    reported.remove(&door);
                    let stop = stop.child_token();
                    open.insert(door, stop.clone());
                    let serving = listener.serve(network.clone(), door, stop);
                    listeners.spawn(serving.map(move |()| door));
                }
                Err(error) => {
                    if reported.insert(door) {
                        let Door { address, protocol, .. } = door;
                        failed(Unavailable { owner: &owner, address, protocol, error: &error });
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = changes.changed() => {}
            Some(ended) = listeners.join_next() => match ended {
                Ok(door) => drop(closing.remove(&door)),
                // Whose it was is not known.
                Err(_) => closing.clear(),
            },
            () = tokio::time::sleep(RETRY_INTERVAL), if !reported.is_empty() => {}
        }
    }
    while listeners.join_next().await.is_some() {}
}

fn wanted(network: &Network, addresses: &[IpAddr]) -> BTreeMap<Door, PortOwner> {
    let tables = network.load_tables();
    let host_ports = network.host_ports().all();
    let of_service = |service: &ServiceName| PortOwner::Service(service.clone());
    // Without endpoints a port for UDP is closed: the kernel then refuses what is sent there, as nobody else can.
    let ports = tables.node_ports().filter(|(_, port)| port.protocol != Protocol::Udp || !port.cluster.is_empty());
    let ports = ports.map(|(number, port)| (None, number, port.protocol, Leads::ToService, of_service(&port.service)));
    let checks = tables.health_checks().iter();
    let checks =
        checks.map(|(number, check)| (None, *number, Protocol::Tcp, Leads::HealthCheck, of_service(&check.service)));
    let pods = host_ports.iter();
    let pods =
        pods.map(|(host, lead)| (host.ip, host.port, host.protocol, Leads::ToPod, PortOwner::Pod(lead.pod.clone())));
    let all = ports.chain(checks).chain(pods).filter(|(_, _, protocol, ..)| *protocol != Protocol::Sctp);
    let doors = all.flat_map(|(ip, number, protocol, leads, owner)| {
        let ips = ip.map_or_else(|| addresses.to_vec(), |ip| vec![ip]);
        let at = move |ip| Door { address: SocketAddr::new(ip, number), protocol, leads };
        ips.into_iter().map(move |ip| (at(ip), owner.clone()))
    });
    doors.collect()
}

enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
    HealthCheck(TcpListener),
}

impl Listener {
    async fn bind(Door { address, protocol, leads }: Door) -> io::Result<Self> {
        match protocol {
            Protocol::Tcp if leads == Leads::HealthCheck => Ok(Self::HealthCheck(TcpListener::bind(address).await?)),
            Protocol::Tcp => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Protocol::Udp => Ok(Self::Udp(UdpSocket::bind(address).await?)),
            Protocol::Sctp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn serve(self, network: Arc<Network>, Door { address, leads, .. }: Door, stop: CancellationToken) {
        match self {
            Self::Tcp(listener) => {
                let port = if leads == Leads::ToPod { Port::Host(address) } else { Port::Node(address.port()) };
                accept::connections(listener, stop.clone(), |socket, peer| {
                    stack::connection(network.clone(), stack::Door::Port(port), socket, peer, stop.clone())
                })
                .await;
            }
            Self::Udp(socket) => udp::node_port::serve(network, socket, address, leads, stop).await,
            Self::HealthCheck(listener) => health_check::serve(network, listener, address.port(), stop).await,
        }
    }
}
