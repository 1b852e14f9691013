//! The endpoints that a Service should have, by the ports they share.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pods;
use crate::world::World;

/// A node's label that says in which zone it is.
pub const ZONE: &str = "topology.kubernetes.io/zone";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The address families of a Service; IPv4 where it doesn't say.
    pub fn of(service: &Service) -> Vec<Family> {
        let named = service.spec.as_ref().and_then(|s| s.ip_families.as_ref()).into_iter().flatten();
        let families: Vec<_> = named.map(|name| if name == "IPv6" { Family::V6 } else { Family::V4 }).collect();
        if families.is_empty() { vec![Family::V4] } else { families }
    }

    pub fn address_type(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    pub fn holds(self, address: &str) -> bool {
        address.contains(':') == (self == Family::V6)
    }
}

/// Endpoints with the same ports: a named target port may be another number in each pod.
#[derive(Debug, PartialEq)]
pub struct Group {
    pub ports: Vec<EndpointPort>,
    pub endpoints: Vec<Endpoint>,
}

pub fn groups(service: &Service, pods: &[&Arc<Pod>], family: Family, world: &World) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for pod in pods {
        let Some(endpoint) = endpoint(service, pod, family, world) else { continue };
        add(&mut groups, ports(service, pod), [endpoint]);
    }
    groups
}

/// Adds endpoints to those that have the same ports.
pub fn add(groups: &mut Vec<Group>, ports: Vec<EndpointPort>, endpoints: impl IntoIterator<Item = Endpoint>) {
    match groups.iter_mut().find(|group| group.ports == ports) {
        Some(group) => group.endpoints.extend(endpoints),
        None => groups.push(Group { ports, endpoints: endpoints.into_iter().collect() }),
    }
}

fn endpoint(service: &Service, pod: &Arc<Pod>, family: Family, world: &World) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let ips = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    let address = ips.into_iter().find(|ip| family.holds(ip)).filter(|_| !pods::is_terminal(pod))?;
    let service_spec = service.spec.as_ref()?;
    let serving = pods::is_ready(pod);
    let terminating = pods::is_deleting(&pod.metadata);
    let ready = service_spec.publish_not_ready_addresses == Some(true) || (serving && !terminating);
    let node = pods::node_name(pod);
    let zone = node.and_then(|name| world.nodes.get("", name)?.metadata.labels.as_ref()?.get(ZONE));
    let pod_spec = pod.spec.as_ref()?;
    let is_member = pod_spec.subdomain.is_some() && pod_spec.subdomain == service.metadata.name;
    Some(Endpoint {
        addresses: vec![address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: pod_spec.hostname.clone().filter(|name| is_member && !name.is_empty()),
        node_name: node.map(str::to_owned),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        zone: zone.cloned(),
        ..Endpoint::default()
    })
}

/// The ports of one pod's endpoint; a port that the pod does not name is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_ref()).into_iter().flatten();
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(port, pod)?),
                protocol: Some(protocol(port.protocol.as_ref()).into()),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn protocol(protocol: Option<&String>) -> &str {
    protocol.map_or("TCP", String::as_str)
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let is_sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
            let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
            let mut named = spec.containers.iter().chain(sidecars).filter_map(|c| c.ports.as_ref()).flatten();
            let matching = named.find(|p| {
                p.name.as_ref() == Some(name) && protocol(p.protocol.as_ref()) == protocol(port.protocol.as_ref())
            });
            matching.map(|p| p.container_port)
        }
    }
}
