//! What DNS is told about a name of the cluster: addresses, ports (SRV), aliases and the names of addresses (PTR). Pure.

use std::net::IpAddr;

use super::wire;
use super::wire::rr::rdata::{CNAME, PTR, SRV, TXT};
use super::wire::rr::{self, RData, Record, RecordType};
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
    /// Answers a question in a cluster named `domain`.
    pub(super) fn answer(&self, name: &rr::Name, kind: RecordType, domain: &str) -> Answer {
        let record = |data| Record::from_rdata(name.clone(), TTL_SECONDS, data);
        if let Some(address) = reversed(name) {
            let Some(within) = self.addresses.get(&address) else { return Answer::NotCluster };
            let pointer = wire::name(&format!("{within}.{domain}")).filter(|_| kind == RecordType::PTR);
            return Answer::Records(pointer.map(|pointer| record(RData::PTR(PTR(pointer)))).into_iter().collect());
        }
        let name = plain(name);
        let Some(within) = below(&name, domain) else { return Answer::NotCluster };
        let found = match within {
            "" | "svc" | "pod" => Some(Vec::new()),
            "dns-version" if kind == RecordType::TXT => {
                Some(vec![RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]))])
            }
            "dns-version" => Some(Vec::new()),
            _ => {
                self.namespace(within).or_else(|| self.ports(within, kind, domain)).or_else(|| self.host(within, kind))
            }
        };
        found.map_or(Answer::NoSuchName, |found| Answer::Records(found.into_iter().map(record).collect()))
    }

    /// `namespace.svc` has nothing, and exists.
    fn namespace(&self, within: &str) -> Option<Vec<RData>> {
        let (namespace, _) = within.split_once('.').filter(|(_, kind)| matches!(*kind, "svc" | "pod"))?;
        self.namespaces.contains(namespace).then(Vec::new)
    }

    /// What `[_port._protocol.]service.namespace.svc` has of ports; `None` when it is no such name, or not for ports.
    fn ports(&self, within: &str, kind: RecordType, domain: &str) -> Option<Vec<RData>> {
        let labels: Vec<&str> = within.split('.').collect();
        let (asked, service, namespace) = match labels[..] {
            [port, protocol, service, namespace, "svc"] => {
                (Some((port.strip_prefix('_')?, protocol_of(protocol)?)), service, namespace)
            }
            [service, namespace, "svc"] if kind == RecordType::SRV => (None, service, namespace),
            _ => return None,
        };
        let is_asked =
            |port: &&Port| asked.is_none_or(|(name, protocol)| (&*port.name, port.protocol) == (name, protocol));
        let target = wire::name(&format!("{service}.{namespace}.svc.{domain}"))?;
        let mut found: Vec<(u16, rr::Name)> = match self.find(namespace, service)? {
            Name::Virtual { ports, .. } => {
                ports.iter().filter(is_asked).map(|port| (port.number, target.clone())).collect()
            }
            Name::Headless(members) => {
                let of = members.iter().flat_map(|member| member.ports.iter().map(move |port| (member, port)));
                let of = of.filter(|(_, port)| is_asked(port));
                of.filter_map(|(member, port)| Some((port.number, target.prepend_label(member.host.as_bytes()).ok()?)))
                    .collect()
            }
            Name::External(_) => return None,
        };
        found.dedup();
        match (found.len(), asked) {
            (0, Some(_)) => None,
            _ if kind != RecordType::SRV => Some(Vec::new()),
            // All have the same priority and are worth the same: balancing is the Service's.
            (count, _) => {
                let weight = u16::try_from(100 / count.max(1)).unwrap_or_default().max(1);
                Some(found.into_iter().map(|(port, target)| RData::SRV(SRV::new(0, weight, port, target))).collect())
            }
        }
    }

    /// What the name of a Service, of a pod behind one, or of a pod's address has.
    fn host(&self, within: &str, kind: RecordType) -> Option<Vec<RData>> {
        match self.within(within) {
            Lookup::Addresses(addresses) => {
                Some(addresses.into_iter().map(RData::from).filter(|data| data.record_type() == kind).collect())
            }
            Lookup::Alias(target) => Some(vec![RData::CNAME(CNAME(wire::name(&target)?))]),
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
fn reversed(name: &rr::Name) -> Option<IpAddr> {
    let range = name.parse_arpa_name().ok()?;
    (range.prefix_len() == range.max_prefix_len()).then(|| range.addr())
}

/// A name as the tables have it: in lower case, without a dot at its end. What is in no name of theirs, such as a dot within a
/// label, is `?`.
fn plain(name: &rr::Name) -> String {
    let mut plain = String::with_capacity(name.len());
    for label in name {
        if !plain.is_empty() {
            plain.push('.');
        }
        let is_theirs = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        plain.extend(
            label.iter().map(|byte| if is_theirs(*byte) { char::from(byte.to_ascii_lowercase()) } else { '?' }),
        );
    }
    plain
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
- {metadata: {namespace: other, name: impossible}, spec: {type: ExternalName, externalName: longer-than-sixty-three-bytes-are-longer-than-what-a-label-may-be.example}}
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
            ("web.default.svc.cluster.local", RecordType::A),
            ("WEB.default.svc.cluster.local", RecordType::AAAA),
            ("web.default.svc.cluster.local", RecordType::TXT),
            ("web.default.svc.cluster.local", RecordType::ANY),
            ("web.default.svc.cluster.local", RecordType::SRV),
            ("_http._tcp.web.default.svc.cluster.local", RecordType::SRV),
            ("_http._udp.web.default.svc.cluster.local", RecordType::SRV),
            ("_dns._udp.web.default.svc.cluster.local", RecordType::SRV),
            ("_dns._udp.web.default.svc.cluster.local", RecordType::A),
            ("10-64-0-7.web.default.svc.cluster.local", RecordType::A),
            ("db.default.svc.cluster.local", RecordType::A),
            ("db.default.svc.cluster.local", RecordType::SRV),
            ("db-0.db.default.svc.cluster.local", RecordType::A),
            ("10-64-0-6.db.default.svc.cluster.local", RecordType::A),
            ("10-64-0-9.db.default.svc.cluster.local", RecordType::A),
            ("_sql._tcp.db.default.svc.cluster.local", RecordType::SRV),
            ("outside.other.svc.cluster.local", RecordType::A),
            ("impossible.other.svc.cluster.local", RecordType::A),
            ("10-64-0-5.default.pod.cluster.local", RecordType::A),
            ("7.0.96.10.in-addr.arpa", RecordType::PTR),
            ("5.0.64.10.in-addr.arpa", RecordType::PTR),
            ("6.0.64.10.in-addr.arpa", RecordType::PTR),
            ("9.0.64.10.in-addr.arpa", RecordType::PTR),
            ("0.96.10.in-addr.arpa", RecordType::PTR),
            ("7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", RecordType::PTR),
            ("dns-version.cluster.local", RecordType::TXT),
            ("default.svc.cluster.local", RecordType::A),
            ("nowhere.svc.cluster.local", RecordType::A),
            ("svc.cluster.local", RecordType::A),
            ("cluster.local", RecordType::A),
            ("gone.default.svc.cluster.local", RecordType::A),
            ("web.default.svc.other.domain", RecordType::A),
            ("notcluster.local", RecordType::A),
        ] {
            let answer = match names.answer(&wire::name(name).unwrap(), kind, "cluster.local") {
                Answer::Records(records) => {
                    let data = records.iter().map(|record| record.data.to_string());
                    format!("{:?}", data.collect::<Vec<_>>())
                }
                other => format!("{other:?}"),
            };
            writeln!(answers, "{kind} {name} = {answer}").unwrap();
        }
        expect![[r#"
            A web.default.svc.cluster.local = ["10.96.0.7"]
            AAAA WEB.default.svc.cluster.local = ["fd00::7"]
            TXT web.default.svc.cluster.local = []
            ANY web.default.svc.cluster.local = []
            SRV web.default.svc.cluster.local = ["0 50 80 web.default.svc.cluster.local.", "0 50 53 web.default.svc.cluster.local."]
            SRV _http._tcp.web.default.svc.cluster.local = ["0 100 80 web.default.svc.cluster.local."]
            SRV _http._udp.web.default.svc.cluster.local = NoSuchName
            SRV _dns._udp.web.default.svc.cluster.local = ["0 100 53 web.default.svc.cluster.local."]
            A _dns._udp.web.default.svc.cluster.local = []
            A 10-64-0-7.web.default.svc.cluster.local = ["10.64.0.7"]
            A db.default.svc.cluster.local = ["10.64.0.5", "10.64.0.6"]
            SRV db.default.svc.cluster.local = ["0 50 5432 db-0.db.default.svc.cluster.local.", "0 50 5432 10-64-0-6.db.default.svc.cluster.local."]
            A db-0.db.default.svc.cluster.local = ["10.64.0.5"]
            A 10-64-0-6.db.default.svc.cluster.local = ["10.64.0.6"]
            A 10-64-0-9.db.default.svc.cluster.local = NoSuchName
            SRV _sql._tcp.db.default.svc.cluster.local = ["0 50 5432 db-0.db.default.svc.cluster.local.", "0 50 5432 10-64-0-6.db.default.svc.cluster.local."]
            A outside.other.svc.cluster.local = ["example.com."]
            A impossible.other.svc.cluster.local = NoSuchName
            A 10-64-0-5.default.pod.cluster.local = ["10.64.0.5"]
            PTR 7.0.96.10.in-addr.arpa = ["web.default.svc.cluster.local."]
            PTR 5.0.64.10.in-addr.arpa = ["db-0.db.default.svc.cluster.local."]
            PTR 6.0.64.10.in-addr.arpa = ["10-64-0-6.db.default.svc.cluster.local."]
            PTR 9.0.64.10.in-addr.arpa = NotCluster
            PTR 0.96.10.in-addr.arpa = NotCluster
            PTR 7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa = ["web.default.svc.cluster.local."]
            TXT dns-version.cluster.local = ["1.1.0"]
            A default.svc.cluster.local = []
            A nowhere.svc.cluster.local = NoSuchName
            A svc.cluster.local = []
            A cluster.local = []
            A gone.default.svc.cluster.local = NoSuchName
            A web.default.svc.other.domain = NotCluster
            A notcluster.local = NotCluster
        "#]]
        .assert_eq(&answers);
    }

    #[test]
    fn a_dot_within_a_label_is_none_between_labels() {
        let answer = |labels: &[&str]| {
            let name = rr::Name::from_labels(labels.iter().map(|label| label.as_bytes())).unwrap();
            names().answer(&name, RecordType::A, "cluster.local")
        };
        assert_eq!(answer(&["web.default", "svc", "cluster", "local"]), Answer::NoSuchName);
        assert_eq!(answer(&["web", "default", "svc.cluster", "local"]), Answer::NotCluster);
        assert_eq!(answer(&["7.0.96", "10", "in-addr", "arpa"]), Answer::NotCluster);
    }
}
