//! Which endpoint of a Service's port a connection or request gets.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Instant;

use crate::origin::Origin;
use crate::service::{Protocol, ServiceName, ServicePort};

/// Clients with a remembered endpoint. Beyond it the table is emptied of the expired, then of everything.
const MAX_AFFINITIES: usize = 65_536;

impl ServicePort {
    /// The endpoints that a client from `origin` may get, each once, beginning at a place that `random` decides: the
    /// first is the choice, the others are what to fall back on when nothing listens there any more.
    pub fn candidates(&self, origin: Origin<'_>, random: usize) -> impl Iterator<Item = SocketAddr> {
        let only_local = if origin.is_external() { self.external_local } else { self.internal_local };
        let eligible = if only_local { &self.targets[..self.local_targets] } else { &self.targets };
        let start = random.checked_rem(eligible.len()).unwrap_or(0);
        let (before, from) = eligible.split_at(start);
        from.iter().chain(before).copied()
    }
}

/// Which endpoint each client of a Service with session affinity was given.
#[derive(Default)]
pub struct Affinities {
    clients: Mutex<HashMap<Key, (SocketAddr, Instant)>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    service: ServiceName,
    port: u16,
    protocol: Protocol,
    client: IpAddr,
}

impl Key {
    fn new(port: &ServicePort, client: IpAddr) -> Self {
        Self { service: port.service.clone(), port: port.port, protocol: port.protocol, client }
    }
}

impl Affinities {
    /// The endpoint that `client` had, if that is not too long ago and it still is one.
    pub fn get(&self, port: &ServicePort, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let timeout = port.affinity?;
        let clients = self.clients.lock().ok()?;
        let (address, last) = *clients.get(&Key::new(port, client))?;
        let fresh = now.saturating_duration_since(last) < timeout;
        (fresh && port.targets.contains(&address)).then_some(address)
    }

    /// Remembers what `client` was given.
    pub fn set(&self, port: &ServicePort, client: IpAddr, address: SocketAddr, now: Instant) {
        let Some(timeout) = port.affinity else { return };
        let Ok(mut clients) = self.clients.lock() else { return };
        if clients.len() >= MAX_AFFINITIES {
            clients.retain(|_, (_, last)| now.saturating_duration_since(*last) < timeout);
            if clients.len() >= MAX_AFFINITIES {
                clients.clear();
            }
        }
        clients.insert(Key::new(port, client), (address, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// A port with endpoints 1, 2, …, of which the first ones are on this node.
    fn port(local_targets: usize, targets: u8) -> ServicePort {
        ServicePort {
            service: ServiceName { namespace: "default".into(), name: "web".into() },
            name: String::new(),
            port: 80,
            node_port: None,
            protocol: Protocol::Tcp,
            affinity: Some(Duration::from_secs(10)),
            internal_local: false,
            external_local: true,
            targets: (1..=targets).map(|last| SocketAddr::from(([10, 64, 0, last], 80))).collect(),
            local_targets,
        }
    }

    fn last_bytes(candidates: impl Iterator<Item = SocketAddr>) -> Vec<u8> {
        let byte = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => panic!("{ip}"),
        };
        candidates.map(byte).collect()
    }

    #[test]
    fn every_endpoint_is_a_candidate_once_from_a_random_start() {
        let port = port(2, 3);
        assert_eq!(last_bytes(port.candidates(Origin::Node, 0)), [1, 2, 3]);
        assert_eq!(last_bytes(port.candidates(Origin::Node, 4)), [2, 3, 1]);
    }

    #[test]
    fn a_local_policy_leaves_out_other_nodes() {
        assert_eq!(last_bytes(port(2, 3).candidates(Origin::Outside(CLIENT), 1)), [2, 1]);
        assert_eq!(last_bytes(port(0, 1).candidates(Origin::Outside(CLIENT), 1)), [0u8; 0]);
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_the_timeout_or_the_endpoint_is_gone() {
        let port = port(2, 2);
        let client = CLIENT;
        let (affinities, start) = (Affinities::default(), Instant::now());
        assert_eq!(affinities.get(&port, client, start), None);
        affinities.set(&port, client, port.targets[1], start);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(affinities.get(&port, client, later(9)), Some(port.targets[1]));
        assert_eq!(affinities.get(&port, client, later(10)), None);
        let without = ServicePort { targets: port.targets[..1].to_vec(), ..port };
        assert_eq!(affinities.get(&without, client, later(1)), None);
    }
}
