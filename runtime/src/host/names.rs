//! What a name means to a pod: its own name and `hostAliases`, the cluster's names, the domains it searches, and what the servers
//! say that its manifest names, or the node's resolver.

use std::net::{IpAddr, Ipv4Addr};

use k8w_networking::Meaning;
use k8w_networking::dns::{Server, Unresolved};

use super::pod_network::PodNetwork;
use crate::engine::Names;

/// Longest name that is looked up (RFC 1035 §2.3.4).
pub const MAX_NAME_BYTES: usize = 255;

/// What is known of a name without asking anybody.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Known(Vec<IpAddr>),
    NoSuchName,
    /// The node's resolver would have to be asked, and policies keep the pod from it.
    NoResolver,
    /// A resolver has to be asked for these, in order: see [`ask`].
    Ask(Vec<String>),
}

/// Looks a name up in the pod's own names and the cluster's.
pub fn look_up(own: &PodNetwork, name: &str) -> Answer {
    let names = &own.names;
    let known = in_hosts(own, name);
    if !known.is_empty() {
        return Answer::Known(known);
    }
    let plain = name.strip_suffix('.').unwrap_or(name);
    // What a server has to say of these is nobody's business (RFC 6761, section 6.3).
    if plain.eq_ignore_ascii_case("localhost") {
        return Answer::Known(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    if let Ok(address) = name.parse() {
        return Answer::Known(vec![address]);
    }
    let mut ask = Vec::new();
    for candidate in names.candidates(name) {
        match in_cluster(own, candidate) {
            Answer::Known(addresses) => return Answer::Known(addresses),
            Answer::Ask(outside) => ask.extend(outside),
            Answer::NoSuchName | Answer::NoResolver => {}
        }
    }
    if ask.is_empty() {
        Answer::NoSuchName
    } else if names.resolver.is_none() && !own.network.may_resolve(&own.pod) {
        Answer::NoResolver
    } else {
        Answer::Ask(ask)
    }
}

/// The addresses that a name has as in the pod's `/etc/hosts`: nobody is asked for it.
fn in_hosts(own: &PodNetwork, name: &str) -> Vec<IpAddr> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_own = own.own_names.iter().any(|own| own.eq_ignore_ascii_case(name));
    let aliases = own.names.hosts.iter().filter(|(host, _)| host.eq_ignore_ascii_case(name)).map(|(_, ip)| *ip);
    is_own.then_some(own.pod.ip).into_iter().chain(aliases).collect()
}

/// Whether a name means to the pod what it means to every pod of its namespace.
pub fn is_the_clusters(own: &PodNetwork, name: &str) -> bool {
    own.names.are_the_clusters() && in_hosts(own, name).is_empty()
}

fn in_cluster(own: &PodNetwork, name: String) -> Answer {
    if own.names.outside_only {
        // Cluster DNS stands for the node's resolver, which has never heard of the cluster.
        let asks_cluster_dns = |names: &Names| names.resolver.iter().any(|r| r.servers.contains(&Server::ClusterDns));
        let is_known = asks_cluster_dns(&own.names) && own.network.is_cluster_name(&name);
        return if is_known { Answer::NoSuchName } else { Answer::Ask(vec![name]) };
    }
    match own.network.lookup_host(&own.pod.namespace, &name) {
        Meaning::Addresses(addresses) => Answer::Known(addresses),
        Meaning::NoSuchName => Answer::NoSuchName,
        Meaning::Outside(name) => Answer::Ask(vec![name]),
    }
}

/// Asks the pod's servers, or the node's resolver, for one name after the other.
///
/// # Errors
/// [`Unresolved`] when none of them has addresses: without an answer, if only one of them got none.
pub async fn ask(own: &PodNetwork, names: Vec<String>) -> Result<Vec<IpAddr>, Unresolved> {
    let mut unresolved = Unresolved::NoSuchName;
    for name in names {
        let found = match &own.names.resolver {
            Some(resolver) => resolver.resolve(&own.network, &own.pod, &name).await,
            None => of_node(&name).await,
        };
        match found {
            Ok(found) => return Ok(found),
            Err(Unresolved::NoAnswer) => unresolved = Unresolved::NoAnswer,
            Err(Unresolved::NoSuchName) => {}
        }
    }
    Err(unresolved)
}

/// The addresses that the node's resolver finds. It does not tell why it finds none.
async fn of_node(name: &str) -> Result<Vec<IpAddr>, Unresolved> {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|_| Unresolved::NoSuchName)?;
    let mut addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    addresses.dedup();
    if addresses.is_empty() { Err(Unresolved::NoSuchName) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Hostname;
    use crate::wasm::tests::pod_network;

    #[test]
    fn a_pod_knows_its_own_name_and_asks_nobody() {
        let own = pod_network(Names {
            hostname: Hostname { name: Some("h".to_owned()), subdomain: Some("sub".to_owned()) },
            hosts: vec![("h".to_owned(), "10.1.2.3".parse().unwrap())],
            outside_only: true,
            ..Names::default()
        });
        let [ip, alias]: [IpAddr; 2] = ["10.64.0.2", "10.1.2.3"].map(|ip| ip.parse().unwrap());
        assert_eq!(look_up(&own, "H"), Answer::Known(vec![ip, alias]));
        for name in ["h.sub.default.svc.cluster.local", "h.sub.Default.svc.cluster.local."] {
            assert_eq!(look_up(&own, name), Answer::Known(vec![ip]), "{name}");
        }
        for name in ["pod", "h.sub", "h.default.svc.cluster.local"] {
            assert_eq!(look_up(&own, name), Answer::Ask(vec![name.to_owned()]), "{name}");
        }
        let unnamed = pod_network(Names::default());
        assert_eq!(look_up(&unnamed, "pod"), Answer::Known(vec![ip]));
        assert!(!is_the_clusters(&unnamed, "pod") && is_the_clusters(&unnamed, "web"));
    }

    #[test]
    fn own_names_come_first_and_domains_are_searched() {
        let mut own = pod_network(Names::default());
        let ask = |names: &[&str]| Answer::Ask(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(look_up(&own, "db"), ask(&["db"]));
        own.names = Names {
            hostname: Hostname::default(),
            hosts: vec![("db".to_owned(), "10.1.2.3".parse().unwrap())],
            searches: vec!["corp.example".to_owned()],
            ndots: 2,
            outside_only: false,
            resolver: None,
        };
        assert_eq!(look_up(&own, "DB."), Answer::Known(vec!["10.1.2.3".parse().unwrap()]));
        assert_eq!(look_up(&own, "a.b"), ask(&["a.b.corp.example", "a.b"]));
        assert_eq!(look_up(&own, "a.b.c"), ask(&["a.b.c", "a.b.c.corp.example"]));
        assert_eq!(look_up(&own, "a.b."), ask(&["a.b."]));
        assert_eq!(
            look_up(&own, "none.default.svc.cluster.local"),
            ask(&["none.default.svc.cluster.local.corp.example"])
        );
        assert_eq!(look_up(&own, "10.0.0.1"), Answer::Known(vec!["10.0.0.1".parse().unwrap()]));
        own.names.outside_only = true;
        let name = "none.default.svc.cluster.local";
        assert_eq!(look_up(&own, name), ask(&[name, &format!("{name}.corp.example")]));
    }
}
