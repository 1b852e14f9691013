//! Who asks for a connection: what traffic policies, session affinity and NetworkPolicies tell clients apart by.

use std::net::IpAddr;

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
    /// A client outside at this address, through a node port.
    Outside(IpAddr),
}

impl<'a> Origin<'a> {
    /// The address that session affinity remembers a client by.
    pub fn client(self) -> Option<IpAddr> {
        match self {
            Self::Node => None,
            Self::Pod(pod) => Some(pod.ip),
            Self::Ingress(client) | Self::Outside(client) => Some(client),
        }
    }

    /// Who this is to a NetworkPolicy.
    pub(crate) fn end(self) -> End<'a> {
        match self {
            Self::Node => End::Node,
            Self::Pod(pod) => End::Pod(pod),
            Self::Ingress(client) => End::Part(&policy::INGRESS, client),
            Self::Outside(client) if client.is_loopback() => End::Node,
            Self::Outside(client) => End::Address(client),
        }
    }
}

impl<'a> From<Option<&'a PodIdentity>> for Origin<'a> {
    fn from(pod: Option<&'a PodIdentity>) -> Self {
        pod.map_or(Self::Node, Self::Pod)
    }
}
