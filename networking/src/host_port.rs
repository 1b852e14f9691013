//! The node's own ports that pods of it have (`ports.hostPort`): whose they are, while the pods are there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;

use crate::endpoint::PodIdentity;
use crate::network::{Network, Refused};
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
    fn address(&self) -> SocketAddr {
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
    /// Every port that a pod has.
    pub fn all(&self) -> Arc<BTreeMap<HostPort, Lead>> {
        self.leads.load_full()
    }

    fn set(&self, host: HostPort, lead: &Lead) {
        self.leads.rcu(|leads| {
            let mut leads = BTreeMap::clone(leads);
            leads.insert(host, lead.clone());
            leads
        });
    }

    /// Whether the port was still that registration's.
    fn remove(&self, host: HostPort, id: u64) -> bool {
        let mut was_there = false;
        self.leads.rcu(|leads| {
            let mut leads = BTreeMap::clone(leads);
            was_there = leads.get(&host).is_some_and(|lead| lead.id == id);
            if was_there {
                leads.remove(&host);
            }
            leads
        });
        was_there
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
        ports.set(host, &lead);
        self.tell_changed();
        HostPortRegistration { network: Arc::downgrade(self), host, id }
    }

    /// Where a client is led that came in at `address`.
    ///
    /// # Errors
    /// When no pod has that port.
    pub(crate) fn host_port(&self, address: SocketAddr, protocol: Protocol) -> Result<SocketAddr, Refused> {
        let leads = self.host_ports().all();
        let at = |ip| leads.get(&HostPort { protocol, port: address.port(), ip });
        let lead = at(Some(address.ip())).or_else(|| at(None));
        lead.map(Lead::address).ok_or(Refused::NoSuchHostPort(address.port()))
    }
}

impl Drop for HostPortRegistration {
    fn drop(&mut self) {
        let Some(network) = self.network.upgrade() else { return };
        if network.host_ports().remove(self.host, self.id) {
            network.tell_changed();
        }
    }
}
