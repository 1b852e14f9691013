//! The node's own ports that Services have: listeners that come and go with the tables.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accept;
use crate::network::Network;
use crate::service::Protocol;
use crate::stack::{self, Door};

/// A port that was taken is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Listens on the node ports of the network's tables, at each of `addresses`, until `stop`. A port that cannot be bound is
/// told to `failed`, once, and tried again; the others are served all the same.
pub async fn serve(
    network: Arc<Network>,
    addresses: Vec<IpAddr>,
    failed: impl Fn(SocketAddr, &io::Error),
    stop: CancellationToken,
) {
    let mut changes = network.changes();
    let mut open: HashMap<SocketAddr, CancellationToken> = HashMap::new();
    let mut reported: BTreeSet<SocketAddr> = BTreeSet::new();
    let mut listeners = JoinSet::new();
    loop {
        let wanted = wanted(&network, &addresses);
        open.retain(|address, listener| {
            let keep = wanted.contains(address);
            if !keep {
                listener.cancel();
            }
            keep
        });
        reported.retain(|address| wanted.contains(address));
        for address in wanted.iter().filter(|address| !open.contains_key(*address)).copied().collect::<Vec<_>>() {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    reported.remove(&address);
                    let stop = stop.child_token();
                    open.insert(address, stop.clone());
                    listeners.spawn(listen(network.clone(), listener, address.port(), stop));
                }
                Err(error) => {
                    if reported.insert(address) {
                        failed(address, &error);
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

fn wanted(network: &Network, addresses: &[IpAddr]) -> BTreeSet<SocketAddr> {
    let tables = network.load_tables();
    let ports = tables.node_ports().filter(|(_, protocol)| *protocol == Protocol::Tcp);
    ports.flat_map(|(port, _)| addresses.iter().map(move |ip| SocketAddr::new(*ip, port))).collect()
}

async fn listen(network: Arc<Network>, listener: TcpListener, port: u16, stop: CancellationToken) {
    accept::connections(listener, stop.clone(), |socket, peer| {
        stack::connection(network.clone(), Door::NodePort(port), socket, peer, stop.clone())
    })
    .await;
}
