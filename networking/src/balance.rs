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
    /// Whether a client from `origin` may come in at all.
    pub fn admits(&self, origin: Origin<'_>) -> bool {
        let is_let_in = |client: IpAddr| self.sources.iter().any(|range| range.contains(&client.to_canonical()));
        self.sources.is_empty() || origin.client().is_none_or(is_let_in)
    }

    /// The endpoints that a client from `origin` may get, in the order of addresses.
    pub fn endpoints(&self, origin: Origin<'_>) -> &[SocketAddr] {
        let local = match origin {
            // The node's own clients find every endpoint (kube-proxy).
            Origin::Outside(client) if client.is_loopback() => false,
            Origin::Outside(_) => self.external_local,
            Origin::Node | Origin::Host(_) | Origin::Pod(_) | Origin::Visitor(_) | Origin::Ingress(_) => {
                self.internal_local
            }
        };
        if local { &self.local } else { &self.cluster }
    }

    /// Likewise each once, beginning at a place that `random` decides: the first is the choice, the others are what to
    /// fall back on when nothing listens there any more.
    pub fn candidates(&self, origin: Origin<'_>, random: usize) -> impl Iterator<Item = SocketAddr> {
        let eligible = self.endpoints(origin);
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
    /// The endpoint that the client had, if that is not too long ago and it still is one.
    pub fn get(&self, port: &ServicePort, origin: Origin<'_>, now: Instant) -> Option<SocketAddr> {
        let (timeout, client) = (port.affinity?, origin.client()?);
        let clients = self.clients.lock().ok()?;
        let (address, last) = *clients.get(&Key::new(port, client))?;
        let fresh = now.saturating_duration_since(last) < timeout;
        (fresh && port.endpoints(origin).contains(&address)).then_some(address)
    }

    /// Remembers what the client was given.
    pub fn set(&self, port: &ServicePort, origin: Origin<'_>, address: SocketAddr, now: Instant) {
        let (Some(timeout), Some(client)) = (port.affinity, origin.client()) else { return };
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
    use std::time::Duration;

    use super::*;
    use crate::service::AppProtocol;

    const CLIENT: Origin<'_> = Origin::Outside(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)));

    /// A port with endpoints 1, 2, … of which these are on this node.
    fn port(local: &[u8], targets: u8) -> ServicePort {
        let address = |last: u8| SocketAddr::from(([10, 64, 0, last], 80));
        ServicePort {
            service: ServiceName { namespace: "default".into(), name: "web".into() },
            name: String::new(),
            port: 80,
            node_port: None,
            protocol: Protocol::Tcp,
            affinity: Some(Duration::from_secs(10)),
            internal_local: false,
            external_local: true,
            app_protocol: AppProtocol::default(),
            cluster: (1..=targets).map(address).collect(),
            local: local.iter().copied().map(address).collect(),
            sources: Vec::new(),
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
        let port = port(&[1, 2], 3);
        assert_eq!(last_bytes(port.candidates(Origin::Node, 0)), [1, 2, 3]);
        assert_eq!(last_bytes(port.candidates(Origin::Node, 4)), [2, 3, 1]);
    }

    #[test]
    fn local_policies_leave_out_other_nodes() {
        let outside = |local, targets| last_bytes(port(local, targets).candidates(CLIENT, 1));
        assert_eq!(outside(&[1, 2], 3), [2, 1]);
        assert_eq!(outside(&[], 1), [0u8; 0]);
        let on_this_node = Origin::Outside(IpAddr::from([127, 0, 0, 1]));
        assert_eq!(last_bytes(port(&[2], 2).candidates(on_this_node, 0)), [1, 2]);
        let internal = ServicePort { internal_local: true, external_local: false, ..port(&[2], 3) };
        for origin in [Origin::Node, Origin::Ingress(IpAddr::from([192, 0, 2, 1]))] {
            assert_eq!(last_bytes(internal.candidates(origin, 0)), [2]);
        }
        assert_eq!(last_bytes(internal.candidates(CLIENT, 0)), [1, 2, 3]);
    }

    #[test]
    fn a_load_balancer_lets_in_whom_its_ranges_hold() {
        let open = port(&[], 1);
        let guarded = ServicePort { sources: vec!["192.0.2.0/24".parse().unwrap()], ..port(&[], 1) };
        let stranger = Origin::Outside(IpAddr::from([198, 51, 100, 1]));
        assert!(open.admits(stranger) && !guarded.admits(stranger));
        assert!(guarded.admits(CLIENT) && guarded.admits(Origin::Node));
        let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert!(guarded.admits(Origin::Outside(mapped.into())));
    }

    #[test]
    fn a_client_keeps_its_endpoint_until_the_timeout_or_the_endpoint_is_gone() {
        let port = port(&[1, 2], 2);
        let (affinities, start) = (Affinities::default(), Instant::now());
        assert_eq!(affinities.get(&port, CLIENT, start), None);
        affinities.set(&port, CLIENT, port.cluster[1], start);
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(affinities.get(&port, CLIENT, later(9)), Some(port.cluster[1]));
        assert_eq!(affinities.get(&port, CLIENT, later(10)), None);
        let without = ServicePort { local: port.local[..1].to_vec(), ..port };
        assert_eq!(affinities.get(&without, CLIENT, later(1)), None);
    }
}
