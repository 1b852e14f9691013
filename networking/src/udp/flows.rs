//! What a socket remembers of its peers, as connection tracking does for a real one.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Door, Tunnel};

/// Peers of each sort that are remembered, unless said otherwise.
pub(super) const MAX_FLOWS: usize = 1024;
/// How long a peer is remembered without a datagram (`nf_conntrack_udp_timeout_stream`).
pub(super) const FLOW_TIMEOUT: Duration = Duration::from_secs(120);

/// A bounded table of peers that forgets.
pub(super) struct Peers<K, T> {
    known: HashMap<K, (T, Instant)>,
    max: usize,
}

impl<K, T> Default for Peers<K, T> {
    fn default() -> Self {
        Self { known: HashMap::new(), max: MAX_FLOWS }
    }
}

impl<K: Copy + Eq + Hash, T> Peers<K, T> {
    /// One with room for `max`; beyond it the table is emptied of the expired, then of everything.
    pub fn new(max: usize) -> Self {
        Self { max, ..Self::default() }
    }

    pub fn get(&self, peer: K, now: Instant) -> Option<&T> {
        let (known, last) = self.known.get(&peer)?;
        (now.saturating_duration_since(*last) < FLOW_TIMEOUT).then_some(known)
    }

    /// Remembers what stands for a peer, from now on.
    pub fn set(&mut self, peer: K, known: T, now: Instant) {
        if self.known.len() >= self.max && !self.known.contains_key(&peer) {
            self.forget(now);
            if self.known.len() >= self.max {
                self.known.clear();
            }
        }
        self.known.insert(peer, (known, now));
    }

    pub fn remove(&mut self, peer: K) {
        self.known.remove(&peer);
    }

    /// Lets go of those that have been silent for too long.
    pub fn forget(&mut self, now: Instant) {
        self.known.retain(|_, (_, last)| now.saturating_duration_since(*last) < FLOW_TIMEOUT);
    }
}

/// The peers of one pod's socket.
#[derive(Default)]
pub(super) struct Flows {
    /// The endpoint that each Service's address led to.
    pub endpoints: Peers<SocketAddr, SocketAddr>,
    /// The Service's address that an endpoint answers for.
    pub services: Peers<SocketAddr, SocketAddr>,
    /// The door through which a peer came.
    pub doors: Peers<SocketAddr, Arc<Door>>,
    /// The ways to pods of other nodes.
    pub tunnels: Peers<SocketAddr, Arc<Tunnel>>,
    /// Peers outside that were sent something: what others outside send is none of the pod's.
    pub outside: Peers<SocketAddr, ()>,
    /// Peers whose datagrams came in: an answer to them needs no policy's leave.
    pub heard: Peers<SocketAddr, ()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_forgotten_after_a_silence_and_never_too_many() {
        let start = Instant::now();
        let address = |port: usize| SocketAddr::from(([192, 0, 2, 1], port as u16));
        let mut peers = Peers::default();
        peers.set(address(1), 'a', start);
        assert_eq!(peers.get(address(1), start + FLOW_TIMEOUT / 2), Some(&'a'));
        assert_eq!(peers.get(address(1), start + FLOW_TIMEOUT), None);
        for port in 0..2 * MAX_FLOWS {
            peers.set(address(port), 'b', start);
            assert!(peers.known.len() <= MAX_FLOWS);
        }
        assert_eq!(peers.get(address(2 * MAX_FLOWS - 1), start), Some(&'b'));
    }
}
