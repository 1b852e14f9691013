//! Ports of a node that its pods take.

use k8s_openapi::api::core::v1::{Container, Pod};

/// A port that a pod takes on its node, by `ports.hostPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// One of the node's addresses; empty or `0.0.0.0` for every one.
    pub address: String,
    pub protocol: String,
    pub port: i32,
    /// The port of the pod's own that it leads to.
    pub container_port: i32,
}

impl HostPort {
    /// Whether it is a port of each of the node's addresses.
    pub fn is_everywhere(&self) -> bool {
        self.address.is_empty() || self.address == "0.0.0.0"
    }

    /// Whether no node has room for both.
    pub fn collides(&self, other: &HostPort) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.is_everywhere() || other.is_everywhere() || self.address == other.address)
    }
}

/// What the containers of a pod take that run together: all but the init containers that end.
pub fn host_ports(pod: &Pod) -> impl Iterator<Item = HostPort> + use<'_> {
    running(pod).filter_map(|c| c.ports.as_ref()).flatten().filter_map(|port| {
        Some(HostPort {
            address: port.host_ip.clone().unwrap_or_default(),
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            port: port.host_port.filter(|port| *port > 0)?,
            container_port: port.container_port,
        })
    })
}

fn running(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let sidecars = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.map(|s| &s.containers).into_iter().flatten().chain(sidecars)
}
