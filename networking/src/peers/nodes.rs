//! What a node's network knows of the nodes: a few facts of each, and whose an address is.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node as Object;
use k8w_kinds::core::node::WASM_CIDR;

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
    /// All of `nodes` but this one. Addresses that two nodes have are nobody's, until the controllers give one of them others.
    pub fn build(nodes: &[Arc<Node>], own_name: &str) -> Nodes {
        let mut ranges: Vec<_> =
            nodes.iter().filter_map(|node| Some((node.wasm_cidr?.trunc(), node.clone()))).collect();
        ranges.sort_by_key(|(range, _)| (range.network(), range.prefix_len()));
        // Of ranges that overlap, one holds the other, and those within it follow it.
        let mut alone: Vec<Option<(IpNet, Arc<Node>)>> = Vec::with_capacity(ranges.len());
        let mut widest: Option<(IpNet, usize)> = None;
        for (range, node) in ranges {
            if let Some((_, first)) = widest.filter(|(widest, _)| widest.contains(&range)) {
                alone[first] = None;
                continue;
            }
            widest = Some((range, alone.len()));
            alone.push(Some((range, node)));
        }
        Nodes(alone.into_iter().flatten().filter(|(_, node)| node.name != own_name).collect())
    }

    /// Forgets nodes whose pods would have addresses outside of these ranges.
    pub(crate) fn keep_within(&mut self, ranges: &[IpNet]) {
        self.0.retain(|(range, _)| ranges.iter().any(|all| all.contains(range)));
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

    #[test]
    fn addresses_that_two_nodes_have_are_nobodys() {
        for (theirs, expected) in [
            ("10.64.64.0/18", vec!["c"]),
            ("10.64.64.0/24", vec!["c"]),
            ("10.64.0.0/11", vec![]),
            // This node's own.
            ("10.64.0.5/32", vec!["b", "c"]),
            ("10.64.192.0/18", vec!["b", "c", "thief"]),
        ] {
            let all = [("own", "10.64.0.0/18"), ("b", "10.64.64.0/18"), ("c", "10.64.128.0/18"), ("thief", theirs)];
            let nodes = Nodes::build(&all.map(|(name, range)| node(name, range)), "own");
            let names: Vec<&str> = nodes.0.iter().map(|(_, node)| node.name.as_str()).collect();
            assert_eq!(names, expected, "{theirs}");
        }
    }

    #[test]
    fn addresses_outside_of_the_clusters_are_no_nodes() {
        let all = [("b", "10.64.64.0/18"), ("thief", "203.0.113.0/24"), ("wide", "10.0.0.0/8")];
        for (name, range) in all {
            let mut nodes = Nodes::build(&[node(name, range)], "own");
            nodes.keep_within(&["10.64.0.0/11".parse().unwrap()]);
            assert_eq!(nodes.named(name).is_some(), name == "b", "{name}");
        }
    }
}
