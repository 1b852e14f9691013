//! Services by what pods call: every combination of what the API lets one say about them, with the endpoints that the controller
//! makes of it, compared with what Kubernetes says of each field.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8w_controllers::discovery::endpoint_slice;
use k8w_controllers::plan::Step;
use k8w_controllers::world::{Change, World};
use k8w_networking::peers::Node;
use k8w_networking::{Lookup, Network, Objects, Origin, PodIdentity, Protocol, Tables};
use serde_json::{Value, json};

use crate::harness::*;
use crate::peers::{Ca, There, far_pod, here, there};
use crate::ways::{Listening, Way, hear, hear_of, hear_stream, listen};

/// Values that are combined, by the field that has them; the first is what most are combined with. An empty list is for fields that
/// decide nothing about where a pod's connection goes, of which it is said why.
const FIELDS: &[(&str, &[&str])] = &[
    // Which ports of nodes there are: `nodePort` is given here.
    ("allocateLoadBalancerNodePorts", &[]),
    ("clusterIP", &["10.96.0.9", "None"]),
    // Always as `clusterIP`, below.
    ("clusterIPs", &[]),
    ("externalIPs", &["null", "[198.51.100.9]"]),
    ("externalName", &["other.default.svc.cluster.local"]),
    ("externalTrafficPolicy", &["Cluster", "Local"]),
    // What load balancers ask (`sockets/node_ports.rs`).
    ("healthCheckNodePort", &[]),
    ("internalTrafficPolicy", &["Cluster", "Local"]),
    // One family, as pods have one address.
    ("ipFamilies", &[]),
    ("ipFamilyPolicy", &[]),
    // Whose addresses are in the status, which is given here.
    ("loadBalancerClass", &[]),
    ("loadBalancerIP", &[]),
    ("loadBalancerSourceRanges", &["null", "[192.0.2.0/24]", "[10.64.0.0/18]"]),
    (
        "ports",
        &[
            "[{port: 80, targetPort: 8080}]",
            "[{port: 80, targetPort: web}]",
            "[{port: 8080}]",
            "[{name: a, port: 81, targetPort: 7000}, {name: b, port: 80, targetPort: web}]",
        ],
    ),
    ("publishNotReadyAddresses", &["false", "true"]),
    ("selector", &["{app: web}", "{app: none}", "null"]),
    ("sessionAffinity", &["None", "ClientIP"]),
    // For how long, which is a test of the table's (`balance.rs`).
    ("sessionAffinityConfig", &[]),
    ("trafficDistribution", &["null", "PreferClose", "PreferSameZone", "PreferSameNode"]),
    ("type", &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
];

/// Of a port: `appProtocol` is for the ingress alone.
const PORT_FIELDS: &[&str] = &["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"];

const EXTERNAL: &str = "198.51.100.9";
const BALANCER: &str = "198.51.100.10";
const NODE_PORT: u16 = 30_080;
/// A client outside of the cluster.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// Pods of the Service's app: here and there, in different zones.
const PODS: [(&str, bool, &str); 5] = [
    ("ready", true, "conditions: [{type: Ready, status: 'True'}]"),
    ("starting", true, "conditions: [{type: Ready, status: 'False'}]"),
    ("leaving", true, "conditions: [{type: Ready, status: 'True'}]"),
    ("far", false, "conditions: [{type: Ready, status: 'True'}]"),
    ("far-leaving", false, "conditions: [{type: Ready, status: 'True'}]"),
];
/// Which of them there are.
const LAYOUTS: [&[&str]; 7] = [
    &[],
    &["ready", "far"],
    &["far"],
    &["ready", "starting", "leaving", "far", "far-leaving"],
    &["starting", "far"],
    &["leaving", "far"],
    &["leaving", "far-leaving"],
];

fn identity(name: &str) -> PodIdentity {
    let place = PODS.iter().position(|(pod, ..)| *pod == name).unwrap() as u8;
    let pod = if PODS[usize::from(place)].1 { pod(10 + place) } else { far_pod(10 + place) };
    PodIdentity { name: name.into(), uid: name.into(), ..pod }
}

fn is_here(name: &str) -> bool {
    PODS.iter().any(|(pod, here, _)| *pod == name && *here)
}

fn fields<T: schemars::JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T);
    schema.as_value()["properties"].as_object().unwrap().keys().cloned().collect()
}

/// A new field of the API is not silently left out.
#[test]
fn every_field_has_its_values() {
    let set = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(fields::<ServiceSpec>(), set(&mut FIELDS.iter().map(|(field, _)| *field)));
    assert_eq!(fields::<ServicePort>(), set(&mut PORT_FIELDS.iter().copied()));
}

/// Whether the API lets a Service of this kind have the field, or it could act there.
fn applies(field: &str, spec: &Value) -> bool {
    let (kind, is_headless) = (spec["type"].as_str().unwrap(), spec["clusterIP"] == "None");
    let is_outside = matches!(kind, "NodePort" | "LoadBalancer");
    match field {
        "externalName" => kind == "ExternalName",
        "clusterIP" => kind == "ClusterIP",
        "externalTrafficPolicy" => is_outside,
        "loadBalancerSourceRanges" => kind == "LoadBalancer",
        "externalIPs" | "internalTrafficPolicy" | "sessionAffinity" | "trafficDistribution" => {
            kind != "ExternalName" && !is_headless
        }
        _ => kind != "ExternalName",
    }
}

/// Every combination of values of the fields that decide whom one finds; those that decide only where one asks (`ports`,
/// `selector`, `externalIPs`) are combined with the others' defaults.
fn specs(way: Way) -> Vec<Value> {
    let asking = ["ports", "selector", "externalIPs", "loadBalancerSourceRanges"];
    let values = |field: &str| FIELDS.iter().find(|(name, _)| *name == field).unwrap().1;
    let set = |spec: &Value, field: &str, value: &str| {
        let mut spec = spec.clone();
        let value: Value = serde_saphyr::from_str(value).unwrap();
        if !value.is_null() {
            spec[field] = value;
        }
        spec
    };
    let mut specs: Vec<Value> = values("type").iter().map(|kind| json!({"type": kind})).collect();
    let order =
        ["clusterIP"].into_iter().chain(FIELDS.iter().map(|(field, _)| *field)).filter(|field| *field != "type");
    let mut done = BTreeSet::new();
    for field in order.filter(|field| done.insert(*field) && !values(field).is_empty()) {
        let expand = |spec: &Value| {
            let count = if asking.contains(&field) { 1 } else { values(field).len() };
            let values = if applies(field, spec) { &values(field)[..count] } else { &[] };
            let with: Vec<Value> = values.iter().map(|value| set(spec, field, value)).collect();
            if with.is_empty() { vec![spec.clone()] } else { with }
        };
        specs = specs.iter().flat_map(expand).collect();
    }
    let is_plain = |spec: &&Value| {
        let defaults =
            FIELDS.iter().filter(|(field, values)| !values.is_empty() && !["type", "clusterIP"].contains(field));
        defaults.into_iter().all(|(field, values)| {
            let default: Value = serde_saphyr::from_str(values[0]).unwrap();
            !applies(field, spec) || spec[*field] == default
        })
    };
    let plain: Vec<Value> = specs.iter().filter(is_plain).cloned().collect();
    for field in asking {
        for spec in plain.iter().filter(|spec| applies(field, spec)) {
            let others = values(field)[1..].iter();
            specs.extend(others.map(|value| {
                let mut spec = spec.clone();
                spec[field] = serde_saphyr::from_str(value).unwrap();
                spec
            }));
        }
    }
    for spec in &mut specs {
        if spec["type"] == "ExternalName" {
            continue;
        }
        spec["clusterIPs"] = json!([spec["clusterIP"].as_str().unwrap_or("10.96.0.9")]);
        spec["clusterIP"] = spec["clusterIPs"][0].clone();
        let is_outside = spec["type"] != "ClusterIP";
        for (i, port) in spec["ports"].as_array_mut().unwrap().iter_mut().rev().enumerate() {
            port["protocol"] = way.protocol().into();
            if is_outside {
                port["nodePort"] = (NODE_PORT + i as u16).into();
            }
        }
    }
    specs
}

/// Who takes connections, by the API reference: the ready, or, where there are none, who still serves while it ends.
fn expected(spec: &Value, layout: &[&str], is_local: bool) -> BTreeSet<String> {
    let chosen = |accept: &dyn Fn(&str) -> bool| -> BTreeSet<String> {
        layout.iter().filter(|pod| accept(pod)).map(|pod| (*pod).to_owned()).collect()
    };
    if spec["selector"] != json!({"app": "web"}) {
        return BTreeSet::new();
    }
    let publishes = spec["publishNotReadyAddresses"] == true;
    let is_near = |pod: &str| !is_local || is_here(pod);
    let ready = chosen(&|pod| (publishes || matches!(pod, "ready" | "far")) && is_near(pod));
    if ready.is_empty() {
        return chosen(&|pod| pod.ends_with("leaving") && is_near(pod));
    }
    // The zone of this node has the pods of this node alone. Who is alone in its zone is nobody's preference.
    let near: BTreeSet<String> = ready.iter().filter(|pod| is_here(pod)).cloned().collect();
    let prefers = spec["trafficDistribution"].as_str().is_some() && !is_local;
    if prefers && !near.is_empty() { near } else { ready }
}

struct Bench {
    way: Way,
    network: Arc<Network>,
    far: There,
    nodes: Vec<Arc<Node>>,
    _pods: Vec<Listening>,
}

impl Bench {
    async fn new(way: Way) -> Bench {
        let ca = Ca::new();
        let (network, far) = (network(), there(&ca, "there").await);
        network.connect_peers(ca.tls("here").0);
        let mut pods = Vec::new();
        for (name, is_here, _) in PODS {
            let network = if is_here { &network } else { &far.network };
            for port in [7000, 8080] {
                let word = if port == 8080 { name.to_owned() } else { format!("{name} at {port}") };
                pods.push(listen(network, way, &identity(name), port, &word).await);
            }
        }
        // Behind the Service that an ExternalName names.
        for port in [7000, 8080] {
            pods.push(listen(&network, way, &pod(30), port, "other").await);
        }
        let zone = |node: Node, zone: &str| Arc::new(Node { zone: Some(zone.into()), ..node });
        let nodes = vec![zone(here(), "a"), zone(far.node.clone(), "b")];
        far.network.update(Tables::build(&Objects { nodes: &nodes, ..Objects::default() }, "there"));
        Bench { way, network, far, nodes, _pods: pods }
    }

    /// The Service with the endpoints that the controller finds for it, and another one.
    fn update(&self, spec: &Value, layout: &[&str]) {
        let (mut world, mut revision) = (World::default(), 0);
        let mut learn = |kind: &str, object: Value| {
            revision += 1;
            let mut object = object;
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            let object = match kind {
                "Pod" => serde_json::from_value::<Pod>(object).unwrap().into(),
                _ => serde_json::from_value::<NodeObject>(object).unwrap().into(),
            };
            world.apply(Change::Watched(object));
        };
        for node in &self.nodes {
            let labels = json!({"topology.kubernetes.io/zone": node.zone});
            learn("Node", json!({"metadata": {"name": node.name, "uid": node.name, "labels": labels}}));
        }
        for name in layout {
            let status = PODS.iter().find(|(pod, ..)| pod == name).unwrap().2;
            let mut status: Value = serde_saphyr::from_str(&format!("{{{status}}}")).unwrap();
            status["phase"] = "Running".into();
            status["podIPs"] = json!([{"ip": identity(name).ip}]);
            let leaving = name.ends_with("leaving").then_some("2024-01-01T00:00:00Z");
            learn(
                "Pod",
                json!({
                    "metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": "web"}, "deletionTimestamp": leaving},
                    "spec": {
                        "nodeName": if is_here(name) { "here" } else { "there" },
                        "containers": [{"name": "main", "ports": [{"name": "web", "containerPort": 8080, "protocol": self.way.protocol()}]}],
                    },
                    "status": status,
                }),
            );
        }
        let balancer = json!({"ingress": [{"ip": BALANCER, "ipMode": "VIP"}]});
        let is_balanced = spec["type"] == "LoadBalancer";
        let service: Service = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": "web", "uid": "web"},
            "spec": spec,
            "status": {"loadBalancer": if is_balanced { balancer } else { json!({}) }},
        }))
        .unwrap();
        let plan = endpoint_slice::reconcile(&service, &world, Timestamp::UNIX_EPOCH);
        let slices = plan.steps.into_iter().map(|step| match step {
            Step::Create { object, .. } => Arc::new(serde_json::from_value::<EndpointSlice>(object).unwrap()),
            other => panic!("{other:?}"),
        });
        let other = json!({
            "metadata": {"namespace": "default", "name": "other"},
            "spec": {"clusterIPs": ["10.96.0.30"], "ports": [{"port": 80, "protocol": self.way.protocol()}]},
        });
        let others = json!({
            "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "other"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080, "protocol": self.way.protocol()}],
            "endpoints": [{"addresses": [pod(30).ip]}],
        });
        let others: EndpointSlice = serde_json::from_value(others).unwrap();
        let slices: Vec<_> = slices.chain([Arc::new(others)]).collect();
        let services = [Arc::new(service), Arc::new(serde_json::from_value(other).unwrap())];
        let objects =
            Objects { services: &services, endpoint_slices: &slices, nodes: &self.nodes, ..Objects::default() };
        self.network.update(Tables::build(&objects, "here"));
    }

    /// Asks at every address of the Service, from a pod and from outside.
    async fn check(&self, spec: &Value, layout: &[&str]) -> usize {
        self.update(spec, layout);
        let what = format!("{:?} with {layout:?}, {spec}", self.way);
        let found = self.network.lookup_host("default", "web");
        if spec["type"] == "ExternalName" {
            assert_eq!(found, Lookup::Alias("other.default.svc.cluster.local".into()), "{what}");
            if self.way == Way::Http {
                let said = hear_of(&self.network, &pod(5), "http://web/").await;
                assert_eq!(said.as_deref(), Some("other"), "{what}");
            }
            return 1;
        }
        let is_headless = spec["clusterIP"] == "None";
        if is_headless {
            let expected: BTreeMap<IpAddr, String> = self.members(spec, layout);
            let Lookup::Addresses(found) = found else { panic!("{found:?}: {what}") };
            assert_eq!(found, expected.keys().copied().collect::<Vec<_>>(), "{what}");
            for (ip, name) in &expected {
                let said = hear(&self.network, self.way, &pod(5), SocketAddr::new(*ip, 8080)).await;
                assert_eq!(said.as_deref(), Some(&**name), "{what}");
            }
            return 1;
        }
        assert_eq!(found, Lookup::Addresses(vec!["10.96.0.9".parse().unwrap()]), "{what}");
        let is_local = |field: &str| spec[field] == "Local";
        let ranges = spec["loadBalancerSourceRanges"].as_array();
        let may_come = |client: IpAddr| {
            let holds = |range: &Value| range.as_str().unwrap().parse::<ipnet::IpNet>().unwrap().contains(&client);
            ranges.is_none_or(|ranges| ranges.iter().any(holds))
        };
        // By an address for the outside a pod finds all, whatever the policies.
        let mut places = vec![("10.96.0.9", is_local("internalTrafficPolicy"), true)];
        places.extend(spec["externalIPs"].is_array().then_some((EXTERNAL, false, true)));
        places.extend((spec["type"] == "LoadBalancer").then(|| (BALANCER, false, may_come(pod(5).ip))));
        let ports = spec["ports"].as_array().unwrap();
        for ((ip, is_local, may_come), port) in
            places.iter().flat_map(|place| ports.iter().map(move |port| (place, port)))
        {
            let mut expected = if *may_come { expected(spec, layout, *is_local) } else { BTreeSet::new() };
            if port["targetPort"] == 7000 {
                expected = expected.iter().map(|name| format!("{name} at 7000")).collect();
            }
            let port = u16::try_from(port["port"].as_u64().unwrap()).unwrap();
            let at = SocketAddr::new(ip.parse().unwrap(), port);
            let ask = async || hear(&self.network, self.way, &pod(5), at).await;
            self.hear_all(spec, &expected, &format!("{at}, {what}"), ask).await;
            if self.way == Way::Http && *ip == "10.96.0.9" {
                let named = hear_of(&self.network, &pod(5), &format!("http://web:{port}/")).await;
                assert_eq!(named.is_some(), !expected.is_empty(), "{what}");
            }
        }
        let has_node_port = matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) && self.way != Way::Udp;
        if has_node_port {
            let expected = expected(spec, layout, is_local("externalTrafficPolicy"));
            self.hear_all(spec, &expected, &format!("node port, {what}"), async || self.hear_outside().await).await;
        }
        places.len() + usize::from(has_node_port)
    }

    /// What the name of a headless Service stands for, in the order of addresses.
    fn members(&self, spec: &Value, layout: &[&str]) -> BTreeMap<IpAddr, String> {
        let publishes = spec["publishNotReadyAddresses"] == true;
        let members = layout
            .iter()
            .filter(|pod| spec["selector"]["app"] == "web" && (publishes || matches!(**pod, "ready" | "far")));
        members.map(|pod| (identity(pod).ip, (*pod).to_owned())).collect()
    }

    /// Asks until everybody was heard who should be, and never hears another; with session affinity always the same.
    async fn hear_all(
        &self,
        spec: &Value,
        expected: &BTreeSet<String>,
        what: &str,
        ask: impl AsyncFn() -> Option<String>,
    ) {
        const MOST_TRIES: usize = 500;
        let keeps = spec["sessionAffinity"] == "ClientIP";
        let wanted = if keeps { expected.len().min(1) } else { expected.len() };
        let mut heard = BTreeSet::new();
        for tries in 1..=MOST_TRIES {
            match ask().await {
                Some(word) => {
                    assert!(expected.contains(&word), "{word}, not {expected:?}: {what}");
                    heard.insert(word);
                }
                None => assert!(expected.is_empty(), "nobody, not {expected:?}: {what}"),
            }
            if heard.len() >= wanted && tries >= if keeps { 4 } else { 1 } {
                break;
            }
        }
        assert_eq!(heard.len(), wanted, "{heard:?} of {expected:?}: {what}");
    }

    /// What a client outside hears by a port of this node.
    async fn hear_outside(&self) -> Option<String> {
        let (origin, tables) = (Origin::Outside(CLIENT), self.network.tables());
        let endpoint = self.network.select_of(tables.node_port(NODE_PORT, Protocol::Tcp).unwrap(), origin).ok()?;
        let stream = self.network.open(origin, endpoint).await.unwrap();
        Some(hear_stream(self.way, stream, CLIENT).await)
    }
}

async fn every_service(way: Way) {
    let bench = Bench::new(way).await;
    let (specs, mut asked) = (specs(way), 0);
    for spec in &specs {
        for layout in LAYOUTS {
            asked += bench.check(spec, layout).await;
        }
    }
    drop(bench.far);
    eprintln!("{} Services, {asked} questions", specs.len());
}

#[tokio::test]
async fn every_service_leads_connections_where_it_should() {
    every_service(Way::Tcp).await;
}

#[tokio::test]
async fn every_service_leads_calls_where_it_should() {
    every_service(Way::Http).await;
}

#[tokio::test]
async fn every_service_leads_datagrams_where_it_should() {
    every_service(Way::Udp).await;
}
