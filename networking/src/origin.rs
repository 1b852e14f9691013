//! Who asks for a connection: what traffic policies, session affinity and NetworkPolicies tell clients apart by.

use std::net::{IpAddr, Ipv4Addr};

use crate::endpoint::PodIdentity;
use crate::policy::{self, End};

/// Who asks for a connection.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    /// This node itself: its probes, and what comes through the API server.
    Node,
    /// A pod of this node.
    Pod(&'a PodIdentity),
    /// The ingress, for a client at this address.
    Ingress(IpAddr),
    /// A process of this machine at this address, by the kernel.
    Host(IpAddr),
    /// Whoever has this address, by the kernel to an address of the cluster.
    Visitor(IpAddr),
    /// A client outside at this address, through a node port or an address for the outside.
    Outside(IpAddr),
}

impl<'a> Origin<'a> {
    /// The address that session affinity remembers a client by.
    pub fn client(self) -> Option<IpAddr> {
        match self {
            Self::Node => None,
            Self::Pod(pod) => Some(pod.ip),
            Self::Ingress(client) | Self::Host(client) | Self::Visitor(client) | Self::Outside(client) => Some(client),
        }
    }

    /// The address that the other end sees.
    pub(crate) fn seen_as(self) -> IpAddr {
        self.client().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Who this is to a NetworkPolicy.
    pub(crate) fn end(self) -> End<'a> {
        match self {
            Self::Node | Self::Host(_) => End::Node,
            Self::Pod(pod) => End::Pod(pod),
            Self::Ingress(client) => End::Part(&policy::INGRESS, client),
            Self::Outside(client) if client.is_loopback() => End::Node,
            Self::Visitor(client) | Self::Outside(client) => End::Address(client),
        }
    }
}

impl<'a> From<Option<&'a PodIdentity>> for Origin<'a> {
    fn from(pod: Option<&'a PodIdentity>) -> Self {
        pod.map_or(Self::Node, Self::Pod)
    }
}
