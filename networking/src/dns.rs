//! Cluster names: what a name means inside a namespace, answered from the tables.
//!
//! The rules are those of the Kubernetes DNS specification (kubernetes/dns, `docs/specification.md`), with the search path
//! of a pod (`<namespace>.svc.<domain>`, `svc.<domain>`, `<domain>`) applied to names that do not end in a dot.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Service;

use crate::service::{Endpoints, ServiceName, name_of};

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The addresses behind the name: one virtual address, or the pods of a headless Service.
    Addresses(Vec<IpAddr>),
    /// An ExternalName Service: look up this name instead.
    Alias(String),
    /// Not a name of the cluster: ask the node's resolver.
    NotCluster,
    /// A name under the cluster's domain that does not exist.
    NoSuchName,
}

/// What the names of Services stand for.
#[derive(Debug, Default)]
pub struct Names {
    services: HashMap<ServiceName, Name>,
}

/// What one Service's name stands for.
#[derive(Debug)]
enum Name {
    /// Its cluster IPs.
    Virtual(Vec<IpAddr>),
    /// No cluster IP: the ready pods, and those among them that have a host name.
    Headless { all: Vec<IpAddr>, hosts: HashMap<String, Vec<IpAddr>> },
    /// Another name.
    External(String),
}

impl Names {
    pub fn insert(&mut self, service: &Service, endpoints: &Endpoints<'_>) {
        let Some(spec) = &service.spec else { return };
        let name = if spec.type_.as_deref() == Some("ExternalName") {
            Name::External(spec.external_name.clone().unwrap_or_default())
        } else {
            let addresses: Vec<IpAddr> =
                spec.cluster_ips.iter().flatten().filter_map(|address| address.parse().ok()).collect();
            if addresses.is_empty() { headless(endpoints) } else { Name::Virtual(addresses) }
        };
        self.services.insert(name_of(service), name);
    }

    /// What `name` means to a pod in `from_namespace`, in a cluster named `domain`. Case does not matter (RFC 4343).
    pub fn lookup(&self, name: &str, from_namespace: &str, domain: &str) -> Lookup {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Lookup::Addresses(vec![address]);
        }
        let name = name.to_ascii_lowercase();
        if let Some(absolute) = name.strip_suffix('.') {
            return self.absolute(absolute, domain);
        }
        // A pod's resolver tries the search path first: names of the cluster have fewer than `ndots: 5` dots.
        for suffix in [&format!("{from_namespace}.svc"), "svc", ""] {
            let candidate = if suffix.is_empty() { name.clone() } else { format!("{name}.{suffix}") };
            match self.within(&candidate) {
                Lookup::NoSuchName => {}
                found => return found,
            }
        }
        self.absolute(&name, domain)
    }

    /// A name taken as complete.
    fn absolute(&self, name: &str, domain: &str) -> Lookup {
        match name.strip_suffix(domain) {
            Some("") => Lookup::NoSuchName,
            Some(rest) => rest.strip_suffix('.').map_or(Lookup::NotCluster, |within| self.within(within)),
            None => Lookup::NotCluster,
        }
    }

    /// A name below the cluster's domain: `[host.]service.namespace.svc` or `a-b-c-d.namespace.pod`.
    fn within(&self, name: &str) -> Lookup {
        let mut labels = name.rsplit('.');
        let (kind, namespace, service) = (labels.next(), labels.next(), labels.next());
        let (host, rest) = (labels.next(), labels.next());
        let (Some(kind), Some(namespace), Some(service), None) = (kind, namespace, service, rest) else {
            return Lookup::NoSuchName;
        };
        match (kind, host) {
            ("svc", host) => self.service(namespace, service, host),
            ("pod", None) => pod_address(service).map_or(Lookup::NoSuchName, |ip| Lookup::Addresses(vec![ip])),
            _ => Lookup::NoSuchName,
        }
    }

    fn service(&self, namespace: &str, service: &str, host: Option<&str>) -> Lookup {
        let key = ServiceName { namespace: namespace.to_owned(), name: service.to_owned() };
        match (self.services.get(&key), host) {
            (Some(Name::Virtual(addresses)), None) => Lookup::Addresses(addresses.clone()),
            (Some(Name::Headless { all, .. }), None) => Lookup::Addresses(all.clone()),
            (Some(Name::Headless { hosts, .. }), Some(host)) => {
                hosts.get(host).map_or(Lookup::NoSuchName, |addresses| Lookup::Addresses(addresses.clone()))
            }
            (Some(Name::External(name)), None) => Lookup::Alias(name.clone()),
            _ => Lookup::NoSuchName,
        }
    }
}

fn headless(endpoints: &Endpoints<'_>) -> Name {
    let (mut all, mut hosts) = (Vec::new(), HashMap::<String, Vec<IpAddr>>::new());
    for (endpoint, address) in endpoints.ready() {
        all.push(address);
        if let Some(host) = &endpoint.hostname {
            hosts.entry(host.to_ascii_lowercase()).or_default().push(address);
        }
    }
    all.sort();
    all.dedup();
    Name::Headless { all, hosts }
}

/// The address that the first label of `10-64-0-5.default.pod` spells.
fn pod_address(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}
