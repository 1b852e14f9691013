//! What `k8w up` and `k8w server` let one choose about the control plane.

use std::net::{IpAddr, Ipv4Addr};

use clap::Args;
use ipnet::Ipv4Net;

use crate::compose::ControlPlaneConfig;

#[derive(Args)]
pub struct ControlPlaneArgs {
    /// Address that the API server (and with `up` node ports and ingress) listens on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,

    /// Port of the API server; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    port: u16,

    /// Ports that Services of type NodePort are given, FIRST-LAST
    #[arg(long, value_name = "RANGE", default_value = "30000-32767", value_parser = port_range)]
    node_port_range: (u16, u16),

    /// Addresses of Services
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    service_cidr: Ipv4Net,

    /// DNS suffix of the cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
}

impl ControlPlaneArgs {
    pub fn config(&self) -> ControlPlaneConfig {
        ControlPlaneConfig {
            address: self.address,
            port: self.port,
            node_port_range: self.node_port_range.0..=self.node_port_range.1,
            service_cidr: self.service_cidr,
            cluster_domain: self.cluster_domain.clone(),
        }
    }
}

/// Parses `FIRST-LAST`.
fn port_range(text: &str) -> Result<(u16, u16), String> {
    let parse = |part: &str| part.trim().parse::<u16>().ok().filter(|port| *port > 0);
    match text.split_once('-').map(|(first, last)| (parse(first), parse(last))) {
        Some((Some(first), Some(last))) if first <= last => Ok((first, last)),
        _ => Err("a range of ports looks like 30000-32767".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::port_range;

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok((30000, 32767)));
        for wrong in ["", "30000", "2-1", "0-5", "a-b", "1-70000"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
    }
}
