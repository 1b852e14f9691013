//! What DNS is told about a name of the cluster: addresses, ports (SRV), aliases and the names of addresses (PTR). Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::wire::{Data, Kind, Record};
use super::{Lookup, Name, Names, Port, below};
use crate::service::Protocol;

/// Version of the specification (kubernetes/dns, "2.2 - Record for Schema Version").
const SCHEMA_VERSION: &str = "1.1.0";
/// How long an answer may be kept, in seconds (CoreDNS's `kubernetes` plugin).
pub(super) const TTL_SECONDS: u32 = 5;

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The name exists; of this kind it may have nothing.
    Records(Vec<Record>),
    /// A name of the cluster that does not exist.
    NoSuchName,
    /// Not the cluster's: for another server to answer.
    NotCluster,
}

impl Names {
    /// Answers a question about a complete name without a dot at its end, in a cluster named `domain`.
    pub(super) fn answer(&self, name: &str, kind: Kind, domain: &str) -> Answer {
        let name = name.to_ascii_lowercase();
        let record = |data| Record { name: name.clone(), ttl: TTL_SECONDS, data };
        if let Some(address) = reversed(&name) {
            let Some(within) = self.addresses.get(&address) else { return Answer::NotCluster };
            let pointer = Data::Pointer(format!("{within}.{domain}"));
            return Answer::Records(if kind == Kind::PTR { vec![record(pointer)] } else { Vec::new() });
        }
        let Some(within) = below(&name, domain) else { return Answer::NotCluster };
        let found = match within {
            "" | "svc" | "pod" => Some(Vec::new()),
            "dns-version" => Some(if kind == Kind::TXT { vec![Data::Text(SCHEMA_VERSION)] } else { Vec::new() }),
            _ => {
                self.namespace(within).or_else(|| self.ports(within, kind, domain)).or_else(|| self.host(within, kind))
            }
        };
        found.map_or(Answer::NoSuchName, |found| Answer::Records(found.into_iter().map(record).collect()))
    }

    /// `namespace.svc` has nothing, and exists.
    fn namespace(&self, within: &str) -> Option<Vec<Data>> {
        let (namespace, _) = within.split_once('.').filter(|(_, kind)| matches!(*kind, "svc" | "pod"))?;
        self.namespaces.contains(namespace).then(Vec::new)
    }

    /// What `[_port._protocol.]service.namespace.svc` has of ports; `None` when it is no such name, or not for ports.
    fn ports(&self, within: &str, kind: Kind, domain: &str) -> Option<Vec<Data>> {
        let labels: Vec<&str> = within.split('.').collect();
        let (asked, service, namespace) = match labels[..] {
            [port, protocol, service, namespace, "svc"] => {
                (Some((port.strip_prefix('_')?, protocol_of(protocol)?)), service, namespace)
            }
            [service, namespace, "svc"] if kind == Kind::SRV => (None, service, namespace),
            _ => return None,
        };
        let is_asked =
            |port: &&Port| asked.is_none_or(|(name, protocol)| (&*port.name, port.protocol) == (name, protocol));
        let target = format!("{service}.{namespace}.svc.{domain}");
        let mut found: Vec<(u16, String)> = match self.find(namespace, service)? {
            Name::Virtual { ports, .. } => {
                ports.iter().filter(is_asked).map(|port| (port.number, target.clone())).collect()
            }
            Name::Headless(members) => {
                let of = members.iter().flat_map(|member| member.ports.iter().map(move |port| (member, port)));
                let of = of.filter(|(_, port)| is_asked(port));
                of.map(|(member, port)| (port.number, format!("{}.{target}", member.host))).collect()
            }
            Name::External(_) => return None,
        };
        found.dedup();
        match (found.len(), asked) {
            (0, Some(_)) => None,
            _ if kind != Kind::SRV => Some(Vec::new()),
            // All are worth the same: balancing is the Service's.
            (count, _) => {
                let weight = u16::try_from(100 / count.max(1)).unwrap_or_default().max(1);
                Some(found.into_iter().map(|(port, target)| Data::Service { weight, port, target }).collect())
            }
        }
    }

    /// What the name of a Service, of a pod behind one, or of a pod's address has.
    fn host(&self, within: &str, kind: Kind) -> Option<Vec<Data>> {
        match self.within(within) {
            Lookup::Addresses(addresses) => {
                let is_asked = |address: &IpAddr| match address {
                    IpAddr::V4(_) => kind == Kind::A,
                    IpAddr::V6(_) => kind == Kind::AAAA,
                };
                Some(addresses.into_iter().filter(is_asked).map(Data::Address).collect())
            }
            Lookup::Alias(target) => Some(vec![Data::Alias(target)]),
            Lookup::NoSuchName | Lookup::NotCluster => None,
        }
    }
}

fn protocol_of(label: &str) -> Option<Protocol> {
    match label {
        "_tcp" => Some(Protocol::Tcp),
        "_udp" => Some(Protocol::Udp),
        "_sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The address that `4.3.2.1.in-addr.arpa` or its like for IPv6 spells (RFC 1035 §3.5, RFC 3596 §2.5).
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let octets: Vec<&str> = octets.rsplit('.').collect();
        return octets.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let nibbles: String = name.strip_suffix(".ip6.arpa")?.rsplit('.').collect();
    let bits = u128::from_str_radix(&nibbles, 16).ok().filter(|_| nibbles.len() == 32)?;
    Some(IpAddr::V6(Ipv6Addr::from(bits)))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::sync::Arc;

    use expect_test::expect;
    use k8s_openapi::api::core::v1::Service;
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::*;
    use crate::service::{Endpoints, name_of};

    const OBJECTS: &str = r"
services:
- {metadata: {namespace: default, name: web}, spec: {clusterIPs: [10.96.0.7, 'fd00::7'], ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}}
- {metadata: {namespace: default, name: db}, spec: {clusterIP: None, clusterIPs: [None], ports: [{name: sql, port: 1}]}}
- {metadata: {namespace: other, name: outside}, spec: {type: ExternalName, externalName: example.com}}
endpoint_slices:
- metadata: {namespace: default, name: db-1, labels: {kubernetes.io/service-name: db}}
  addressType: IPv4
  ports: [{name: sql, port: 5432}]
  endpoints: [{addresses: [10.64.0.6]}, {addresses: [10.64.0.5], hostname: db-0}, {addresses: [10.64.0.9], conditions: {ready: false}}]
- metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080}]
  endpoints: [{addresses: [10.64.0.7]}]
";

    #[derive(serde::Deserialize)]
    struct Fixture {
        services: Vec<Service>,
        endpoint_slices: Vec<EndpointSlice>,
    }

    fn names() -> Names {
        let fixture: Fixture = serde_saphyr::from_str(OBJECTS).unwrap();
        let mut names = Names::default();
        let slices: Vec<_> = fixture.endpoint_slices.into_iter().map(Arc::new).collect();
        let mut endpoints = Endpoints::index(&slices);
        for service in &fixture.services {
            names.insert(service, &endpoints.remove(&name_of(service)).unwrap_or_default());
        }
        names
    }

    #[test]
    fn records_are_those_of_the_specification() {
        let names = names();
        let mut answers = String::new();
        for (name, kind) in [
            ("web.default.svc.cluster.local", Kind::A),
            ("WEB.default.svc.cluster.local", Kind::AAAA),
            ("web.default.svc.cluster.local", Kind::TXT),
            ("web.default.svc.cluster.local", Kind::SRV),
            ("_http._tcp.web.default.svc.cluster.local", Kind::SRV),
            ("_http._udp.web.default.svc.cluster.local", Kind::SRV),
            ("_dns._udp.web.default.svc.cluster.local", Kind::SRV),
            ("_dns._udp.web.default.svc.cluster.local", Kind::A),
            ("10-64-0-7.web.default.svc.cluster.local", Kind::A),
            ("db.default.svc.cluster.local", Kind::A),
            ("db.default.svc.cluster.local", Kind::SRV),
            ("db-0.db.default.svc.cluster.local", Kind::A),
            ("10-64-0-6.db.default.svc.cluster.local", Kind::A),
            ("10-64-0-9.db.default.svc.cluster.local", Kind::A),
            ("_sql._tcp.db.default.svc.cluster.local", Kind::SRV),
            ("outside.other.svc.cluster.local", Kind::A),
            ("10-64-0-5.default.pod.cluster.local", Kind::A),
            ("7.0.96.10.in-addr.arpa", Kind::PTR),
            ("5.0.64.10.in-addr.arpa", Kind::PTR),
            ("6.0.64.10.in-addr.arpa", Kind::PTR),
            ("9.0.64.10.in-addr.arpa", Kind::PTR),
            ("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", Kind::PTR),
            ("dns-version.cluster.local", Kind::TXT),
            ("default.svc.cluster.local", Kind::A),
            ("nowhere.svc.cluster.local", Kind::A),
            ("svc.cluster.local", Kind::A),
            ("cluster.local", Kind::A),
            ("gone.default.svc.cluster.local", Kind::A),
            ("web.default.svc.other.domain", Kind::A),
            ("notcluster.local", Kind::A),
        ] {
            let answer = match names.answer(name, kind, "cluster.local") {
                Answer::Records(records) => {
                    let data = records.iter().map(|record| match &record.data {
                        Data::Address(address) => address.to_string(),
                        Data::Service { weight, port, target } => format!("{weight} {port} {target}"),
                        other => format!("{other:?}"),
                    });
                    format!("{:?}", data.collect::<Vec<_>>())
                }
                other => format!("{other:?}"),
            };
            writeln!(answers, "{kind:?} {name} = {answer}").unwrap();
        }
        expect![[r#"
            Kind(1) web.default.svc.cluster.local = ["10.96.0.7"]
            Kind(28) WEB.default.svc.cluster.local = ["fd00::7"]
            Kind(16) web.default.svc.cluster.local = []
            Kind(33) web.default.svc.cluster.local = ["50 80 web.default.svc.cluster.local", "50 53 web.default.svc.cluster.local"]
            Kind(33) _http._tcp.web.default.svc.cluster.local = ["100 80 web.default.svc.cluster.local"]
            Kind(33) _http._udp.web.default.svc.cluster.local = NoSuchName
            Kind(33) _dns._udp.web.default.svc.cluster.local = ["100 53 web.default.svc.cluster.local"]
            Kind(1) _dns._udp.web.default.svc.cluster.local = []
            Kind(1) 10-64-0-7.web.default.svc.cluster.local = ["10.64.0.7"]
            Kind(1) db.default.svc.cluster.local = ["10.64.0.5", "10.64.0.6"]
            Kind(33) db.default.svc.cluster.local = ["50 5432 db-0.db.default.svc.cluster.local", "50 5432 10-64-0-6.db.default.svc.cluster.local"]
            Kind(1) db-0.db.default.svc.cluster.local = ["10.64.0.5"]
            Kind(1) 10-64-0-6.db.default.svc.cluster.local = ["10.64.0.6"]
            Kind(1) 10-64-0-9.db.default.svc.cluster.local = NoSuchName
            Kind(33) _sql._tcp.db.default.svc.cluster.local = ["50 5432 db-0.db.default.svc.cluster.local", "50 5432 10-64-0-6.db.default.svc.cluster.local"]
            Kind(1) outside.other.svc.cluster.local = ["Alias(\"example.com\")"]
            Kind(1) 10-64-0-5.default.pod.cluster.local = ["10.64.0.5"]
            Kind(12) 7.0.96.10.in-addr.arpa = ["Pointer(\"web.default.svc.cluster.local\")"]
            Kind(12) 5.0.64.10.in-addr.arpa = ["Pointer(\"db-0.db.default.svc.cluster.local\")"]
            Kind(12) 6.0.64.10.in-addr.arpa = ["Pointer(\"10-64-0-6.db.default.svc.cluster.local\")"]
            Kind(12) 9.0.64.10.in-addr.arpa = NotCluster
            Kind(12) 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa = ["Pointer(\"web.default.svc.cluster.local\")"]
            Kind(16) dns-version.cluster.local = ["Text(\"1.1.0\")"]
            Kind(1) default.svc.cluster.local = []
            Kind(1) nowhere.svc.cluster.local = NoSuchName
            Kind(1) svc.cluster.local = []
            Kind(1) cluster.local = []
            Kind(1) gone.default.svc.cluster.local = NoSuchName
            Kind(1) web.default.svc.other.domain = NotCluster
            Kind(1) notcluster.local = NotCluster
        "#]]
        .assert_eq(&answers);
    }
}
