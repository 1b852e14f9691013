//! The URLs at which what was applied answers: one a line on standard output.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::Api;

use super::apply::Applied;
use crate::compose::Cluster;

/// Prints the URLs of every Ingress and NodePort among `objects`.
pub async fn print(cluster: &Cluster, objects: &[Applied]) -> Result<()> {
    let mut urls = BTreeSet::new();
    for applied in objects {
        match applied.resource.kind.as_str() {
            "Ingress" => urls.extend(ingress_urls(&current(cluster, applied).await?, cluster)),
            "Service" => urls.extend(node_port_urls(&current(cluster, applied).await?, cluster.node_ip())),
            _ => {}
        }
    }
    for url in urls {
        println!("{url}");
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

fn ingress_urls(ingress: &Ingress, cluster: &Cluster) -> Vec<String> {
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
        let port = if listener.port() == usual { String::new() } else { format!(":{}", listener.port()) };
        for path in rule.http.iter().flat_map(|http| &http.paths) {
            urls.push(format!("{scheme}://{host}{port}{}", path.path.as_deref().unwrap_or("/")));
        }
    }
    urls
}

fn node_port_urls(service: &Service, address: IpAddr) -> Vec<String> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let tcp = |protocol: &Option<String>| protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let ports = spec.ports.iter().flatten().filter(|port| tcp(&port.protocol)).filter_map(|port| port.node_port);
    ports
        .filter_map(|port| u16::try_from(port).ok())
        .map(|port| format!("http://{}/", SocketAddr::new(address, port)))
        .collect()
}

/// An address as it stands in a URL.
fn host_of(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}
