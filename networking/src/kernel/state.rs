//! What of the kernel is ours, kept as the network is.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::rules::{self, Ports, Sets};
use super::{Error, program, routes};
use crate::network::Network;
use crate::service::Protocol;

/// The least time between two changes of the sets, so that a burst of pods becomes one.
const CHANGE_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether rules and routes are still there: a firewall that is loaded anew takes all tables away.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct State {
    /// Of this node's pods.
    pods: Ipv4Net,
    services: Ipv4Net,
    /// Ranges of the cluster that are not this node's.
    elsewhere: Vec<IpNet>,
    ports: Ports,
    /// What the kernel has now.
    sets: Sets,
}

impl State {
    pub fn new(network: &Network, ports: Ports) -> Result<Self, Error> {
        let mut own = network.own_ranges().filter_map(v4).filter(|range| range.prefix_len() <= 29);
        let (Some(pods), Some(services), None) = (own.next(), own.next(), own.next()) else {
            return Err(Error::Ranges);
        };
        let is_elsewhere = |range: &&IpNet| ![IpNet::from(pods), services.into()].contains(range);
        let elsewhere = network.cluster_ranges().iter().filter(is_elsewhere).copied().collect();
        Ok(Self { pods, services, elsewhere, ports, sets: Sets::default() })
    }

    /// Refuses ranges that somebody else uses: what is sent there would not arrive any more.
    pub async fn check(&self) -> Result<(), Error> {
        let foreign = routes::foreign("all").await?;
        for (range, option) in [(self.pods, "--wasm-cidr"), (self.services, "--service-cidr")] {
            if let Some(device) = routes::overlap(&foreign, range) {
                return Err(Error::Routed { range, device: device.to_owned(), option });
            }
        }
        Ok(())
    }

    /// Makes routes and table, in place of what was there.
    pub async fn install(&self) -> Result<(), Error> {
        program::nft(&rules::table(&[self.pods, self.services], self.own_address(), self.ports)).await?;
        routes::flush().await?;
        routes::add_address(self.own_address()).await?;
        for range in [self.pods, self.services] {
            routes::add_local(range, self.own_address()).await?;
        }
        for range in &self.elsewhere {
            routes::add_unreachable(*range).await?;
        }
        Ok(())
    }

    pub async fn remove(&self) -> Result<(), Error> {
        let routes = routes::flush().await;
        program::nft(&rules::removal()).await.and(routes)
    }

    /// Keeps the sets as the network is, until `stop`.
    pub async fn follow(&mut self, network: &Network, stop: &CancellationToken) {
        let mut tables = network.changes();
        let [mut tcp, mut udp] = network.port_changes();
        let mut checks = tokio::time::interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_whole = true;
        loop {
            if is_whole && let Err(error) = self.update(network).await {
                warn!(error = &error as &dyn std::error::Error, "the kernel's network could not be changed");
                is_whole = false;
            }
            if !is_whole {
                warn!("making the kernel's network anew");
                match self.renew(network).await {
                    Ok(()) => is_whole = true,
                    Err(error) => {
                        warn!(error = &error as &dyn std::error::Error, "the kernel's network is not up to date");
                    }
                }
            }
            is_whole = tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = tables.changed() => is_whole,
                Ok(()) = tcp.changed() => is_whole,
                Ok(()) = udp.changed() => is_whole,
                _ = checks.tick() => is_whole && self.look().await,
            };
            tokio::time::sleep(CHANGE_INTERVAL).await;
        }
    }

    async fn update(&mut self, network: &Network) -> Result<(), Error> {
        let v4 = |address| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        };
        let listening = |protocol| network.listening(protocol).into_iter().filter_map(v4).collect();
        let (tcp, udp): (BTreeSet<SocketAddrV4>, BTreeSet<SocketAddrV4>) =
            (listening(Protocol::Tcp), listening(Protocol::Udp));
        let outside = network.outside_addresses().into_iter().filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        });
        let mut addresses: BTreeSet<Ipv4Addr> = outside.collect();
        if !addresses.is_subset(&self.sets.addresses) {
            // One that is this machine's anyway has ports that are not ours to refuse.
            let others = routes::foreign("local").await?;
            addresses.retain(|ip| self.sets.addresses.contains(ip) || !routes::lead_to(&others, *ip));
        }
        for ip in addresses.difference(&self.sets.addresses) {
            routes::add_local((*ip).into(), self.own_address()).await?;
        }
        let wanted = Sets { tcp, udp, addresses };
        if let Some(change) = rules::change(&self.sets, &wanted) {
            program::nft(&change).await?;
        }
        let before = std::mem::replace(&mut self.sets, wanted);
        for ip in before.addresses.difference(&self.sets.addresses) {
            routes::remove_local(*ip).await?;
        }
        Ok(())
    }

    async fn renew(&mut self, network: &Network) -> Result<(), Error> {
        self.install().await?;
        self.sets = Sets::default();
        self.update(network).await
    }

    /// Whether rules and routes are still there.
    async fn look(&self) -> bool {
        let rules = program::nft_says(&["list", "chain", "ip", "k8w", "input"]).await;
        let routes = routes::ours().await;
        rules.is_ok_and(|shown| shown.contains("reject"))
            && routes.is_ok_and(|routes| self.routed().all(|to| routes::have(&routes, to)))
    }

    /// What has a route of ours.
    fn routed(&self) -> impl Iterator<Item = Ipv4Net> {
        let addresses = self.sets.addresses.iter().copied().chain([self.own_address()]).map(Ipv4Net::from);
        let elsewhere = self.elsewhere.iter().copied().filter_map(v4);
        [self.pods, self.services].into_iter().chain(elsewhere).chain(addresses)
    }

    /// This machine's address among those of its pods: the first, a gateway's by custom, which no pod is given.
    fn own_address(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.pods.network()) + 1)
    }

    /// An address of ours that no pod is given, and that nobody sends to.
    pub fn unused_address(&self) -> Ipv4Addr {
        self.pods.broadcast()
    }
}

fn v4(range: IpNet) -> Option<Ipv4Net> {
    match range {
        IpNet::V4(range) => Some(range),
        IpNet::V6(_) => None,
    }
}
