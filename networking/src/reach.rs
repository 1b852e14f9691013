//! What an address means to who asks, and whether it may be dialled outside of this process.
//!
//! Addresses of the cluster never leave this process by themselves: a pod's loopback is its own, and an address in the
//! cluster's ranges is what the tables and registrations say, or nothing.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::endpoint::PodIdentity;

/// What `dst` means to `from`: loopback and unspecified addresses are the pod's own, never the host's, and an IPv4 address
/// in IPv6 clothes is itself.
pub(crate) fn as_seen_by(from: Option<&PodIdentity>, dst: SocketAddr) -> SocketAddr {
    let ip = dst.ip().to_canonical();
    let ip = match from {
        Some(pod) if ip.is_loopback() || ip.is_unspecified() => pod.ip,
        _ => ip,
    };
    SocketAddr::new(ip, dst.port())
}

/// Whether `from` may dial `dst` outside, where nothing in this process stands for it.
pub(crate) fn may_leave(from: Option<&PodIdentity>, dst: SocketAddr, cluster_ranges: &[IpNet]) -> bool {
    let own = from.is_some_and(|pod| pod.ip == dst.ip());
    !own && !cluster_ranges.iter().any(|range| range.contains(&dst.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodIdentity {
        let text = |text: &str| text.to_owned();
        let ip = [192, 0, 2, 5].into();
        PodIdentity { namespace: text("a"), name: text("b"), uid: text("c"), ip, service_account: text("default") }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_pods_loopback_is_the_pod() {
        let pod = pod();
        for own in ["127.0.0.1:80", "127.9.9.9:80", "0.0.0.0:80", "[::1]:80", "[::]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(as_seen_by(Some(&pod), address(own)), address("192.0.2.5:80"), "{own}");
        }
        assert_eq!(as_seen_by(Some(&pod), address("[::ffff:10.96.0.1]:80")), address("10.96.0.1:80"));
        assert_eq!(as_seen_by(None, address("127.0.0.1:80")), address("127.0.0.1:80"));
    }

    #[test]
    fn addresses_of_the_cluster_stay_in_the_process() {
        let ranges = ["10.96.0.0/16", "10.64.0.0/18"].map(|range| range.parse().unwrap());
        let pod = pod();
        let may = |from, dst| may_leave(from, address(dst), &ranges);
        assert!(!may(None, "10.96.3.4:80") && !may(None, "10.64.0.9:80"));
        assert!(may(None, "192.0.2.5:80") && !may(Some(&pod), "192.0.2.5:80"));
        assert!(may(Some(&pod), "198.51.100.1:443"));
    }
}
