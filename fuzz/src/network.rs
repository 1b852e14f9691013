//! The network of a node, as those targets have it that connect to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use k8w_networking::{Config, Network, PodIdentity};

/// Addresses of two pods of the node.
pub const PODS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 64, 0, 2)), IpAddr::V4(Ipv4Addr::new(10, 64, 0, 3))];

/// Pods of the node have addresses of 10.64.0.0/18, Services of the cluster those of 10.96.0.0/16.
pub fn node() -> Arc<Network> {
    Network::new(Config {
        service_cidr: "10.96.0.0/16".parse().expect("a range"),
        pod_cidrs: vec!["10.64.0.0/16".parse().expect("a range")],
        wasm_cidr: Some("10.64.0.0/18".parse().expect("a range")),
        cluster_domain: "cluster.local".to_owned(),
        node_name: "node".to_owned(),
        client_tls: None,
    })
}

pub fn identity(pod: usize) -> PodIdentity {
    PodIdentity {
        namespace: "a".to_owned(),
        name: pod.to_string(),
        uid: pod.to_string(),
        ip: PODS[pod],
        service_account: "default".to_owned(),
    }
}
