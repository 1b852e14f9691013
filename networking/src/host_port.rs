//! The node's own ports that pods of it have (`ports.hostPort`): whose they are, while the pods are there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::endpoint::PodIdentity;
use crate::network::Network;
use crate::service::Protocol;

/// A port of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    pub protocol: Protocol,
    pub port: u16,
    /// Which of the node's addresses; `None` for every one.
    pub ip: Option<IpAddr>,
}

/// Where a port of the node leads.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    /// Tells a registration from a later one of the same port.
    id: u64,
    pub pod: Arc<PodIdentity>,
    /// The pod's own port.
    pub port: u16,
}

impl Lead {
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.pod.ip, self.port)
    }
}

/// All of a node's, read without a lock.
#[derive(Debug, Default)]
pub(crate) struct HostPorts {
    leads: ArcSwap<BTreeMap<HostPort, Lead>>,
    next_id: AtomicU64,
}

impl HostPorts {
    /// Where a client is led that came in at `address`.
    pub fn get(&self, address: SocketAddr, protocol: Protocol) -> Option<SocketAddr> {
        let leads = self.leads.load();
        let at = |ip| leads.get(&HostPort { protocol, port: address.port(), ip });
        at(Some(address.ip())).or_else(|| at(None)).map(Lead::address)
    }

    /// Every port that a pod has.
    pub fn all(&self) -> Arc<BTreeMap<HostPort, Lead>> {
        self.leads.load_full()
    }

    fn change(&self, change: impl Fn(&mut BTreeMap<HostPort, Lead>)) {
        self.leads.rcu(|leads| {
            let mut leads = BTreeMap::clone(leads);
            change(&mut leads);
            leads
        });
    }
}

/// Holds a port of the node for a pod until it is dropped.
#[derive(Debug)]
pub struct HostPortRegistration {
    network: Weak<Network>,
    host: HostPort,
    id: u64,
}

impl Network {
    /// Leads a port of the node to a port of a pod, in place of one that had it before.
    pub fn register_host_port(self: &Arc<Self>, host: HostPort, pod: &PodIdentity, port: u16) -> HostPortRegistration {
        let ports = self.host_ports();
        let id = ports.next_id.fetch_add(1, Ordering::Relaxed);
        let lead = Lead { id, pod: Arc::new(pod.clone()), port };
        ports.change(|leads| _ = leads.insert(host, lead.clone()));
        self.tell_changed();
        HostPortRegistration { network: Arc::downgrade(self), host, id }
    }
}

impl Drop for HostPortRegistration {
    fn drop(&mut self) {
        let Some(network) = self.network.upgrade() else { return };
        network.host_ports().change(|leads| {
            if leads.get(&self.host).is_some_and(|lead| lead.id == self.id) {
                leads.remove(&self.host);
            }
        });
        network.tell_changed();
    }
}
