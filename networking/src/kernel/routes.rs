//! Routes: the ranges and addresses that the kernel takes for its own, and those that lead nowhere.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use serde::Deserialize;

use super::{Error, program};

/// Number of the routing protocol under which our routes are (rtnetlink(7): those above 4 are for daemons).
pub const PROTOCOL: &str = "107";
/// The table of the kernel's own addresses, and the one of everything else.
const TABLES: [&str; 2] = ["local", "main"];
/// Everybody else's routes to the same range come before ours that lead nowhere.
const LAST_METRIC: &str = "4294967295";

/// A route as `ip -json` shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Route {
    dst: String,
    dev: Option<String>,
    protocol: Option<String>,
}

impl Route {
    fn range(&self) -> Option<Ipv4Net> {
        self.dst.parse().ok().or_else(|| Some(Ipv4Net::from(self.dst.parse::<Ipv4Addr>().ok()?)))
    }
}

/// The routes of a table, or of `all`, that are not ours.
pub(super) async fn foreign(table: &str) -> Result<Vec<Route>, Error> {
    let mut routes = show(&["table", table]).await?;
    routes.retain(|route| route.protocol.as_deref() != Some(PROTOCOL));
    Ok(routes)
}

/// The routes that are ours.
pub(super) async fn ours() -> Result<Vec<Route>, Error> {
    show(&["table", "all", "proto", PROTOCOL]).await
}

/// The routes of IPv4 that `ip route show` selects.
async fn show(selector: &[&str]) -> Result<Vec<Route>, Error> {
    let shown = program::ip(&[&["-4", "-json", "route", "show"], selector].concat()).await?;
    let routes = serde_json::from_str(if shown.trim().is_empty() { "[]" } else { &shown });
    routes.map_err(|error| Error::Failed { program: "ip", said: error.to_string() })
}

/// Whether one of the routes is to exactly this range.
pub(super) fn have(routes: &[Route], range: Ipv4Net) -> bool {
    routes.iter().any(|route| route.range() == Some(range))
}

/// Whether one of the routes leads to an address, other than everything's.
pub(super) fn lead_to(routes: &[Route], address: Ipv4Addr) -> bool {
    routes.iter().filter_map(Route::range).any(|range| range.contains(&address))
}

/// Where addresses of a range lead already, if they do. What leads everywhere leads nowhere in particular.
pub(super) fn overlap(routes: &[Route], range: Ipv4Net) -> Option<&str> {
    let found = routes.iter().find(|route| {
        let to = route.range().filter(|to| to.prefix_len() > 1);
        to.is_some_and(|to| to.contains(&range) || range.contains(&to))
    });
    found.map(|route| route.dev.as_deref().unwrap_or("nowhere"))
}

/// Makes a range, or one address, the kernel's own. What this machine sends there it sends from `source`.
pub(super) async fn add_local(range: Ipv4Net, source: Ipv4Addr) -> Result<(), Error> {
    let (range, source) = (range.to_string(), source.to_string());
    let route = ["route", "add", "local", &range, "dev", "lo", "src", &source, "proto", PROTOCOL];
    program::ip(&route).await.map(drop)
}

/// Makes an address this machine's own.
pub(super) async fn add_address(address: Ipv4Addr) -> Result<(), Error> {
    let address = address.to_string();
    program::ip(&["route", "add", "local", &address, "dev", "lo", "proto", PROTOCOL]).await.map(drop)
}

/// Lets a range lead nowhere, unless somebody has a way.
pub(super) async fn add_unreachable(range: IpNet) -> Result<(), Error> {
    let range = range.to_string();
    let route = ["route", "add", "unreachable", &range, "metric", LAST_METRIC, "proto", PROTOCOL];
    program::ip(&route).await.map(drop)
}

pub(super) async fn remove_local(address: Ipv4Addr) -> Result<(), Error> {
    program::ip(&["route", "del", "local", &address.to_string(), "dev", "lo", "proto", PROTOCOL]).await.map(drop)
}

/// Removes all that is ours.
pub(super) async fn flush() -> Result<(), Error> {
    for table in TABLES {
        program::ip(&["-4", "route", "flush", "table", table, "proto", PROTOCOL]).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_lead_elsewhere_are_found() {
        let routes = r#"[
            {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "protocol": "dhcp", "flags": []},
            {"dst": "0.0.0.0/1", "dev": "tun0", "flags": []},
            {"dst": "10.0.0.0/8", "dev": "vpn0", "protocol": "static", "flags": []},
            {"type": "local", "dst": "192.0.2.7", "table": "local", "dev": "eth0", "protocol": "kernel", "flags": []},
            {"type": "unreachable", "dst": "198.51.100.0/24", "flags": []}
        ]"#;
        let routes: Vec<Route> = serde_json::from_str(routes).unwrap();
        let overlap = |range: &str| overlap(&routes, range.parse().unwrap());
        assert_eq!(overlap("10.64.0.0/18"), Some("vpn0"));
        assert_eq!(overlap("192.0.2.0/24"), Some("eth0"));
        assert_eq!(overlap("198.51.100.128/25"), Some("nowhere"));
        assert_eq!(overlap("172.16.0.0/16"), None);
        let lead_to = |address: &str| lead_to(&routes, address.parse().unwrap());
        assert_eq!(["10.1.2.3", "192.0.2.7", "192.0.2.8"].map(lead_to), [true, true, false]);
        let have = |range: &str| have(&routes, range.parse().unwrap());
        assert_eq!(["10.0.0.0/8", "10.0.0.0/9", "192.0.2.7/32"].map(have), [true, false, true]);
    }
}
