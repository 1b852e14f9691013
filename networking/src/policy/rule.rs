//! One NetworkPolicy, compiled: what it selects, and what it allows to and from that.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as SelectorObject;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8w_kinds::selector::LabelSelector;

use super::party::Party;
use crate::service::Protocol;

/// Which way a connection goes, seen from the pod that a policy selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// What a connection asks for.
pub(super) struct Destination<'a> {
    pub at: &'a Party<'a>,
    pub port: u16,
    pub protocol: Protocol,
}

/// One policy of a namespace.
#[derive(Debug)]
pub(super) struct Policy {
    pub selector: LabelSelector,
    /// `None` when the policy says nothing about the direction.
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

impl Policy {
    pub fn compile(policy: &NetworkPolicy) -> Option<Self> {
        let spec = policy.spec.as_ref()?;
        let ingress = spec.ingress.iter().flatten().map(|rule| Rule::compile(rule.from.as_ref(), rule.ports.as_ref()));
        let egress = spec.egress.iter().flatten().map(|rule| Rule::compile(rule.to.as_ref(), rule.ports.as_ref()));
        Some(Self {
            // A policy without `podSelector` is about every pod of its namespace.
            selector: selector(&spec.pod_selector.clone().unwrap_or_default()),
            ingress: is_about(spec, "Ingress").then(|| ingress.collect()),
            egress: is_about(spec, "Egress").then(|| egress.collect()),
        })
    }

    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Whether a policy isolates in a direction. Without `policyTypes` it is about ingress, and about egress when it has rules
/// for that (API reference, NetworkPolicySpec).
fn is_about(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_deref() {
        Some(types) if !types.is_empty() => types.iter().any(|named| named == direction),
        _ => direction == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
    }
}

/// Allows connections with any of its peers on any of its ports; an empty list of either means all.
#[derive(Debug)]
pub(super) struct Rule {
    peers: Vec<Peer>,
    ports: Vec<Port>,
}

impl Rule {
    fn compile(peers: Option<&Vec<NetworkPolicyPeer>>, ports: Option<&Vec<NetworkPolicyPort>>) -> Self {
        Self {
            peers: peers.into_iter().flatten().map(Peer::compile).collect(),
            ports: ports.into_iter().flatten().map(Port::compile).collect(),
        }
    }

    /// `namespace`: the policy's own.
    pub fn allows(&self, namespace: &str, peer: &Party<'_>, destination: &Destination<'_>) -> bool {
        (self.ports.is_empty() || self.ports.iter().any(|port| port.matches(destination)))
            && (self.peers.is_empty() || self.peers.iter().any(|allowed| allowed.matches(namespace, peer)))
    }
}

/// Who may be at the other end.
#[derive(Debug)]
enum Peer {
    /// Pods with these labels, in the policy's own namespace or in those with these labels.
    Pods { namespaces: Option<LabelSelector>, pods: LabelSelector },
    /// Every address of a range without some parts of it.
    Block { range: IpNet, except: Vec<IpNet> },
    /// A range that cannot be read, which the API server refuses.
    Nobody,
}

impl Peer {
    fn compile(peer: &NetworkPolicyPeer) -> Self {
        if let Some(block) = &peer.ip_block {
            return Self::block(block).unwrap_or(Self::Nobody);
        }
        // What is not given selects all: of the two, at least one is.
        let pods = peer.pod_selector.as_ref().map_or_else(LabelSelector::everything, selector);
        Self::Pods { namespaces: peer.namespace_selector.as_ref().map(selector), pods }
    }

    fn block(block: &IPBlock) -> Option<Self> {
        let except = block.except.iter().flatten().map(|range| range.parse().ok());
        Some(Self::Block { range: block.cidr.parse().ok()?, except: except.collect::<Option<_>>()? })
    }

    fn matches(&self, own_namespace: &str, peer: &Party<'_>) -> bool {
        match self {
            Self::Pods { namespaces: None, pods } => peer.namespace() == Some(own_namespace) && peer.is_selected(pods),
            Self::Pods { namespaces: Some(namespaces), pods } => peer.is_in(namespaces) && peer.is_selected(pods),
            Self::Block { range, except } => peer.ip.is_some_and(|ip| is_in(range, except, ip)),
            Self::Nobody => false,
        }
    }
}

fn is_in(range: &IpNet, except: &[IpNet], ip: IpAddr) -> bool {
    range.contains(&ip) && !except.iter().any(|except| except.contains(&ip))
}

/// Ports of the destination.
#[derive(Debug)]
struct Port {
    protocol: Protocol,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    All,
    Range(u16, u16),
    /// What the destination's containers call so.
    Named(String),
    /// A number or protocol that is none, which the API server refuses.
    None,
}

impl Port {
    fn compile(port: &NetworkPolicyPort) -> Self {
        let number = |number: i32| u16::try_from(number).ok();
        let numbers = match (&port.port, port.end_port) {
            (None, _) => Some(Numbers::All),
            (Some(IntOrString::String(name)), _) => Some(Numbers::Named(name.clone())),
            (Some(IntOrString::Int(first)), end) => {
                number(*first).zip(number(end.unwrap_or(*first))).map(|(first, last)| Numbers::Range(first, last))
            }
        };
        match (Protocol::parse(port.protocol.as_deref()), numbers) {
            (Some(protocol), Some(numbers)) => Self { protocol, numbers },
            _ => Self { protocol: Protocol::Tcp, numbers: Numbers::None },
        }
    }

    fn matches(&self, destination: &Destination<'_>) -> bool {
        self.protocol == destination.protocol
            && match &self.numbers {
                Numbers::All => true,
                Numbers::Range(first, last) => (*first..=*last).contains(&destination.port),
                Numbers::Named(name) => destination.at.has_port(name, destination.port, destination.protocol),
                Numbers::None => false,
            }
    }
}

/// A selector that cannot be read, which the API server refuses, selects nothing.
fn selector(selector: &SelectorObject) -> LabelSelector {
    let object = serde_json::to_value(selector).ok();
    LabelSelector::from_object(object.as_ref()).unwrap_or_else(|_| LabelSelector::nothing())
}
