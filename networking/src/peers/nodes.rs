//! What a node's network knows of the nodes: a few facts of each, and whose an address is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as Object;

/// The annotation of a node that says which addresses its wasm pods have.
pub const WASM_CIDR: &str = "k8w.dev/wasm-cidr";
/// Label of a Node that says in which zone it is (well-known labels).
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub zone: Option<String>,
    /// Addresses of its wasm pods.
    pub wasm_cidr: Option<IpNet>,
    /// Where its own API is.
    pub address: Option<SocketAddr>,
}

impl Node {
    /// The facts of a Node object.
    pub fn of(object: &Object) -> Option<Node> {
        let metadata = &object.metadata;
        let status = object.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
        let ip =
            addresses.filter(|address| address.type_ == "InternalIP").find_map(|address| address.address.parse().ok());
        let endpoint = status.and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref());
        let port = endpoint.and_then(|endpoint| u16::try_from(endpoint.port).ok()).filter(|port| *port > 0);
        Some(Node {
            name: metadata.name.clone()?,
            zone: metadata.labels.as_ref().and_then(|labels| labels.get(ZONE).cloned()),
            wasm_cidr: metadata.annotations.as_ref().and_then(|all| all.get(WASM_CIDR)?.parse().ok()),
            address: ip.zip(port).map(|(ip, port): (IpAddr, u16)| SocketAddr::new(ip, port)),
        })
    }
}

/// The other nodes, by the addresses of their pods.
#[derive(Debug, Default)]
pub struct Nodes(Vec<(IpNet, Arc<Node>)>);

impl Nodes {
    /// All of `nodes` but this one.
    pub fn build(nodes: &[Arc<Node>], own_name: &str) -> Nodes {
        let others = nodes.iter().filter(|node| node.name != own_name);
        let mut ranges: Vec<_> = others.filter_map(|node| Some((node.wasm_cidr?, node.clone()))).collect();
        ranges.sort_by_key(|(range, _)| range.network());
        Nodes(ranges)
    }

    /// Whose pods have such an address.
    pub fn of(&self, ip: IpAddr) -> Option<&Arc<Node>> {
        let after = self.0.partition_point(|(range, _)| range.network() <= ip);
        let (range, node) = self.0.get(after.checked_sub(1)?)?;
        range.contains(&ip).then_some(node)
    }

    /// The node of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Node>> {
        self.0.iter().map(|(_, node)| node).find(|node| node.name == name)
    }
}

/// A port of a pod of another node.
#[derive(Clone, Debug)]
pub struct Peer {
    pub node: Arc<Node>,
    pub address: SocketAddr,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, range: &str) -> Arc<Node> {
        let object = json!({
            "metadata": {"name": name, "annotations": {WASM_CIDR: range}, "labels": {ZONE: "z"}},
            "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": "192.0.2.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}}},
        });
        Arc::new(Node::of(&serde_json::from_value(object).unwrap()).unwrap())
    }

    #[test]
    fn a_node_is_known_by_a_few_facts() {
        let known = node("a", "10.64.0.0/18");
        assert_eq!((known.address, known.zone.as_deref()), (Some("192.0.2.1:10250".parse().unwrap()), Some("z")));
        let bare = Node::of(&serde_json::from_value(json!({"metadata": {"name": "b"}})).unwrap()).unwrap();
        assert_eq!((bare.address, bare.wasm_cidr, bare.zone), (None, None, None));
    }

    #[test]
    fn an_address_is_its_nodes() {
        let all = ["10.64.0.0/18", "10.64.128.0/18", "10.64.64.0/18", ""];
        let all: Vec<_> = ["own", "b", "c", "none"].iter().zip(all).map(|(name, range)| node(name, range)).collect();
        let nodes = Nodes::build(&all, "own");
        let of = |ip: &str| nodes.of(ip.parse().unwrap()).map(|node| node.name.as_str());
        for (ip, expected) in [
            ("10.63.255.255", None),
            ("10.64.0.5", None),
            ("10.64.64.0", Some("c")),
            ("10.64.127.255", Some("c")),
            ("10.64.128.1", Some("b")),
            ("10.64.192.0", None),
            ("::1", None),
        ] {
            assert_eq!(of(ip), expected, "{ip}");
        }
        assert!(nodes.named("c").is_some() && nodes.named("own").is_none());
    }
}
