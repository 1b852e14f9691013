//! What listens where on this node: every pod's own port space, read without a lock.
//!
//! Look-ups are on the path of every request, registrations are as rare as pod starts. The map is cut into shards, each an
//! immutable map that is copied and swapped on change, so that a node with ten thousand pods copies a few hundred entries.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::endpoint::{Endpoint, PodIdentity};
use crate::peers::Peer;
use crate::policy::{End, Part};

const SHARDS: usize = 64;

type Shard = HashMap<SocketAddr, Entry>;

/// What stands at an address.
#[derive(Clone)]
pub(crate) struct Registered {
    pub endpoint: Endpoint,
    pub owner: Owner,
}

/// Whose port it is.
#[derive(Clone)]
pub(crate) enum Owner {
    Pod(Arc<PodIdentity>),
    /// A part of k8w.
    Part(&'static Part),
    /// The API server's, wherever it runs.
    ApiServer,
    /// That of something outside of this process.
    Nobody,
}

impl Owner {
    pub fn is_pod(&self) -> bool {
        matches!(self, Self::Pod(_))
    }

    /// Who is there, to a NetworkPolicy.
    pub fn end(&self, ip: IpAddr) -> End<'_> {
        match self {
            Self::Pod(pod) => End::Pod(pod),
            Self::Part(part) => End::Part(part, ip),
            Self::ApiServer | Self::Nobody => End::Address(ip),
        }
    }
}

impl Registered {
    /// A port of a pod of this node.
    pub fn of_pod(pod: &PodIdentity, endpoint: Endpoint) -> Self {
        Self { endpoint, owner: Owner::Pod(Arc::new(pod.clone())) }
    }

    /// A port of a part of k8w.
    pub fn of_part(part: &'static Part, endpoint: Endpoint) -> Self {
        Self { endpoint, owner: Owner::Part(part) }
    }

    /// Something that listens at this address outside of this process.
    pub fn elsewhere(address: SocketAddr) -> Self {
        Self { endpoint: Endpoint::Remote(address), owner: Owner::Nobody }
    }

    /// The API server, which listens at this address.
    pub fn api_server(address: SocketAddr) -> Self {
        Self { endpoint: Endpoint::Remote(address), owner: Owner::ApiServer }
    }

    /// A port of a pod of another node.
    pub fn of_peer(peer: Peer) -> Self {
        Self { endpoint: Endpoint::Peer(peer), owner: Owner::Nobody }
    }

    /// Whether it is a port of a pod of this node.
    pub fn is_pods(&self) -> bool {
        self.owner.is_pod()
    }

    /// Whether a client at `from` may connect at all.
    pub fn admits(&self, from: Option<IpAddr>) -> bool {
        match &self.endpoint {
            Endpoint::Listener(queue) => queue.admits(from),
            Endpoint::Local(_) | Endpoint::Peer(_) | Endpoint::Remote(_) => true,
        }
    }
}

#[derive(Clone)]
struct Entry {
    /// Tells a registration from a later one at the same address.
    id: u64,
    registered: Registered,
}

/// Endpoints of this node by pod address and port.
pub(crate) struct Registry {
    shards: Vec<ArcSwap<Shard>>,
    hasher: RandomState,
    next_id: AtomicU64,
    changes: watch::Sender<()>,
}

impl Registry {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            hasher: RandomState::new(),
            next_id: AtomicU64::new(1),
            changes: watch::Sender::default(),
        })
    }

    /// Tells when something has come or gone.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Every address that others than the pod itself can connect to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for shard in &self.shards {
            let shard = shard.load();
            let open = shard.iter().filter(|(_, entry)| entry.registered.admits(None));
            addresses.extend(open.map(|(address, _)| *address));
        }
        addresses
    }

    // By address alone, so that all ports of a pod share a shard.
    fn shard(&self, ip: IpAddr) -> &ArcSwap<Shard> {
        &self.shards[self.hasher.hash_one(ip) as usize % SHARDS]
    }

    pub fn get(&self, address: SocketAddr) -> Option<Registered> {
        self.shard(address.ip()).load().get(&address).map(|entry| entry.registered.clone())
    }

    /// Puts something at `address`, in place of what was there.
    pub fn replace(self: &Arc<Self>, address: SocketAddr, registered: Registered) -> Registration {
        let entry = Entry { id: self.next_id.fetch_add(1, Ordering::Relaxed), registered };
        self.shard(address.ip()).rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.insert(address, entry.clone());
            shard
        });
        self.changes.send_replace(());
        Registration { registry: self.clone(), address, id: entry.id }
    }

    /// Puts something at `address`; `None` when something is there already.
    pub fn claim(self: &Arc<Self>, address: SocketAddr, registered: Registered) -> Option<Registration> {
        let entry = Entry { id: self.next_id.fetch_add(1, Ordering::Relaxed), registered };
        let mut claimed = false;
        self.shard(address.ip()).rcu(|shard| {
            claimed = !shard.contains_key(&address);
            if !claimed {
                return shard.clone();
            }
            let mut shard = Shard::clone(shard);
            shard.insert(address, entry.clone());
            Arc::new(shard)
        });
        if !claimed {
            return None;
        }
        self.changes.send_replace(());
        Some(Registration { registry: self.clone(), address, id: entry.id })
    }

    fn remove(&self, address: SocketAddr, id: u64) {
        let mut was_there = false;
        self.shard(address.ip()).rcu(|shard| {
            was_there = shard.get(&address).is_some_and(|entry| entry.id == id);
            if !was_there {
                return shard.clone();
            }
            let mut shard = Shard::clone(shard);
            shard.remove(&address);
            Arc::new(shard)
        });
        if was_there {
            self.changes.send_replace(());
        }
    }
}

/// Something that can be reached at an address, for as long as this lives.
#[must_use = "what is registered is gone when this is dropped"]
pub struct Registration {
    registry: Arc<Registry>,
    address: SocketAddr,
    id: u64,
}

impl Registration {
    /// Where it can be reached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.remove(self.address, self.id);
    }
}

impl std::fmt::Debug for Registration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registration").field(&self.address).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(port: u16) -> Registered {
        Registered::elsewhere(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn at(registry: &Registry, address: SocketAddr) -> Option<u16> {
        match registry.get(address)?.endpoint {
            Endpoint::Remote(a) => Some(a.port()),
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn dropping_an_older_registration_keeps_the_newer_one() {
        let registry = Registry::new();
        let address = SocketAddr::from(([10, 64, 0, 2], 8080));
        let old = registry.replace(address, remote(1));
        let new = registry.replace(address, remote(2));
        drop(old);
        assert_eq!(at(&registry, address), Some(2));
        drop(new);
        assert_eq!(at(&registry, address), None);
    }

    #[test]
    fn a_claimed_address_cannot_be_claimed_again_until_it_is_free() {
        let registry = Registry::new();
        let address = SocketAddr::from(([10, 64, 0, 2], 8080));
        let first = registry.claim(address, remote(1)).unwrap();
        assert!(registry.claim(address, remote(2)).is_none());
        assert_eq!(at(&registry, address), Some(1));
        drop(first);
        assert!(registry.claim(address, remote(2)).is_some());
    }
}
