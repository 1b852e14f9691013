//! How a pod's names are looked up: `hostname`, `dnsPolicy`, `dnsConfig` and `hostAliases`.

use k8s_openapi::api::core::v1 as core;
use k8w_networking::dns::{Resolver, Server};

use super::hostname;
use crate::engine::Names;

/// Options of resolv.conf(5) that act here, and then those that there is nothing to do for: every question says that it takes
/// large answers, is asked from a port of its own, and its answer is not checked by anybody.
pub const OPTIONS: &[&str] = &[
    "ndots",
    "timeout",
    "attempts",
    "rotate",
    "use-vc",
    "no-aaaa",
    "edns0",
    "single-request",
    "single-request-reopen",
    "trust-ad",
];
/// Those that are about servers.
const OF_SERVERS: &[&str] = &["timeout", "attempts", "rotate", "use-vc", "no-aaaa"];

/// The options of a pod's `dnsConfig`, with their values: both may stand in the name, as in resolv.conf itself.
pub fn options(spec: &core::PodSpec) -> impl Iterator<Item = (&str, &str)> {
    let options = spec.dns_config.iter().flat_map(|config| config.options.iter().flatten());
    options.map(|option| {
        let name = option.name.as_deref().unwrap_or_default();
        let (name, value) = name.split_once(':').unwrap_or((name, ""));
        (name, option.value.as_deref().unwrap_or(value))
    })
}

/// What the manifest says about names. Servers of its own come after those of its policy, as in a container's resolv.conf.
pub fn of(spec: &core::PodSpec) -> Names {
    let mut hosts = Vec::new();
    for alias in spec.host_aliases.iter().flatten() {
        let names = alias.hostnames.iter().flatten().cloned();
        hosts.extend(alias.ip.parse().into_iter().flat_map(|ip| names.clone().map(move |name| (name, ip))));
    }
    let config = spec.dns_config.as_ref();
    let searches = config.and_then(|config| config.searches.clone()).unwrap_or_default();
    let policy = spec.dns_policy.as_deref();
    let ndots = last(spec, "ndots").map(|dots| dots.min(Names::MAX_NDOTS));
    Names {
        hostname: hostname::of(spec),
        hosts,
        searches: searches.iter().map(|domain| domain.trim_matches('.').to_owned()).collect(),
        // Where a pod has nothing but its own, resolv.conf's default holds.
        ndots: ndots.unwrap_or(if policy == Some("None") { 1 } else { Names::DEFAULT_NDOTS }),
        outside_only: matches!(policy, Some("Default" | "None")),
        resolver: resolver(spec),
    }
}

/// Whom the pod asks, where its manifest says anything of that.
fn resolver(spec: &core::PodSpec) -> Option<Resolver> {
    let is_own = spec.dns_policy.as_deref() == Some("None");
    let own = spec.dns_config.iter().flat_map(|config| config.nameservers.iter().flatten());
    let own: Vec<Server> = own.filter_map(|server| server.parse().ok()).map(Server::At).collect();
    let asks_otherwise = options(spec).any(|(name, _)| OF_SERVERS.contains(&name));
    if own.is_empty() && !is_own && !asks_otherwise {
        return None;
    }
    let has = |wanted: &str| options(spec).any(|(name, _)| name == wanted);
    let number = |name: &str, most: u8| last(spec, name).map(|number| number.clamp(1, most.into()) as u8);
    let default = Resolver::default();
    let mut servers = if is_own { Vec::new() } else { vec![Server::ClusterDns] };
    for server in own {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    Some(Resolver {
        servers,
        timeout_seconds: number("timeout", Resolver::MAX_TIMEOUT_SECONDS).unwrap_or(default.timeout_seconds),
        attempts: number("attempts", Resolver::MAX_ATTEMPTS).unwrap_or(default.attempts),
        rotate: has("rotate"),
        use_tcp: has("use-vc"),
        only_ipv4: has("no-aaaa"),
    })
}

/// The number that an option has, where it is said last.
fn last(spec: &core::PodSpec, wanted: &str) -> Option<usize> {
    options(spec).filter(|(name, _)| *name == wanted).last().and_then(|(_, value)| value.parse().ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::Hostname;

    fn read(spec: serde_json::Value) -> Names {
        of(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn a_manifest_says_how_names_are_looked_up() {
        assert!(read(json!({ "containers": [], "dnsPolicy": "ClusterFirst" })).are_the_clusters());
        let names = read(json!({ "containers": [], "dnsPolicy": "Default", "hostname": "own", "subdomain": "",
            "hostAliases": [{ "ip": "10.1.2.3", "hostnames": ["a", "b"] }],
            "dnsConfig": { "searches": ["corp.example."], "options": [{ "name": "ndots", "value": "2" }] } }));
        let ip = "10.1.2.3".parse().unwrap();
        assert_eq!(
            names,
            Names {
                hostname: Hostname { name: Some("own".to_owned()), subdomain: None },
                hosts: vec![("a".to_owned(), ip), ("b".to_owned(), ip)],
                searches: vec!["corp.example".to_owned()],
                ndots: 2,
                outside_only: true,
                resolver: None,
            }
        );
    }

    #[test]
    fn servers_of_its_own_come_after_those_of_the_policy() {
        let own = |ip: &str| Server::At(ip.parse().unwrap());
        let servers = ["192.0.2.1", "192.0.2.1", "fd00::1"];
        let config = json!({ "nameservers": servers });
        let first = read(json!({ "containers": [], "dnsPolicy": "ClusterFirst", "dnsConfig": config }));
        let expected = vec![Server::ClusterDns, own("192.0.2.1"), own("fd00::1")];
        assert_eq!(first.resolver, Some(Resolver { servers: expected, ..Resolver::default() }));
        assert_eq!((first.ndots, first.outside_only), (5, false));
        let alone = read(json!({ "containers": [], "dnsPolicy": "None", "dnsConfig": config }));
        let expected = vec![own("192.0.2.1"), own("fd00::1")];
        assert_eq!(alone.resolver, Some(Resolver { servers: expected, ..Resolver::default() }));
        assert_eq!((alone.ndots, alone.outside_only, alone.are_the_clusters()), (1, true, false));
    }

    #[test]
    fn options_are_those_of_resolv_conf_with_its_bounds() {
        let options = |options: serde_json::Value| {
            let config = json!({ "nameservers": [], "options": options });
            let names = read(json!({ "containers": [], "dnsPolicy": "ClusterFirst", "dnsConfig": config }));
            let resolver = names.resolver.map(|resolver| {
                assert_eq!(resolver.servers, [Server::ClusterDns]);
                (resolver.timeout_seconds, resolver.attempts, resolver.rotate, resolver.use_tcp, resolver.only_ipv4)
            });
            (names.ndots, resolver)
        };
        assert_eq!(options(json!([{ "name": "ndots", "value": "99" }, { "name": "edns0" }])), (15, None));
        let some =
            json!([{ "name": "timeout", "value": "99" }, { "name": "attempts", "value": "0" }, { "name": "rotate" }]);
        assert_eq!(options(some), (5, Some((30, 1, true, false, false))));
        let in_names =
            json!([{ "name": "timeout:3" }, { "name": "attempts:9" }, { "name": "use-vc" }, { "name": "no-aaaa" }]);
        assert_eq!(options(in_names), (5, Some((3, 5, false, true, true))));
        assert_eq!(options(json!([{ "name": "attempts", "value": "many" }])), (5, Some((5, 2, false, false, false))));
    }
}
