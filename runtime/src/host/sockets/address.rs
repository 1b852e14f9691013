//! Addresses between WIT's records and the standard library's.

/// The conversions of one version of `wasi:sockets`, whose records are in this module.
macro_rules! conversions {
    ($($wit:ident)::+) => {
        use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

        use $($wit)::+::{IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};

        impl From<IpAddr> for IpAddress {
            fn from(address: IpAddr) -> Self {
                match address {
                    IpAddr::V4(v4) => IpAddress::Ipv4(v4.octets().into()),
                    IpAddr::V6(v6) => IpAddress::Ipv6(v6.segments().into()),
                }
            }
        }

        impl From<SocketAddr> for IpSocketAddress {
            fn from(address: SocketAddr) -> Self {
                match address {
                    SocketAddr::V4(v4) => {
                        IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: v4.ip().octets().into() })
                    }
                    SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
                        port: v6.port(),
                        flow_info: v6.flowinfo(),
                        address: v6.ip().segments().into(),
                        scope_id: v6.scope_id(),
                    }),
                }
            }
        }

        impl From<IpSocketAddress> for SocketAddr {
            fn from(address: IpSocketAddress) -> Self {
                match address {
                    IpSocketAddress::Ipv4(v4) => {
                        let octets: [u8; 4] = v4.address.into();
                        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(octets)), v4.port)
                    }
                    IpSocketAddress::Ipv6(v6) => {
                        let segments: [u16; 8] = v6.address.into();
                        SocketAddrV6::new(Ipv6Addr::from(segments), v6.port, v6.flow_info, v6.scope_id).into()
                    }
                }
            }
        }

        /// The family that an address belongs to.
        pub(super) fn family(address: &SocketAddr) -> IpAddressFamily {
            match address {
                SocketAddr::V4(_) => IpAddressFamily::Ipv4,
                SocketAddr::V6(_) => IpAddressFamily::Ipv6,
            }
        }

        /// Whether a socket of a family can have this peer.
        pub(super) fn is_remote(own: IpAddressFamily, remote: &SocketAddr) -> bool {
            family(remote) == own && !remote.ip().to_canonical().is_unspecified() && remote.port() != 0
        }
    };
}

pub(in crate::host) use conversions;

conversions!(super::wit::network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_no_peer_in_whatever_clothes() {
        for (own, remote, expected) in [
            (IpAddressFamily::Ipv4, "10.0.0.1:80", true),
            (IpAddressFamily::Ipv4, "10.0.0.1:0", false),
            (IpAddressFamily::Ipv4, "0.0.0.0:80", false),
            (IpAddressFamily::Ipv4, "[::1]:80", false),
            (IpAddressFamily::Ipv6, "[::ffff:10.0.0.1]:80", true),
            (IpAddressFamily::Ipv6, "[::ffff:0.0.0.0]:80", false),
            (IpAddressFamily::Ipv6, "[::]:80", false),
        ] {
            assert_eq!(is_remote(own, &remote.parse().unwrap()), expected, "{remote}");
        }
    }
}
