//! Cluster names: what a name means inside a namespace, answered from the tables.
//!
//! The rules are those of the Kubernetes DNS specification (kubernetes/dns, `docs/specification.md`), with the search path
//! of a pod (`<namespace>.svc.<domain>`, `svc.<domain>`, `<domain>`) applied to names that do not end in a dot. Host
//! functions ask here; [`records`] answers the questions of DNS itself, and [`server`] serves them in its protocol.
//! [`resolver`] asks the servers that a pod has of its own.

mod records;
mod resolver;
pub mod server;
mod upstream;
pub mod wire;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::Service;

pub use self::resolver::{Resolver, Server, Unresolved};
use crate::service::{Endpoints, Protocol, ServiceName, name_of};

/// ExternalName Services that one look-up follows; a longer chain is a mistake.
const MAX_ALIASES: usize = 8;

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The addresses behind the name: one virtual address, or the pods of a headless Service.
    Addresses(Vec<IpAddr>),
    /// An ExternalName Service: look up this name instead, which is complete.
    Alias(String),
    /// Not a name of the cluster: ask the node's resolver.
    NotCluster,
    /// A name under the cluster's domain that does not exist.
    NoSuchName,
}

/// What a name leads to, past the ExternalName Services on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Addresses(Vec<IpAddr>),
    /// A name that is not the cluster's: somebody outside is to be asked for it.
    Outside(String),
    NoSuchName,
}

/// What the names of Services stand for.
#[derive(Debug, Default)]
pub struct Names {
    services: HashMap<ServiceName, Name>,
    /// Those that have a Service.
    namespaces: HashSet<String>,
    /// The name below the cluster's domain that an address has: that of a Service, or of a pod behind one.
    addresses: HashMap<IpAddr, String>,
}

/// What one Service's name stands for.
#[derive(Debug)]
enum Name {
    /// Its cluster IPs and ports; its ready pods have names of their own.
    Virtual { addresses: Vec<IpAddr>, ports: Vec<Port>, members: Vec<Member> },
    /// No cluster IP: the ready pods.
    Headless(Vec<Member>),
    /// Another name.
    External(String),
}

/// A ready pod behind a Service.
#[derive(Debug)]
struct Member {
    /// Its host name, or its address with dashes.
    host: String,
    address: IpAddr,
    ports: Vec<Port>,
}

#[derive(Clone, Debug)]
struct Port {
    name: String,
    number: u16,
    protocol: Protocol,
}

impl Names {
    pub fn insert(&mut self, service: &Service, endpoints: &Endpoints<'_>) {
        let Some(spec) = &service.spec else { return };
        let id = name_of(service);
        let within = format!("{}.{}.svc", id.name, id.namespace);
        let members = members(endpoints);
        for member in &members {
            self.addresses.entry(member.address).or_insert_with(|| format!("{}.{within}", member.host));
        }
        let name = if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref().unwrap_or_default();
            Name::External(target.strip_suffix('.').unwrap_or(target).to_owned())
        } else {
            let addresses: Vec<IpAddr> =
                spec.cluster_ips.iter().flatten().filter_map(|address| address.parse().ok()).collect();
            self.addresses.extend(addresses.iter().map(|address| (*address, within.clone())));
            if addresses.is_empty() {
                Name::Headless(members)
            } else {
                let ports = spec.ports.iter().flatten();
                let ports =
                    ports.filter_map(|port| Port::of(port.name.as_deref(), Some(port.port), port.protocol.as_deref()));
                Name::Virtual { addresses, ports: ports.collect(), members }
            }
        };
        self.namespaces.insert(id.namespace.clone());
        self.services.insert(id, name);
    }

    /// Whether a Service stands for another name.
    pub fn is_alias(&self, service: &ServiceName) -> bool {
        matches!(self.services.get(service), Some(Name::External(_)))
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

    /// What `name` leads to, likewise. What an ExternalName Service names is complete: no domain is searched for it.
    pub fn meaning(&self, name: &str, from_namespace: &str, domain: &str) -> Meaning {
        let (mut name, mut found) = (name.to_owned(), self.lookup(name, from_namespace, domain));
        for _ in 0..MAX_ALIASES {
            let Lookup::Alias(target) = found else { break };
            found = self.absolute(&target.to_ascii_lowercase(), domain);
            name = target;
        }
        match found {
            Lookup::Addresses(addresses) => Meaning::Addresses(addresses),
            Lookup::NotCluster => Meaning::Outside(name),
            Lookup::NoSuchName | Lookup::Alias(_) => Meaning::NoSuchName,
        }
    }

    /// A name taken as complete.
    fn absolute(&self, name: &str, domain: &str) -> Lookup {
        below(name, domain).map_or(Lookup::NotCluster, |within| self.within(within))
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
        let named = |members: &[Member], host: &str| {
            let named = members.iter().filter(|member| member.host == host).map(|member| member.address);
            let addresses: Vec<IpAddr> = named.collect();
            if addresses.is_empty() { Lookup::NoSuchName } else { Lookup::Addresses(addresses) }
        };
        match (self.find(namespace, service), host) {
            (Some(Name::Virtual { addresses, .. }), None) => Lookup::Addresses(addresses.clone()),
            (Some(Name::Headless(members)), None) => {
                let mut addresses: Vec<IpAddr> = members.iter().map(|member| member.address).collect();
                addresses.dedup();
                Lookup::Addresses(addresses)
            }
            (Some(Name::Virtual { members, .. } | Name::Headless(members)), Some(host)) => named(members, host),
            (Some(Name::External(name)), None) => Lookup::Alias(name.clone()),
            _ => Lookup::NoSuchName,
        }
    }

    fn find(&self, namespace: &str, service: &str) -> Option<&Name> {
        self.services.get(&ServiceName { namespace: namespace.to_owned(), name: service.to_owned() })
    }
}

impl Port {
    fn of(name: Option<&str>, number: Option<i32>, protocol: Option<&str>) -> Option<Self> {
        let number = u16::try_from(number?).ok()?;
        Some(Self { name: name.unwrap_or_default().to_owned(), number, protocol: Protocol::parse(protocol)? })
    }
}

/// What of a complete name is below `domain`: nothing of the domain itself; `None` for names elsewhere.
fn below<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    match name.strip_suffix(domain)? {
        "" => Some(""),
        rest => rest.strip_suffix('.'),
    }
}

/// Whether a complete name in lower case is the domain's.
pub(crate) fn is_below(name: &str, domain: &str) -> bool {
    below(name, domain).is_some()
}

/// The ready pods in the order of their addresses.
fn members(endpoints: &Endpoints<'_>) -> Vec<Member> {
    let members = endpoints.ready().map(|(slice, endpoint, address)| {
        let dashed = || address.to_string().replace(['.', ':'], "-");
        let host = endpoint.hostname.as_ref().map_or_else(dashed, |host| host.to_ascii_lowercase());
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter_map(|port| Port::of(port.name.as_deref(), port.port, port.protocol.as_deref()));
        Member { host, address, ports: ports.collect() }
    });
    let mut members: Vec<Member> = members.collect();
    members.sort_by_key(|member| member.address);
    members
}

/// The address that the first label of `10-64-0-5.default.pod` spells.
fn pod_address(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}
