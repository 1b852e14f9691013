//! Addresses between WIT's records and the standard library's.

crate::host::sockets::address::conversions!(super::wit::types);

/// Where a socket of a family binds that was not told to: any address, any port.
pub(super) fn unspecified(family: IpAddressFamily) -> SocketAddr {
    let ip = match family {
        IpAddressFamily::Ipv4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddressFamily::Ipv6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    SocketAddr::new(ip, 0)
}
