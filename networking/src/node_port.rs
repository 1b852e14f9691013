//! The node's own ports that Services have: listeners that come and go with the tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::network::Network;
use crate::service::{Protocol, ServiceName, ServicePort};
use crate::stack::{self, Door};

/// A port that was taken is tried again after this time.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// A node port that cannot be opened now.
#[derive(Clone, Copy, Debug)]
pub struct Unavailable<'a> {
    pub service: &'a ServiceName,
    pub address: SocketAddr,
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
    let mut open: HashMap<SocketAddr, CancellationToken> = HashMap::new();
    let mut reported: BTreeSet<SocketAddr> = BTreeSet::new();
    let mut listeners = JoinSet::new();
    loop {
        let wanted = wanted(&network, &addresses);
        open.retain(|address, listener| {
            let keep = wanted.contains_key(address);
            if !keep {
                listener.cancel();
            }
            keep
        });
        reported.retain(|address| wanted.contains_key(address));
        for (address, service) in wanted {
            if open.contains_key(&address) {
                continue;
            }
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    reported.remove(&address);
                    let stop = stop.child_token();
                    open.insert(address, stop.clone());
                    listeners.spawn(listen(network.clone(), listener, address.port(), stop));
                }
                Err(error) => {
                    if reported.insert(address) {
                        failed(Unavailable { service: &service, address, error: &error });
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

fn wanted(network: &Network, addresses: &[IpAddr]) -> BTreeMap<SocketAddr, ServiceName> {
    let tables = network.load_tables();
    let ports = tables.node_ports().filter(|(_, port)| port.protocol == Protocol::Tcp);
    let at = |ip: &IpAddr, number, port: &ServicePort| (SocketAddr::new(*ip, number), port.service.clone());
    ports.flat_map(|(number, port)| addresses.iter().map(move |ip| at(ip, number, port))).collect()
}

async fn listen(network: Arc<Network>, listener: TcpListener, port: u16, stop: CancellationToken) {
    accept::connections(listener, stop.clone(), |socket, peer| {
        stack::connection(network.clone(), Door::NodePort(port), socket, peer, stop.clone())
    })
    .await;
}
