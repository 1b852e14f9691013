//! The node's own ports that Services have: listeners that come and go with the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::network::Network;
use crate::service::{Protocol, ServiceName};
use crate::{accept, health_check, stack, udp};

/// A port that was taken is tried again after this time.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What a node port listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Door {
    address: SocketAddr,
    protocol: Protocol,
    /// Whether it tells load balancers about a Service, in place of leading to it.
    is_health_check: bool,
}

/// A node port that cannot be opened now.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable<'a> {
    pub service: &'a ServiceName,
    pub address: SocketAddr,
    pub protocol: Protocol,
    pub error: &'a io::Error,
}

/// Listens on the node ports of the network's tables, at each of `addresses`, until `stop`. A port that cannot be bound is
/// told to `failed`, once, and tried again; the others are served all the same.
pub async fn serve(
    network: Arc<Network>,
    addresses: Vec<IpAddr>,
    failed: impl Fn(Unavailable<'_>),
    stop: CancellationToken,
) {
    let mut changes = network.changes();
    let mut open: HashMap<Door, CancellationToken> = HashMap::new();
    let mut reported: BTreeSet<Door> = BTreeSet::new();
    let mut listeners = JoinSet::new();
    loop {
        let wanted = wanted(&network, &addresses);
        open.retain(|door, listener| {
            let keep = wanted.contains_key(door);
            if !keep {
                listener.cancel();
            }
            keep
        });
        reported.retain(|door| wanted.contains_key(door));
        for (door, service) in wanted {
            if open.contains_key(&door) {
                continue;
            }
            match Listener::bind(door).await {
                Ok(listener) => {
                    reported.remove(&door);
                    let stop = stop.child_token();
                    open.insert(door, stop.clone());
                    listeners.spawn(listener.serve(network.clone(), door.address.port(), stop));
                }
                Err(error) => {
                    if reported.insert(door) {
                        let Door { address, protocol, .. } = door;
                        failed(Unavailable { service: &service, address, protocol, error: &error });
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => break,
            Ok(()) = changes.changed() => {}
            Some(_) = listeners.join_next() => {}
            () = tokio::time::sleep(RETRY_INTERVAL), if !reported.is_empty() => {}
        }
    }
    while listeners.join_next().await.is_some() {}
}

fn wanted(network: &Network, addresses: &[IpAddr]) -> BTreeMap<Door, ServiceName> {
    let tables = network.load_tables();
    let ports = tables.node_ports().filter(|(_, port)| port.protocol != Protocol::Sctp);
    let ports = ports.map(|(number, port)| (number, port.protocol, false, &port.service));
    let checks = tables.health_checks().iter().map(|(number, check)| (*number, Protocol::Tcp, true, &check.service));
    let doors = ports.chain(checks).flat_map(|(number, protocol, is_health_check, service)| {
        let at = move |ip: &IpAddr| Door { address: SocketAddr::new(*ip, number), protocol, is_health_check };
        addresses.iter().map(move |ip| (at(ip), service.clone()))
    });
    doors.collect()
}

enum Listener {
    Tcp(TcpListener),
    Udp(UdpSocket),
    HealthCheck(TcpListener),
}

impl Listener {
    async fn bind(Door { address, protocol, is_health_check }: Door) -> io::Result<Self> {
        match protocol {
            Protocol::Tcp if is_health_check => Ok(Self::HealthCheck(TcpListener::bind(address).await?)),
            Protocol::Tcp => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Protocol::Udp => Ok(Self::Udp(UdpSocket::bind(address).await?)),
            Protocol::Sctp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    async fn serve(self, network: Arc<Network>, port: u16, stop: CancellationToken) {
        match self {
            Self::Tcp(listener) => {
                accept::connections(listener, stop.clone(), |socket, peer| {
                    stack::connection(
                        network.clone(),
                        stack::Door::Port(stack::Port::Node(port)),
                        socket,
                        peer,
                        stop.clone(),
                    )
                })
                .await;
            }
            Self::Udp(socket) => udp::node_port::serve(network, socket, port, stop).await,
            Self::HealthCheck(listener) => health_check::serve(network, listener, port, stop).await,
        }
    }
}
