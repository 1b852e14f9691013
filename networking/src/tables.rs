//! Everything that is known about where connections go, immutable: built from API objects, swapped as a whole.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};

use crate::dns::Names;
use crate::ingress::Rules;
use crate::origin::Origin;
use crate::peers::{Node, Nodes};
use crate::policy::{Pod, Policies};
use crate::service::{self, Endpoints, Here, Protocol, ServiceName, ServicePort};
use crate::tls::Certificates;

/// The API objects that tables are built from.
#[derive(Clone, Copy, Default)]
pub struct Objects<'a> {
    pub services: &'a [Arc<Service>],
    pub endpoint_slices: &'a [Arc<EndpointSlice>],
    /// This one, for its zone, and those that others' pods are reached through.
    pub nodes: &'a [Arc<Node>],
    pub ingresses: &'a [Arc<Ingress>],
    pub ingress_classes: &'a [Arc<IngressClass>],
    /// Those of type `kubernetes.io/tls`.
    pub secrets: &'a [Arc<Secret>],
    pub network_policies: &'a [Arc<NetworkPolicy>],
    /// Asked about by policies alone, as are `pods`.
    pub namespaces: &'a [Arc<Namespace>],
    pub pods: &'a [Arc<Pod>],
}

/// Where an address is that stands for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Cluster,
    /// Outside, and led to nodes by somebody.
    Outside,
    /// A node's own address, where its ports are other things' too.
    Node,
}

/// A Service's port at one of its addresses.
#[derive(Debug)]
struct Virtual {
    place: Place,
    port: Arc<ServicePort>,
}

/// What a load balancer is told of a Service when it asks this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    pub service: ServiceName,
    /// Ready endpoints of this node.
    pub local_endpoints: usize,
}

/// The tables of one moment.
#[derive(Debug, Default)]
pub struct Tables {
    /// What cluster names mean.
    pub names: Names,
    /// Which Service a request at the ingress is for.
    pub ingress: Rules,
    /// What the ingress proves itself with.
    pub certificates: Certificates,
    /// Which connections pods may have.
    pub policies: Policies,
    /// Whose pods are not on this node.
    pub nodes: Nodes,
    virtual_ports: HashMap<(SocketAddr, Protocol), Virtual>,
    node_ports: BTreeMap<(u16, Protocol), Arc<ServicePort>>,
    health_checks: BTreeMap<u16, HealthCheck>,
    services: HashMap<ServiceName, Vec<Arc<ServicePort>>>,
}

impl Tables {
    /// Builds the tables of the node called `node_name`.
    pub fn build(objects: &Objects<'_>, node_name: &str) -> Self {
        let mut tables = Self::default();
        let node = objects.nodes.iter().find(|node| node.name == node_name);
        let here = Here { node: node_name, zone: node.and_then(|node| node.zone.as_deref()) };
        tables.nodes = Nodes::build(objects.nodes, node_name);
        let mut endpoints = Endpoints::index(objects.endpoint_slices);
        for service in objects.services {
            let endpoints = endpoints.remove(&service::name_of(service)).unwrap_or_default();
            tables.names.insert(service, &endpoints);
            let ports = service::ports(service, &endpoints, here).into_iter().map(Arc::new).collect::<Vec<_>>();
            ports.iter().for_each(|port| tables.insert_port(service, port));
            if let Some(number) = service::health_check_port(service) {
                let local_endpoints = endpoints.ready_on(node_name);
                let check = HealthCheck { service: service::name_of(service), local_endpoints };
                tables.health_checks.insert(number, check);
            }
            tables.services.insert(service::name_of(service), ports);
        }
        let find = |name: &ServiceName| match tables.services.get(name) {
            // Whoever may write one could have the node dial its own addresses.
            Some(_) if tables.names.is_alias(name) => Err("is of type ExternalName, where the ingress does not lead"),
            Some(ports) => Ok(ports.as_slice()),
            None => Err("does not exist"),
        };
        let ingresses = Rules::ours(objects.ingresses, objects.ingress_classes);
        tables.ingress = Rules::build(&ingresses, &find);
        tables.certificates = Certificates::build(&ingresses, objects.secrets);
        tables.policies = Policies::build(objects.network_policies, objects.namespaces, objects.pods);
        tables
    }

    /// Puts one port of a Service at each of its addresses, and at the node's ports that lead to it.
    fn insert_port(&mut self, service: &Service, port: &Arc<ServicePort>) {
        // A pod that comes by an address for the outside finds every endpoint, whatever the policies (kube-proxy).
        let outside = |sources| Arc::new(ServicePort { internal_local: false, sources, ..ServicePort::clone(port) });
        let mut insert = |ips: BTreeSet<IpAddr>, place, port: &Arc<ServicePort>| {
            for ip in ips {
                let stands = Virtual { place, port: port.clone() };
                self.virtual_ports.insert((SocketAddr::new(ip, port.port), port.protocol), stands);
            }
        };
        insert(service::cluster_ips(service), Place::Cluster, port);
        let (external, balancer) = (service::external_ips(service), service::balancer_ips(service));
        if !external.is_empty() {
            insert(external, Place::Outside, &outside(Vec::new()));
        }
        self.node_ports.extend(port.node_port.map(|number| ((number, port.protocol), port.clone())));
        let is_ours = service::is_load_balanced(service);
        if is_ours || !balancer.is_empty() {
            let balanced = outside(service::source_ranges(service));
            insert(balancer, if is_ours { Place::Node } else { Place::Outside }, &balanced);
            if is_ours {
                self.node_ports.insert((port.port, port.protocol), balanced);
            }
        }
    }

    /// The Service's port behind a virtual address.
    pub fn virtual_port(&self, address: SocketAddr, protocol: Protocol) -> Option<&Arc<ServicePort>> {
        self.virtual_ports.get(&(address, protocol)).map(|stands| &stands.port)
    }

    /// Every virtual address and port where a client finds an endpoint, without those at addresses of nodes.
    pub fn virtual_addresses(&self, protocol: Protocol) -> impl Iterator<Item = SocketAddr> {
        let wanted = move |of: Protocol, stands: &Virtual| {
            of == protocol && stands.place != Place::Node && !stands.port.endpoints(Origin::Node).is_empty()
        };
        let all = self.virtual_ports.iter();
        all.filter(move |((_, of), stands)| wanted(*of, stands)).map(|((address, _), _)| *address)
    }

    /// The addresses that stand for Services outside, whether a client finds an endpoint or not.
    pub fn outside_addresses(&self) -> BTreeSet<IpAddr> {
        let outside = self.virtual_ports.iter().filter(|(_, stands)| stands.place == Place::Outside);
        outside.map(|((address, _), _)| address.ip()).collect()
    }

    /// What load balancers are told, by the port at which they ask.
    pub fn health_checks(&self) -> &BTreeMap<u16, HealthCheck> {
        &self.health_checks
    }

    /// The Service's port behind a port of the node.
    pub fn node_port(&self, port: u16, protocol: Protocol) -> Option<&Arc<ServicePort>> {
        self.node_ports.get(&(port, protocol))
    }

    /// Every port of the node that leads to a Service, in order.
    pub fn node_ports(&self) -> impl Iterator<Item = (u16, &ServicePort)> {
        self.node_ports.iter().map(|((number, _), port)| (*number, &**port))
    }

    /// The ports of a Service; `None` when there is no such Service.
    pub fn service(&self, name: &ServiceName) -> Option<&[Arc<ServicePort>]> {
        self.services.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{Lookup, Meaning};
    use expect_test::expect;
    use std::fmt::Write as _;

    const OBJECTS: &str = r#"
services:
- metadata: {namespace: default, name: web}
  spec:
    type: NodePort
    clusterIP: 10.96.0.7
    clusterIPs: [10.96.0.7]
    externalIPs: [192.0.2.9]
    ports:
    - {name: http, port: 80, targetPort: 8080, nodePort: 30080}
    - {name: dns, port: 53, protocol: UDP}
- metadata: {namespace: default, name: db}
  spec: {clusterIP: None, clusterIPs: [None], ports: [{port: 5432}]}
- metadata: {namespace: other, name: outside}
  spec: {type: ExternalName, externalName: example.com}
- metadata: {namespace: other, name: draining}
  spec: {clusterIP: 10.96.0.8, clusterIPs: [10.96.0.8], sessionAffinity: ClientIP, ports: [{port: 80}]}
endpoint_slices:
- metadata: {namespace: default, name: web-1, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP}]
  endpoints:
  - {addresses: [10.64.0.3], nodeName: here, conditions: {ready: true}}
  - {addresses: [10.64.64.2], nodeName: there, conditions: {}}
  - {addresses: [10.64.0.4], nodeName: here, conditions: {ready: false}}
- metadata: {namespace: default, name: db-1, labels: {kubernetes.io/service-name: db}}
  addressType: IPv4
  ports: [{port: 5432}]
  endpoints:
  - {addresses: [10.64.0.6], hostname: db-1, conditions: {ready: true}}
  - {addresses: [10.64.0.5], hostname: db-0, conditions: {ready: true}}
- metadata: {namespace: other, name: draining-1, labels: {kubernetes.io/service-name: draining}}
  addressType: IPv4
  ports: [{port: 8080}]
  endpoints:
  - {addresses: [10.64.0.9], conditions: {ready: false, serving: true, terminating: true}}
  - {addresses: [10.64.0.10], conditions: {ready: false, serving: false, terminating: true}}
"#;

    #[derive(serde::Deserialize)]
    struct Fixture {
        services: Vec<Service>,
        endpoint_slices: Vec<EndpointSlice>,
    }

    fn tables() -> Tables {
        tables_of(OBJECTS)
    }

    fn tables_of(objects: &str) -> Tables {
        let fixture: Fixture = serde_saphyr::from_str(objects).unwrap();
        let services: Vec<_> = fixture.services.into_iter().map(Arc::new).collect();
        let endpoint_slices: Vec<_> = fixture.endpoint_slices.into_iter().map(Arc::new).collect();
        let objects = Objects { services: &services, endpoint_slices: &endpoint_slices, ..Objects::default() };
        Tables::build(&objects, "here")
    }

    #[test]
    fn virtual_addresses_and_node_ports_lead_to_endpoints() {
        let tables = tables();
        let mut lines: Vec<String> = Vec::new();
        for ((address, protocol), Virtual { port, .. }) in &tables.virtual_ports {
            let targets: Vec<String> = port.candidates(Origin::Node, 0).map(|target| target.to_string()).collect();
            lines.push(format!("{address} {protocol:?} {} {:?} -> {targets:?}", port.service, port.affinity));
        }
        lines.sort();
        for (number, port) in tables.node_ports() {
            lines.push(format!("node port {number} {:?} {}", port.protocol, port.service));
        }
        expect![[r#"
            10.96.0.7:53 Udp default/web None -> []
            10.96.0.7:80 Tcp default/web None -> ["10.64.0.3:8080", "10.64.64.2:8080"]
            10.96.0.8:80 Tcp other/draining Some(10800s) -> ["10.64.0.9:8080"]
            192.0.2.9:53 Udp default/web None -> []
            192.0.2.9:80 Tcp default/web None -> ["10.64.0.3:8080", "10.64.64.2:8080"]
            node port 30080 Tcp default/web"#]]
        .assert_eq(&lines.join("\n"));
    }

    /// Conformance: "Service, should serve endpoints on same port and different protocols.".
    #[test]
    fn one_number_can_be_a_port_of_each_protocol() {
        let (tcp, udp) = ("{name: tcp, port: 80, protocol: TCP}", "{name: udp, port: 80, protocol: UDP}");
        let targets = |ports: &str| {
            let tables = tables_of(&format!(
                "
services:
- metadata: {{namespace: default, name: web}}
  spec: {{clusterIP: 10.96.0.7, clusterIPs: [10.96.0.7], ports: [{ports}]}}
endpoint_slices:
- metadata: {{namespace: default, name: web-1, labels: {{kubernetes.io/service-name: web}}}}
  addressType: IPv4
  ports: [{ports}]
  endpoints: [{{addresses: [10.64.0.3], nodeName: here, conditions: {{ready: true}}}}]
"
            ));
            [Protocol::Tcp, Protocol::Udp].map(|protocol| {
                let port = tables.virtual_port("10.96.0.7:80".parse().unwrap(), protocol)?;
                port.candidates(Origin::Node, 0).next()
            })
        };
        let pod = Some("10.64.0.3:80".parse().unwrap());
        assert_eq!(targets(&format!("{tcp}, {udp}")), [pod, pod]);
        assert_eq!(targets(tcp), [pod, None]);
        assert_eq!(targets(udp), [None, pod]);
    }

    /// Conformance: "DNS, services"; "DNS, PQDN for services"; "DNS, resolve the hostname"; "DNS, resolve the subdomain"; "DNS,
    /// for ExternalName Services".
    #[test]
    fn names_mean_what_the_dns_specification_says() {
        let tables = tables();
        let mut answers = String::new();
        for (from, name) in [
            ("default", "web"),
            ("default", "WEB"),
            ("other", "web"),
            ("other", "web.default"),
            ("other", "web.default.svc"),
            ("other", "web.default.svc.cluster.local"),
            ("other", "web.default.svc.cluster.local."),
            ("other", "web.default."),
            ("default", "db"),
            ("default", "db-1.db"),
            ("other", "db-0.db.default.svc.cluster.local"),
            ("other", "db-9.db.default.svc.cluster.local"),
            ("other", "outside"),
            ("default", "10-64-0-5.default.pod.cluster.local"),
            ("default", "gone.default.svc.cluster.local"),
            ("default", "cluster.local"),
            ("default", "notcluster.local"),
            ("default", "example.com"),
            ("default", "192.0.2.1"),
        ] {
            let answer = match tables.names.lookup(name, from, "cluster.local") {
                Lookup::Addresses(addresses) => addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" "),
                other => format!("{other:?}"),
            };
            writeln!(answers, "{from}: {name} = {answer}").unwrap();
        }
        expect![[r#"
            default: web = 10.96.0.7
            default: WEB = 10.96.0.7
            other: web = NotCluster
            other: web.default = 10.96.0.7
            other: web.default.svc = 10.96.0.7
            other: web.default.svc.cluster.local = 10.96.0.7
            other: web.default.svc.cluster.local. = 10.96.0.7
            other: web.default. = NotCluster
            default: db = 10.64.0.5 10.64.0.6
            default: db-1.db = 10.64.0.6
            other: db-0.db.default.svc.cluster.local = 10.64.0.5
            other: db-9.db.default.svc.cluster.local = NoSuchName
            other: outside = Alias("example.com")
            default: 10-64-0-5.default.pod.cluster.local = 10.64.0.5
            default: gone.default.svc.cluster.local = NoSuchName
            default: cluster.local = NoSuchName
            default: notcluster.local = NotCluster
            default: example.com = NotCluster
            default: 192.0.2.1 = 192.0.2.1
        "#]]
        .assert_eq(&answers);
    }

    /// A target is complete: no Service is meant by a part of its name, and no domain of the pod's searched for it.
    #[test]
    fn an_external_name_is_followed_as_it_is_written() {
        let alias = |namespace: &str, name: &str, target: &str| {
            format!(
                "- {{metadata: {{namespace: {namespace}, name: {name}}}, spec: {{type: ExternalName, externalName: {target}}}}}\n"
            )
        };
        let mut objects = "services:\n".to_owned();
        for (namespace, name) in [("default", "web"), ("example", "db")] {
            objects += &format!(
                "- {{metadata: {{namespace: {namespace}, name: {name}}}, spec: {{clusterIPs: [10.96.0.7]}}}}\n"
            );
        }
        for (name, target) in [
            ("outside", "db.example"),
            ("short", "web"),
            ("dotted", "db.example."),
            ("address", "192.0.2.1"),
            ("inside", "DB.example.svc.cluster.local"),
            ("gone", "gone.example.svc.cluster.local"),
            ("second", "inside.default.svc.cluster.local"),
            ("circle", "circle.default.svc.cluster.local"),
            ("chain-0", "web.default.svc.cluster.local."),
        ] {
            objects += &alias("default", name, target);
        }
        for number in 1..9 {
            objects += &alias(
                "default",
                &format!("chain-{number}"),
                &format!("chain-{}.default.svc.cluster.local", number - 1),
            );
        }
        let tables = tables_of(&(objects + "endpoint_slices: []"));
        let meaning = |name: &str| match tables.names.meaning(name, "default", "cluster.local") {
            Meaning::Addresses(addresses) => format!("{addresses:?}"),
            Meaning::Outside(name) => format!("{name} outside"),
            Meaning::NoSuchName => "nothing".to_owned(),
        };
        for (name, expected) in [
            ("db.example", "[10.96.0.7]"),
            ("db.example.", "db.example. outside"),
            ("Elsewhere", "Elsewhere outside"),
            ("outside", "db.example outside"),
            ("short", "web outside"),
            ("dotted", "db.example outside"),
            ("address", "192.0.2.1 outside"),
            ("inside", "[10.96.0.7]"),
            ("gone", "nothing"),
            ("second", "[10.96.0.7]"),
            ("circle", "nothing"),
            ("chain-7", "[10.96.0.7]"),
            ("chain-8", "nothing"),
        ] {
            assert_eq!(meaning(name), expected, "{name}");
        }
    }
}
