//! What nftables is told, as text. Pure.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

/// The whole of what is ours.
const TABLE: &str = "table ip k8w";

/// The ports, on loopback, of the sockets that take what is let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub from_host: u16,
    pub from_elsewhere: u16,
    pub datagrams: u16,
}

/// What is let through, and what is refused otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sets {
    pub tcp: BTreeSet<SocketAddrV4>,
    pub udp: BTreeSet<SocketAddrV4>,
    /// Addresses outside of the ranges that are the kernel's own because of us.
    pub addresses: BTreeSet<Ipv4Addr>,
}

/// Makes the table, in place of one that may be there, with empty sets.
///
/// A connection is refused when it is opened; one that is open outlives its port's being in the set. This machine's own
/// address among those of the pods is left alone, and so are messages about other packets.
pub(super) fn table(ranges: &[Ipv4Net], own_address: Ipv4Addr, ports: Ports) -> String {
    let removal = removal();
    let ranges = elements(ranges);
    let Ports { from_host, from_elsewhere, datagrams } = ports;
    format!(
        "{removal}{TABLE} {{
    set tcp_ports {{ type ipv4_addr . inet_service; }}
    set udp_ports {{ type ipv4_addr . inet_service; }}
    set ranges {{ type ipv4_addr; flags interval; elements = {{ {ranges} }}; }}
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
        iif lo ip daddr . tcp dport @tcp_ports tproxy to 127.0.0.1:{from_host} accept
        ip daddr . tcp dport @tcp_ports tproxy to 127.0.0.1:{from_elsewhere} accept
        ip daddr . udp dport @udp_ports tproxy to 127.0.0.1:{datagrams} accept
    }}
    chain input {{
        type filter hook input priority filter; policy accept;
        ip daddr != @ranges accept
        ip daddr {own_address} accept
        tcp flags & (fin | syn | rst | ack) != syn accept
        ip daddr . tcp dport @tcp_ports accept
        ip daddr . udp dport @udp_ports accept
        icmp type != echo-request accept
        meta l4proto tcp reject with tcp reset
        reject
    }}
}}
"
    )
}

/// Removes the table, if there is one.
pub(super) fn removal() -> String {
    format!("{TABLE} {{}}\ndelete {TABLE}\n")
}

/// Turns the sets from `old` into `new`; `None` when they are the same.
pub(super) fn change(old: &Sets, new: &Sets) -> Option<String> {
    let port = |at: &SocketAddrV4| format!("{} . {}", at.ip(), at.port());
    let ports = |name: &str, old: &BTreeSet<SocketAddrV4>, new: &BTreeSet<SocketAddrV4>| {
        command("delete", name, old.difference(new).map(port)) + &command("add", name, new.difference(old).map(port))
    };
    let (gone, come) = (old.addresses.difference(&new.addresses), new.addresses.difference(&old.addresses));
    let script = ports("tcp_ports", &old.tcp, &new.tcp)
        + &ports("udp_ports", &old.udp, &new.udp)
        + &command("delete", "ranges", gone.map(Ipv4Addr::to_string))
        + &command("add", "ranges", come.map(Ipv4Addr::to_string));
    (!script.is_empty()).then_some(script)
}

fn command(verb: &str, set: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    match elements.is_empty() {
        true => String::new(),
        false => format!("{verb} element ip k8w {set} {{ {} }}\n", elements.join(", ")),
    }
}

fn elements(of: &[impl Display]) -> String {
    of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn sets_change_by_what_came_and_went() {
        let set = |addresses: &[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
        let old = Sets { tcp: set(&["10.64.0.2:80", "10.64.0.3:80"]), ..Sets::default() };
        let new = Sets {
            tcp: set(&["10.64.0.3:80", "10.96.0.1:443", "10.64.0.2:81"]),
            udp: set(&["10.96.0.10:53"]),
            addresses: ["192.0.2.9".parse().unwrap()].into(),
        };
        expect![[r#"
            delete element ip k8w tcp_ports { 10.64.0.2 . 80 }
            add element ip k8w tcp_ports { 10.64.0.2 . 81, 10.96.0.1 . 443 }
            add element ip k8w udp_ports { 10.96.0.10 . 53 }
            add element ip k8w ranges { 192.0.2.9 }
        "#]]
        .assert_eq(&change(&old, &new).unwrap());
        assert_eq!(change(&new, &new), None);
    }
}
