//! What the scheduler decides on: each node with what runs on it, or is about to.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use super::amounts::{Amounts, assumed_requests, requests};
use crate::pods;

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    pub fn collides(&self, other: &HostPort) -> bool {
        let any = |address: &str| address.is_empty() || address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (any(&self.address) || any(&other.address) || self.address == other.address)
    }
}

/// A pod with what is asked of it again and again, computed once.
#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Amounts,
    pub assumed: Amounts,
    pub ports: Vec<HostPort>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        let spec = pod.spec.as_ref();
        let sidecars = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
        let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        let containers = spec.map(|s| &s.containers).into_iter().flatten().chain(sidecars);
        let ports = containers.filter_map(|c| c.ports.as_ref()).flatten().filter_map(|port| {
            Some(HostPort {
                address: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        });
        Self { requests: requests(&pod), assumed: assumed_requests(&pod), ports: ports.collect(), pod }
    }

    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }
}

pub struct NodeInfo {
    pub node: Arc<Node>,
    pub allocatable: Amounts,
    pub max_pods: usize,
    pub requested: Amounts,
    pub assumed: Amounts,
    pub pods: HashMap<Arc<str>, Arc<PodInfo>>,
}

impl NodeInfo {
    fn new(node: Arc<Node>) -> Self {
        let mut info = Self {
            node: Arc::default(),
            allocatable: Amounts::default(),
            max_pods: 0,
            requested: Amounts::default(),
            assumed: Amounts::default(),
            pods: HashMap::new(),
        };
        info.set_node(node);
        info
    }

    fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        self.allocatable = Amounts::from_list(allocatable);
        let max_pods = allocatable.and_then(|a| crate::quantity::units(a.get("pods")?));
        self.max_pods = max_pods.and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        self.node = node;
    }

    pub fn name(&self) -> &str {
        self.node.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn taints(&self) -> impl Iterator<Item = &Taint> {
        self.node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten()
    }

    fn add(&mut self, uid: Arc<str>, pod: Arc<PodInfo>) {
        self.requested += &pod.requests;
        self.assumed += &pod.assumed;
        self.pods.insert(uid, pod);
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested -= &pod.requests;
        self.assumed -= &pod.assumed;
        Some(pod)
    }
}

/// Nodes, the pods on them, and which handler each RuntimeClass names.
#[derive(Default)]
pub struct Snapshot {
    pub nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// Pod uid -> the node it counts against.
    places: HashMap<Arc<str>, Arc<str>>,
    /// Pods whose node is not known (yet), by node name.
    homeless: HashMap<Arc<str>, HashMap<Arc<str>, Arc<PodInfo>>>,
    pub runtime_handlers: HashMap<String, String>,
}

impl Snapshot {
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.index.get(name).map(|at| &self.nodes[*at])
    }

    pub fn set_node(&mut self, node: Arc<Node>) {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        if let Some(at) = self.index.get(&name) {
            self.nodes[*at].set_node(node);
            return;
        }
        let mut info = NodeInfo::new(node);
        for (uid, pod) in self.homeless.remove(&name).unwrap_or_default() {
            info.add(uid, pod);
        }
        self.index.insert(name, self.nodes.len());
        self.nodes.push(info);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(at) = self.index.remove(name) else { return };
        let removed = self.nodes.swap_remove(at);
        if let Some(moved) = self.nodes.get(at) {
            self.index.insert(moved.name().into(), at);
        }
        if !removed.pods.is_empty() {
            self.homeless.insert(name.into(), removed.pods);
        }
    }

    /// Counts the pod against a node, and no longer against any other.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        let uid: Arc<str> = pod.uid().into();
        self.displace(&uid);
        self.places.insert(uid.clone(), node.into());
        match self.index.get(node) {
            Some(at) => self.nodes[*at].add(uid, pod),
            None => _ = self.homeless.entry(node.into()).or_default().insert(uid, pod),
        }
    }

    /// Stops counting the pod.
    pub fn displace(&mut self, uid: &str) {
        let Some(node) = self.places.remove(uid) else { return };
        match self.index.get(&node) {
            Some(at) => _ = self.nodes[*at].remove(uid),
            None => {
                if let Some(pods) = self.homeless.get_mut(&node) {
                    pods.remove(uid);
                    if pods.is_empty() {
                        self.homeless.remove(&node);
                    }
                }
            }
        }
    }

    /// Follows a pod's state: it counts from when it has a node until it has ended.
    pub fn follow(&mut self, pod: &Arc<Pod>, gone: bool) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match pods::node_name(pod) {
            Some(node) if !gone && !pods::is_terminal(pod) => {
                let placed = self.places.get(uid).is_some_and(|place| &**place == node);
                let known = self.node(node).and_then(|info| info.pods.get(uid));
                // Most updates are status only, and change nothing that counts here.
                let same = known
                    .is_some_and(|info| info.pod.spec == pod.spec && info.pod.metadata.labels == pod.metadata.labels);
                if !(placed && same) {
                    self.place(Arc::new(PodInfo::new(pod.clone())), node);
                }
            }
            Some(_) => self.displace(uid),
            None if gone => self.displace(uid),
            None => {}
        }
    }
}
