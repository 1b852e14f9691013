//! For whom a stream between nodes is: how it is said, and what of it is believed.

use std::net::IpAddr;

use super::nodes::{Node, Nodes};
use crate::origin::Origin;

/// For whom a stream is, as the node says that opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The node itself.
    Node,
    /// The pod of the node that has this address.
    Pod(IpAddr),
    /// The node's ingress, for a client at this address.
    Ingress(IpAddr),
    /// A client at this address, through a node port.
    Outside(IpAddr),
}

impl Claim {
    pub fn of(origin: Origin<'_>) -> Claim {
        match origin {
            Origin::Node | Origin::Host(_) => Claim::Node,
            Origin::Pod(pod) => Claim::Pod(pod.ip),
            Origin::Ingress(client) => Claim::Ingress(client),
            // To others it is the node.
            Origin::Outside(client) if client.is_loopback() => Claim::Node,
            Origin::Visitor(client) | Origin::Outside(client) => Claim::Outside(client),
        }
    }

    pub fn parse(text: &str) -> Option<Claim> {
        let (who, ip) = text.split_once(' ').unwrap_or((text, ""));
        let ip = ip.parse().map(|ip: IpAddr| ip.to_canonical());
        match (who, ip) {
            ("node", Err(_)) => Some(Claim::Node),
            ("pod", Ok(ip)) => Some(Claim::Pod(ip)),
            ("ingress", Ok(ip)) => Some(Claim::Ingress(ip)),
            ("outside", Ok(ip)) => Some(Claim::Outside(ip)),
            _ => None,
        }
    }

    /// Who it is to the policies here; `None` when the node may not say so. It speaks for its own pods and for what comes from
    /// outside of the cluster.
    pub fn believed(self, from: &Node, others: &Nodes, is_own: impl Fn(IpAddr) -> bool) -> Option<Origin<'static>> {
        let is_outside =
            |ip: IpAddr| !ip.is_loopback() && !ip.is_unspecified() && others.of(ip).is_none() && !is_own(ip);
        match self {
            // A host to others, at its address; never this node, wherever it says that it is.
            Claim::Node => Some(Origin::Visitor(from.address?.ip())),
            Claim::Pod(ip) => others.of(ip).filter(|node| node.name == from.name).map(|_| Origin::Visitor(ip)),
            Claim::Ingress(ip) => (is_outside(ip) || ip.is_loopback()).then_some(Origin::Ingress(ip)),
            Claim::Outside(ip) => is_outside(ip).then_some(Origin::Outside(ip)),
        }
    }
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Claim::Node => f.write_str("node"),
            Claim::Pod(ip) => write!(f, "pod {ip}"),
            Claim::Ingress(ip) => write!(f, "ingress {ip}"),
            Claim::Outside(ip) => write!(f, "outside {ip}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::policy::End;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn claims_are_said_and_read() {
        for claim in
            [Claim::Node, Claim::Pod(ip("10.64.0.2")), Claim::Ingress(ip("::1")), Claim::Outside(ip("192.0.2.1"))]
        {
            assert_eq!(Claim::parse(&claim.to_string()), Some(claim));
        }
        for wrong in ["", "pod", "node 10.64.0.2", "pod x", "root 10.64.0.2"] {
            assert_eq!(Claim::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn another_node_is_never_this_one() {
        for address in ["127.0.0.1:10250", "[::1]:10250", "[::ffff:127.0.0.1]:10250", "192.0.2.1:10250"] {
            let wasm_cidr = "127.64.0.0/18".parse().ok();
            let node = Node { name: "a".into(), zone: None, wasm_cidr, address: address.parse().ok() };
            let others = Nodes::build(&[Arc::new(node.clone())], "own");
            for claim in [Claim::Node, Claim::Pod(ip("127.64.0.9"))] {
                let end = claim.believed(&node, &others, |_| false).unwrap().end();
                assert!(matches!(end, End::Address(_)), "{address} {claim}");
            }
        }
    }

    #[test]
    fn a_node_speaks_for_its_own_pods_alone() {
        let node = |name: &str, range: &str, address: &str| {
            let (wasm_cidr, address) = (range.parse().ok(), address.parse().ok());
            Arc::new(Node { name: name.into(), zone: None, wasm_cidr, address })
        };
        let a = node("a", "10.64.64.0/18", "192.0.2.1:10250");
        let others = Nodes::build(&[a.clone(), node("b", "10.64.128.0/18", "192.0.2.2:10250")], "own");
        let own: ipnet::IpNet = "10.64.0.0/18".parse().unwrap();
        let believed = |text: &str| {
            let origin = Claim::parse(text).unwrap().believed(&a, &others, |ip| own.contains(&ip));
            origin.map_or("nobody".to_owned(), |origin| format!("{origin:?}"))
        };
        for (claim, expected) in [
            ("node", "Visitor(192.0.2.1)"),
            ("pod 10.64.64.9", "Visitor(10.64.64.9)"),
            ("pod ::ffff:10.64.64.9", "Visitor(10.64.64.9)"),
            ("pod 10.64.128.9", "nobody"),
            ("pod 10.64.0.9", "nobody"),
            ("pod 127.0.0.1", "nobody"),
            ("outside 198.51.100.1", "Outside(198.51.100.1)"),
            ("outside 10.64.128.9", "nobody"),
            ("outside 10.64.0.9", "nobody"),
            ("outside 127.0.0.1", "nobody"),
            ("outside ::ffff:10.64.128.9", "nobody"),
            ("outside ::ffff:10.64.0.9", "nobody"),
            ("outside ::ffff:127.0.0.1", "nobody"),
            ("outside ::ffff:198.51.100.1", "Outside(198.51.100.1)"),
            ("ingress ::ffff:10.64.128.9", "nobody"),
            ("ingress 127.0.0.1", "Ingress(127.0.0.1)"),
            ("ingress 10.64.128.9", "nobody"),
        ] {
            assert_eq!(believed(claim), expected, "{claim}");
        }
    }
}
