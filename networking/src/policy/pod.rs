//! Pods as policies see them: a few facts, so that a node can know every pod of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod as Object};
use k8w_kinds::core::pod::mirror;

use crate::endpoint::PodIdentity;
use crate::service::Protocol;

/// What policies ask about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub namespace: String,
    pub uid: String,
    /// Empty until the pod's status tells them.
    pub ips: Vec<IpAddr>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<NamedPort>,
    /// Of an object that shows a static pod.
    pub mirrors: Option<StaticPod>,
}

/// A pod that a node runs because of a file: its object in the API has its name and another uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPod {
    pub name: String,
    pub uid: String,
}

/// A port of a container that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPort {
    pub name: String,
    pub number: u16,
    pub protocol: Protocol,
}

impl Pod {
    /// The facts of a pod; `None` for one that policies do not apply to: it has ended, or its network is the node's own.
    pub fn of(pod: &Object) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let status = pod.status.as_ref();
        let ended =
            status.and_then(|status| status.phase.as_deref()).is_some_and(|p| p == "Succeeded" || p == "Failed");
        if ended || spec.host_network == Some(true) {
            return None;
        }
        let ips = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten().map(|ip| &ip.ip));
        let ip = status.and_then(|status| status.pod_ip.as_ref());
        let mut ips: Vec<IpAddr> = ips.chain(ip).filter_map(|ip| ip.parse().ok()).collect();
        ips.sort();
        ips.dedup();
        let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
        let sidecars = spec.init_containers.iter().flatten().filter(is_sidecar);
        let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
        let ports = ports.filter_map(|port| {
            let (name, number) = (port.name.clone()?, u16::try_from(port.container_port).ok()?);
            Some(NamedPort { name, number, protocol: Protocol::parse(port.protocol.as_deref())? })
        });
        let uid = pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(mirror::ANNOTATION));
        let mirrors =
            uid.map(|uid| StaticPod { name: pod.metadata.name.clone().unwrap_or_default(), uid: uid.clone() });
        Some(Self {
            mirrors,
            namespace: pod.metadata.namespace.clone()?,
            uid: pod.metadata.uid.clone()?,
            ips,
            labels: pod.metadata.labels.clone().unwrap_or_default(),
            ports: ports.collect(),
        })
    }

    /// Whether this object shows a static pod. It must be where that one is, and called the same: what others write into their
    /// own objects is no reason to take these for somebody else's.
    pub fn shows(&self, pod: &PodIdentity) -> bool {
        let mirrors = self.mirrors.as_ref();
        self.namespace == pod.namespace && mirrors.is_some_and(|own| own.uid == pod.uid && own.name == pod.name)
    }
}
