//! Services: every combination of what the API lets one say about them, with the endpoints that the controller makes of it, and what
//! Kubernetes says of each field about who is found.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8w_controllers::discovery::endpoint_slice;
use k8w_controllers::plan::Step;
use k8w_controllers::world::{Change, World};
use k8w_networking::peers::Node;
use k8w_networking::{Meaning, Objects, Tables};
use serde_json::{Value, json};

use super::Way;

/// Values that are combined, by the field that has them; the first is what most are combined with. An empty list is for fields that
/// decide nothing about where a pod's connection goes, of which it is said why.
const FIELDS: &[(&str, &[&str])] = &[
    // Which ports of nodes there are: `nodePort` is given here.
    ("allocateLoadBalancerNodePorts", &[]),
    ("clusterIP", &["10.96.0.9", "None"]),
    // Always as `clusterIP`, below.
    ("clusterIPs", &[]),
    ("externalIPs", &["null", "[198.51.100.9]"]),
    ("externalName", &["other.default.svc.cluster.local", "other.default"]),
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
pub const NODE_PORT: u16 = 30_080;
const CLUSTER_IP: &str = "10.96.0.9";
/// The cluster IP of another Service, and the pod behind it.
const OTHER_CLUSTER_IP: &str = "10.96.0.30";
pub const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 64, 0, 30));
/// Ports that every pod listens at, and what it says there after its name.
pub const PORTS: [(u16, &str); 2] = [(8080, ""), (7000, " at 7000")];
/// Who asks.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 64, 0, 5));

/// Pods of the Service's app: here and there, in different zones.
pub const PODS: [(&str, bool, &str); 5] = [
    ("ready", true, "conditions: [{type: Ready, status: 'True'}]"),
    ("starting", true, "conditions: [{type: Ready, status: 'False'}]"),
    ("leaving", true, "conditions: [{type: Ready, status: 'True'}]"),
    ("far", false, "conditions: [{type: Ready, status: 'True'}]"),
    ("far-leaving", false, "conditions: [{type: Ready, status: 'True'}]"),
];
/// Which of them there are.
pub const LAYOUTS: [&[&str]; 7] = [
    &[],
    &["ready", "far"],
    &["far"],
    &["ready", "starting", "leaving", "far", "far-leaving"],
    &["starting", "far"],
    &["leaving", "far"],
    &["leaving", "far-leaving"],
];

pub fn ip_of(name: &str) -> IpAddr {
    let place = PODS.iter().position(|(pod, ..)| *pod == name).unwrap() as u8;
    Ipv4Addr::new(10, 64, if is_here(name) { 0 } else { 64 }, 10 + place).into()
}

pub fn is_here(name: &str) -> bool {
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
pub fn specs(way: Way) -> Vec<Value> {
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

/// The tables of the node `here`: the Service with the endpoints that the controller finds for it, and another one.
pub fn tables(spec: &Value, layout: &[&str], way: Way, nodes: &[Arc<Node>]) -> Tables {
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
    for node in nodes {
        let labels = json!({"topology.kubernetes.io/zone": node.zone});
        learn("Node", json!({"metadata": {"name": node.name, "uid": node.name, "labels": labels}}));
    }
    for name in layout {
        let status = PODS.iter().find(|(pod, ..)| pod == name).unwrap().2;
        let mut status: Value = serde_saphyr::from_str(&format!("{{{status}}}")).unwrap();
        status["phase"] = "Running".into();
        status["podIPs"] = json!([{"ip": ip_of(name)}]);
        let leaving = name.ends_with("leaving").then_some("2024-01-01T00:00:00Z");
        learn(
            "Pod",
            json!({
                "metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": "web"}, "deletionTimestamp": leaving},
                "spec": {
                    "nodeName": if is_here(name) { "here" } else { "there" },
                    "containers": [{"name": "main", "ports": [{"name": "web", "containerPort": 8080, "protocol": way.protocol()}]}],
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
        "spec": {"clusterIPs": ["10.96.0.30"], "ports": [{"port": 80, "protocol": way.protocol()}]},
    });
    let others = json!({
        "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "other"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": way.protocol()}],
        "endpoints": [{"addresses": [OTHER]}],
    });
    let others: EndpointSlice = serde_json::from_value(others).unwrap();
    let slices: Vec<_> = slices.chain([Arc::new(others)]).collect();
    let services = [Arc::new(service), Arc::new(serde_json::from_value(other).unwrap())];
    let objects = Objects { services: &services, endpoint_slices: &slices, nodes, ..Objects::default() };
    Tables::build(&objects, "here")
}

/// Where a question goes.
#[derive(Clone, Debug)]
pub enum Where {
    At(SocketAddr),
    /// A component's URI.
    Uri(String),
    /// The node's port, from outside.
    NodePort,
}

/// What is asked of the Service, and who may answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub to: Where,
    /// Each of them is heard sooner or later; nobody, if there is none.
    pub expected: BTreeSet<String>,
    /// Whether one client always hears the same.
    pub keeps: bool,
}

/// What the name of the Service means.
pub fn meaning(spec: &Value, layout: &[&str]) -> Meaning {
    if let Some(target) = spec["externalName"].as_str() {
        // A complete name, of which that of a Service alone is no part.
        let is_clusters = target.ends_with(".cluster.local");
        let outside = || Meaning::Outside(target.to_owned());
        return if is_clusters { Meaning::Addresses(vec![OTHER_CLUSTER_IP.parse().unwrap()]) } else { outside() };
    }
    if spec["clusterIP"] == "None" {
        return Meaning::Addresses(members(spec, layout).into_iter().map(|(ip, _)| ip).collect());
    }
    Meaning::Addresses(vec![CLUSTER_IP.parse().unwrap()])
}

/// What the name of a headless Service stands for, in the order of addresses.
fn members(spec: &Value, layout: &[&str]) -> Vec<(IpAddr, String)> {
    let publishes = spec["publishNotReadyAddresses"] == true;
    let is_member = |pod: &str| spec["selector"]["app"] == "web" && (publishes || matches!(pod, "ready" | "far"));
    let members = layout.iter().filter(|pod| is_member(pod)).map(|pod| (ip_of(pod), (*pod).to_owned()));
    let mut members: Vec<_> = members.collect();
    members.sort();
    members
}

/// Every address of the Service, as a pod and somebody outside ask for it.
pub fn questions(spec: &Value, layout: &[&str], way: Way) -> Vec<Question> {
    let keeps = spec["sessionAffinity"] == "ClientIP";
    let question = |to, expected| Question { to, expected, keeps };
    let one = |name: String| BTreeSet::from([name]);
    if spec["type"] == "ExternalName" {
        let is_followed = way == Way::Http && matches!(meaning(spec, layout), Meaning::Addresses(_));
        let followed = is_followed.then(|| question(Where::Uri("http://web/".into()), one("other".into())));
        return followed.into_iter().collect();
    }
    if spec["clusterIP"] == "None" {
        let members = members(spec, layout).into_iter();
        return members.map(|(ip, name)| question(Where::At((ip, 8080).into()), one(name))).collect();
    }
    let is_local = |field: &str| spec[field] == "Local";
    let ranges = spec["loadBalancerSourceRanges"].as_array();
    let may_come = |client: IpAddr| {
        let holds = |range: &Value| range.as_str().unwrap().parse::<ipnet::IpNet>().unwrap().contains(&client);
        ranges.is_none_or(|ranges| ranges.iter().any(holds))
    };
    // By an address for the outside a pod finds all, whatever the policies.
    let mut places = vec![(CLUSTER_IP, is_local("internalTrafficPolicy"), true)];
    places.extend(spec["externalIPs"].is_array().then_some((EXTERNAL, false, true)));
    places.extend((spec["type"] == "LoadBalancer").then(|| (BALANCER, false, may_come(CLIENT))));
    let mut questions = Vec::new();
    for (ip, is_local, may_come) in places {
        for port in spec["ports"].as_array().unwrap() {
            let mut expected = if may_come { expected(spec, layout, is_local) } else { BTreeSet::new() };
            if port["targetPort"] == 7000 {
                expected = expected.iter().map(|name| format!("{name} at 7000")).collect();
            }
            let port = u16::try_from(port["port"].as_u64().unwrap()).unwrap();
            if way == Way::Http && ip == CLUSTER_IP {
                questions.push(question(Where::Uri(format!("http://web:{port}/")), expected.clone()));
            }
            questions.push(question(Where::At(SocketAddr::new(ip.parse().unwrap(), port)), expected));
        }
    }
    if matches!(spec["type"].as_str(), Some("NodePort" | "LoadBalancer")) && way != Way::Udp {
        questions.push(question(Where::NodePort, expected(spec, layout, is_local("externalTrafficPolicy"))));
    }
    questions
}

/// Asks until everybody was heard who should be, and never hears another; where a client keeps its endpoint, always the same.
pub async fn hear_all(question: &Question, what: &str, ask: impl AsyncFn() -> Option<String>) {
    const MOST_TRIES: usize = 500;
    let (expected, keeps) = (&question.expected, question.keeps);
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
