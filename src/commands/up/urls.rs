//! The URLs at which what was applied answers: one a line on standard output.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;

use super::apply::Applied;
use crate::compose::Cluster;

/// A URL, and what curl(1) has to be told (`--resolve`) where its name leads somewhere else.
type Url = (String, Option<String>);

/// Prints the URLs of every Ingress and NodePort among `objects`; of those that nobody reaches by their name alone,
/// how they are reached, on standard error.
pub async fn print(cluster: &Cluster, objects: &[Applied]) -> Result<()> {
    let mut urls = BTreeSet::new();
    for applied in objects {
        match applied.resource.kind.as_str() {
            "Ingress" => urls.extend(ingress_urls(&current(cluster, applied).await?, cluster)),
            "Service" => urls.extend(node_port_urls(&current(cluster, applied).await?, cluster.node_ip())),
            _ => {}
        }
    }
    for (url, resolve) in urls {
        match resolve {
            None => println!("{url}"),
            Some(resolve) => eprintln!("Reached by: curl --resolve {resolve} {url}"),
        }
    }
    Ok(())
}

/// The object as it is now, typed.
async fn current<K>(cluster: &Cluster, applied: &Applied) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let namespace = applied.object.metadata.namespace.as_deref().unwrap_or("default");
    let name = applied.object.metadata.name.as_deref().unwrap_or_default();
    Ok(Api::namespaced(cluster.client().clone(), namespace).get(name).await?)
}

fn ingress_urls(ingress: &Ingress, cluster: &Cluster) -> Vec<Url> {
    let Some(spec) = &ingress.spec else { return Vec::new() };
    if spec.ingress_class_name.as_deref().is_some_and(|class| class != "k8w") {
        return Vec::new();
    }
    let tls: Vec<&String> = spec.tls.iter().flatten().flat_map(|tls| tls.hosts.iter().flatten()).collect();
    let mut urls = Vec::new();
    for rule in spec.rules.iter().flatten() {
        let secure = rule.host.as_ref().is_some_and(|host| tls.contains(&host));
        let (scheme, listener, usual) = match secure {
            true => ("https", cluster.ingress_https(), 443),
            false => ("http", cluster.ingress_http(), 80),
        };
        let host = match &rule.host {
            Some(host) => host.replacen("*.", "any.", 1),
            None => host_of(listener.ip()),
        };
        let resolve = resolve(&host, listener);
        let port = if listener.port() == usual { String::new() } else { format!(":{}", listener.port()) };
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            let url = format!("{scheme}://{host}{port}{}", path.path.as_deref().unwrap_or("/"));
            urls.push((url, resolve.clone()));
        }
    }
    urls
}

/// Names beneath `localhost` lead to the usual loopback addresses (RFC 6761 §6.3), wherever the ingress listens.
fn resolve(host: &str, listener: SocketAddr) -> Option<String> {
    let is_local = host == "localhost" || host.ends_with(".localhost");
    let ip = listener.ip();
    let is_there = ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    (is_local && !is_there).then(|| format!("{host}:{}:{ip}", listener.port()))
}

fn node_port_urls(service: &Service, address: IpAddr) -> Vec<Url> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let tcp = |protocol: &Option<String>| protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let ports = spec.ports.iter().flatten().filter(|port| tcp(&port.protocol)).filter_map(|port| port.node_port);
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .map(|port| (format!("http://{}/", SocketAddr::new(address, port)), None))
        .collect()
}

/// An address as it stands in a URL.
fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_localhost_lead_to_loopback_alone() {
        let resolve = |host: &str, listener: &str| resolve(host, listener.parse().unwrap());
        for listener in ["127.0.0.1:8080", "0.0.0.0:80", "[::1]:80"] {
            assert_eq!(resolve("a.localhost", listener), None);
        }
        assert_eq!(resolve("a.example", "192.0.2.1:80"), None);
        assert_eq!(resolve("a.localhost", "192.0.2.1:80").as_deref(), Some("a.localhost:80:192.0.2.1"));
        assert_eq!(resolve("localhost", "127.0.0.2:8080").as_deref(), Some("localhost:8080:127.0.0.2"));
    }
}
