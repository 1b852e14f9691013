//! A Service's port and the endpoints behind it, from the Service and its EndpointSlices.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort as Port};
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
    pub fn parse(text: Option<&str>) -> Option<Self> {
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
#[derive(Clone, Debug)]
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
    /// The protocol that its backends speak, by `appProtocol`.
    pub app_protocol: AppProtocol,
    /// The endpoints that take new connections where the traffic policy is `Cluster`, in the order of addresses.
    pub cluster: Vec<SocketAddr>,
    /// Likewise where it is `Local`: of this node alone.
    pub local: Vec<SocketAddr>,
    /// By a load balancer: whom it lets in (`loadBalancerSourceRanges`); empty for everybody.
    pub sources: Vec<IpNet>,
}

/// What is spoken over a port's connections, where an ingress has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppProtocol {
    /// HTTP/1.1, or nothing that we know.
    #[default]
    Http1,
    /// `kubernetes.io/h2c`: HTTP/2 over cleartext by prior knowledge (KEP-3726).
    H2c,
}

impl AppProtocol {
    fn parse(text: Option<&str>) -> Self {
        match text {
            Some("kubernetes.io/h2c") => Self::H2c,
            _ => Self::Http1,
        }
    }
}

/// The node whose tables are built.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    pub node: &'a str,
    /// Its `topology.kubernetes.io/zone`.
    pub zone: Option<&'a str>,
}

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

    /// Every endpoint that is ready, with its slice and address.
    pub fn ready(&self) -> impl Iterator<Item = (&'a EndpointSlice, &'a Endpoint, IpAddr)> {
        let of = |slice: &&'a EndpointSlice| {
            let slice = *slice;
            slice.endpoints.iter().flatten().map(move |endpoint| (slice, endpoint))
        };
        let ready = self.slices.iter().flat_map(of).filter(|(_, endpoint)| is_ready(endpoint));
        ready.filter_map(|(slice, endpoint)| Some((slice, endpoint, address(endpoint)?)))
    }

    /// How many pods of a node are ready.
    pub fn ready_on(&self, node: &str) -> usize {
        let here = self.ready().filter(|(_, endpoint, _)| endpoint.node_name.as_deref() == Some(node));
        here.map(|(_, _, address)| address).collect::<BTreeSet<_>>().len()
    }

    /// The endpoints of a port that take new connections, by traffic policy `Cluster` and `Local`: the ready ones or, when
    /// there are none, those that still serve while they terminate (KEP-1669). With `Cluster`, hints narrow the choice.
    fn targets(&self, port_name: &str, protocol: Protocol, here: Here<'_>) -> [BTreeSet<SocketAddr>; 2] {
        let mut all = Vec::new();
        for slice in &self.slices {
            let port = slice.ports.iter().flatten().find(|port| {
                port.name.as_deref().unwrap_or_default() == port_name
                    && Protocol::parse(port.protocol.as_deref()) == Some(protocol)
            });
            let Some(port) = port.and_then(|port| u16::try_from(port.port?).ok()) else { continue };
            let endpoints = slice.endpoints.iter().flatten();
            all.extend(endpoints.filter_map(|endpoint| Some((endpoint, SocketAddr::new(address(endpoint)?, port)))));
        }
        let select = |accept: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
            all.iter().filter(|(endpoint, _)| accept(endpoint)).map(|(_, address)| *address).collect()
        };
        let ready: Vec<&Endpoint> = all.iter().map(|(endpoint, _)| *endpoint).filter(|e| is_ready(e)).collect();
        let scope = Scope::heeded(&ready, here);
        let is_local = |endpoint: &Endpoint| endpoint.node_name.as_deref() == Some(here.node);
        let or = |ready: BTreeSet<SocketAddr>, rest: &dyn Fn() -> BTreeSet<SocketAddr>| {
            if ready.is_empty() { rest() } else { ready }
        };
        [
            or(select(&|e| is_ready(e) && scope.is_none_or(|scope| scope.holds(e, here))), &|| {
                select(&is_serving_while_terminating)
            }),
            or(select(&|e| is_ready(e) && is_local(e)), &|| {
                select(&|e| is_serving_while_terminating(e) && is_local(e))
            }),
        ]
    }
}

/// What the hints of endpoints keep connections in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Node,
    Zone,
}

impl Scope {
    /// The narrowest scope for which every ready endpoint has a hint, and at least one is hinted for this node (KEP-2433,
    /// KEP-3015).
    fn heeded(ready: &[&Endpoint], here: Here<'_>) -> Option<Self> {
        [Self::Node, Self::Zone].into_iter().find(|scope| {
            ready.iter().all(|e| scope.hints(e).next().is_some()) && ready.iter().any(|e| scope.holds(e, here))
        })
    }

    fn hints(self, endpoint: &Endpoint) -> Box<dyn Iterator<Item = &str> + '_> {
        let hints = endpoint.hints.iter();
        match self {
            Self::Node => Box::new(hints.flat_map(|h| h.for_nodes.iter().flatten()).map(|node| node.name.as_str())),
            Self::Zone => Box::new(hints.flat_map(|h| h.for_zones.iter().flatten()).map(|zone| zone.name.as_str())),
        }
    }

    /// Whether the endpoint is for clients of this node.
    fn holds(self, endpoint: &Endpoint, here: Here<'_>) -> bool {
        let place = match self {
            Self::Node => Some(here.node),
            Self::Zone => here.zone,
        };
        place.is_some_and(|place| self.hints(endpoint).any(|hint| hint == place))
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
    endpoint.conditions.as_ref().is_some_and(|c| c.serving.unwrap_or(true) && c.terminating == Some(true))
}

/// The ports of a Service with the endpoints behind each. Empty for a Service that is only a name.
pub fn ports(service: &Service, endpoints: &Endpoints<'_>, here: Here<'_>) -> Vec<ServicePort> {
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
        let [cluster, local] = endpoints.targets(&name, protocol, here).map(|targets| targets.into_iter().collect());
        Some(ServicePort {
            service: name_of(service),
            name,
            port: u16::try_from(port.port).ok()?,
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0),
            protocol,
            affinity,
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            app_protocol: AppProtocol::parse(port.app_protocol.as_deref()),
            cluster,
            local,
            sources: Vec::new(),
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

/// The addresses that stand for a Service inside of the cluster.
pub fn cluster_ips(service: &Service) -> BTreeSet<IpAddr> {
    let spec = service.spec.iter();
    // `None`, the cluster IP of a headless Service, is no address.
    spec.flat_map(|spec| spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip))
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

/// The addresses that stand for it outside.
pub fn external_ips(service: &Service) -> BTreeSet<IpAddr> {
    let external = service.spec.iter().flat_map(|spec| spec.external_ips.iter().flatten());
    external.filter_map(|ip| ip.parse().ok()).collect()
}

/// The addresses of its load balancer that nodes take for the Service's own: not where the balancer wants to see every
/// connection (`ipMode: Proxy`, KEP-1860).
pub fn balancer_ips(service: &Service) -> BTreeSet<IpAddr> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let is_virtual = |ingress: &&LoadBalancerIngress| ingress.ip_mode.as_deref() != Some("Proxy");
    let addresses = balancer.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten()).filter(is_virtual);
    addresses.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

/// Whom its load balancer lets in; empty for everybody.
pub fn source_ranges(service: &Service) -> Vec<IpNet> {
    let ranges = service.spec.iter().flat_map(|spec| spec.load_balancer_source_ranges.iter().flatten());
    ranges.filter_map(|range| range.trim().parse().ok()).collect()
}

/// The port by which load balancers ask nodes whether they have endpoints.
pub fn health_check_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let is_asked =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = u16::try_from(spec.health_check_node_port?).ok().filter(|port| *port != 0);
    port.filter(|_| is_asked)
}

/// Namespace and name.
pub fn name_of(service: &Service) -> ServiceName {
    ServiceName {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// Endpoints 10.0.0.1, 10.0.0.2, … from the rest of what is said about them, and the last bytes of those that a node
    /// `here` in zone `a` gets with traffic policy `Cluster` and with `Local`.
    fn targets(endpoints: &[&str]) -> String {
        let endpoints =
            endpoints.iter().enumerate().map(|(i, rest)| format!("{{addresses: [10.0.0.{}], {rest}}}", i + 1));
        let slice = format!(
            "{{metadata: {{}}, addressType: IPv4, ports: [{{port: 80}}], endpoints: [{}]}}",
            endpoints.collect::<Vec<_>>().join(", ")
        );
        let slice: EndpointSlice = serde_saphyr::from_str(&slice).unwrap();
        let endpoints = Endpoints { slices: vec![&slice] };
        let found = endpoints.targets("", Protocol::Tcp, Here { node: "here", zone: Some("a") });
        let [cluster, local] = found.map(|addresses| {
            let last = |address: SocketAddr| address.ip().to_string().rsplit('.').next().unwrap_or_default().to_owned();
            addresses.into_iter().map(last).collect::<Vec<_>>().join(" ")
        });
        format!("cluster [{cluster}] local [{local}]")
    }

    #[test]
    fn endpoints_that_end_are_the_last_resort_of_each_policy_by_itself() {
        let (ready, starting) = ("conditions: {ready: true}", "conditions: {ready: false, serving: false}");
        let ending = "conditions: {ready: false, serving: true, terminating: true}";
        let here = |rest: &str| format!("nodeName: here, {rest}");
        let check = |endpoints: &[&str], expected: expect_test::Expect| expected.assert_eq(&targets(endpoints));
        check(&[ready, ending, starting], expect!["cluster [1] local []"]);
        check(&[&here(ready), ready, &here(ending)], expect!["cluster [1 2] local [1]"]);
        check(&[ready, &here(ending)], expect!["cluster [1] local [2]"]);
        check(&[ending, &here(ending), starting], expect!["cluster [1 2] local [2]"]);
        check(&["nodeName: here", &here(starting)], expect!["cluster [1] local [1]"]);
    }

    #[test]
    fn hints_are_heeded_when_all_have_one_and_one_is_for_here() {
        let zone = |name: &str| format!("hints: {{forZones: [{{name: {name}}}]}}");
        let node =
            |name: &str, zone: &str| format!("hints: {{forNodes: [{{name: {name}}}], forZones: [{{name: {zone}}}]}}");
        let check = |endpoints: &[String], expected: expect_test::Expect| {
            expected.assert_eq(&targets(&endpoints.iter().map(String::as_str).collect::<Vec<_>>()));
        };
        check(&[zone("a"), zone("b"), zone("a")], expect!["cluster [1 3] local []"]);
        check(&[zone("b"), zone("c")], expect!["cluster [1 2] local []"]);
        check(&[zone("a"), zone("b"), "nodeName: here".into()], expect!["cluster [1 2 3] local [3]"]);
        check(&[node("here", "a"), node("there", "a")], expect!["cluster [1] local []"]);
        check(&[node("there", "a"), node("far", "b")], expect!["cluster [1] local []"]);
        let starting = format!("conditions: {{ready: false, serving: false}}, {}", zone("a"));
        check(&[starting, zone("b")], expect!["cluster [2] local []"]);
    }
}
