//! A Service's port and the endpoints behind it, from the Service and its EndpointSlices.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort as Port};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// `sessionAffinityConfig.clientIP.timeoutSeconds` when it is not given (API reference, Service v1).
const DEFAULT_AFFINITY: Duration = Duration::from_secs(10_800);

/// Namespace and name of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

impl Protocol {
    /// The protocol of a port; TCP when it is not given.
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }
}

/// `spec.loadBalancerClass` of Services whose load balancer is the nodes themselves; the same as to name none.
const NODE_ADDRESSES: &str = "k8w.dev/node-addresses";

/// One port of one Service.
#[derive(Debug)]
pub struct ServicePort {
    pub service: ServiceName,
    /// Empty for a Service's only, unnamed port.
    pub name: String,
    pub port: u16,
    pub node_port: Option<u16>,
    pub protocol: Protocol,
    /// How long a client keeps its endpoint; `None` without session affinity.
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`: clients inside the cluster reach endpoints of this node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: likewise for clients outside.
    pub external_local: bool,
    /// The endpoints that take new connections: first those of this node, each part in the order of addresses.
    pub targets: Vec<SocketAddr>,
    /// How many of them are on this node.
    pub local_targets: usize,
}

/// Whether an endpoint is on another node: those of this one sort first.
type Elsewhere = bool;

/// The endpoints of one Service: an index over its slices.
#[derive(Default)]
pub struct Endpoints<'a> {
    slices: Vec<&'a EndpointSlice>,
}

impl<'a> Endpoints<'a> {
    /// Slices by the Service they belong to.
    pub fn index(slices: &'a [Arc<EndpointSlice>]) -> HashMap<ServiceName, Endpoints<'a>> {
        let mut index: HashMap<ServiceName, Endpoints<'a>> = HashMap::new();
        for slice in slices {
            let Some(name) = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)) else {
                continue;
            };
            let namespace = slice.metadata.namespace.clone().unwrap_or_default();
            index.entry(ServiceName { namespace, name: name.clone() }).or_default().slices.push(slice);
        }
        index
    }

    /// Every endpoint that is ready, with its address.
    pub fn ready(&self) -> impl Iterator<Item = (&'a Endpoint, IpAddr)> {
        let endpoints = self.slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
        endpoints.filter(|endpoint| is_ready(endpoint)).filter_map(|endpoint| Some((endpoint, address(endpoint)?)))
    }

    /// The endpoints of a port that take new connections: the ready ones or, when there are none, those that still serve
    /// while they terminate (KEP-1669).
    fn targets(&self, port_name: &str, protocol: Protocol, node_name: &str) -> BTreeSet<(Elsewhere, SocketAddr)> {
        let select = |accept: fn(&Endpoint) -> bool| {
            let mut targets = BTreeSet::new();
            for slice in &self.slices {
                let port = slice.ports.iter().flatten().find(|port| {
                    port.name.as_deref().unwrap_or_default() == port_name
                        && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
                });
                let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
                targets.extend(slice.endpoints.iter().flatten().filter(|endpoint| accept(endpoint)).filter_map(
                    |endpoint| {
                        let address = SocketAddr::new(address(endpoint)?, port);
                        Some((endpoint.node_name.as_deref() != Some(node_name), address))
                    },
                ));
            }
            targets
        };
        let ready = select(is_ready);
        if ready.is_empty() { select(is_serving_while_terminating) } else { ready }
    }
}

/// The addresses of an endpoint are interchangeable and consumers use the first (API reference, EndpointSlice v1).
fn address(endpoint: &Endpoint) -> Option<IpAddr> {
    endpoint.addresses.first()?.parse().ok()
}

/// An unknown condition counts as ready (API reference, EndpointConditions).
fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

fn is_serving_while_terminating(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true))
}

/// The ports of a Service with the endpoints behind each. Empty for a Service that is only a name.
pub fn ports(service: &Service, endpoints: &Endpoints<'_>, node_name: &str) -> Vec<ServicePort> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let configured = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
        configured.and_then(|seconds| u64::try_from(seconds).ok()).map_or(DEFAULT_AFFINITY, Duration::from_secs)
    });
    let build = |port: &Port| {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let name = port.name.clone().unwrap_or_default();
        let targets = endpoints.targets(&name, protocol, node_name);
        Some(ServicePort {
            service: name_of(service),
            local_targets: targets.iter().filter(|(elsewhere, _)| !elsewhere).count(),
            targets: targets.into_iter().map(|(_, address)| address).collect(),
            name,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            protocol,
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        })
    };
    spec.ports.iter().flatten().filter_map(build).collect()
}

/// Whether nodes serve the Service's own ports too: the addresses of its load balancer are theirs, by whichever class
/// that means them.
pub fn is_load_balanced(service: &Service) -> bool {
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let is_reachable = balancer.is_some_and(|balancer| balancer.ingress.as_ref().is_some_and(|all| !all.is_empty()));
    is_reachable && class.is_none_or(|class| class == NODE_ADDRESSES)
}

/// Every address that stands for a Service: its cluster IPs, external IPs and load balancer addresses.
pub fn virtual_addresses(service: &Service) -> Vec<IpAddr> {
    let spec = service.spec.as_ref();
    let cluster = spec.into_iter().flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip));
    let external = spec.into_iter().flat_map(|spec| spec.external_ips.iter().flatten());
    let balancers = service.status.iter().flat_map(|status| status.load_balancer.iter());
    let balancers = balancers.flat_map(|balancer| balancer.ingress.iter().flatten()).filter_map(|i| i.ip.as_ref());
    // `None`, the cluster IP of a headless Service, is no address.
    let mut addresses: Vec<IpAddr> =
        cluster.chain(external).chain(balancers).filter_map(|ip| ip.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Namespace and name.
pub fn name_of(service: &Service) -> ServiceName {
    ServiceName {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
    }
}
