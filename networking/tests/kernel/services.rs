//! Services by their addresses: every combination of what the API lets one say about them, compared with what Kubernetes
//! says of each field.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, ServicePort, ServiceSpec};
use k8w_networking::{Network, Objects, Tables};
use k8w_testkit::{Neighbour, THERE};
use serde_json::{Value, json};

use crate::harness::*;

/// Addresses of the Service, where its port is 80.
const CLUSTER: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 9);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
const BALANCER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// An address of a pod of another node.
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 5);

/// Values that are combined, by the field that has them. What decides nothing about a connection to one of the Service's
/// addresses has one value; an empty list is for fields that other tests are about: names, node ports and their ranges.
const FIELDS: &[(&str, &[&str])] = &[
    ("allocateLoadBalancerNodePorts", &["false"]),
    ("clusterIP", &["10.96.0.9"]),
    ("clusterIPs", &["[10.96.0.9]"]),
    ("externalIPs", &["[198.51.100.9]"]),
    ("externalName", &[]),
    ("externalTrafficPolicy", &["Cluster", "Local"]),
    ("healthCheckNodePort", &[]),
    ("internalTrafficPolicy", &["Cluster", "Local"]),
    ("ipFamilies", &["[IPv4]"]),
    ("ipFamilyPolicy", &["SingleStack"]),
    ("loadBalancerClass", &["example.com/foreign"]),
    ("loadBalancerIP", &["198.51.100.77"]),
    ("loadBalancerSourceRanges", &["[]", "[192.0.2.0/24]", "[10.244.0.0/16, 10.64.0.1/32]"]),
    ("ports", &["[{name: web, port: 80, protocol: TCP, targetPort: 8080, appProtocol: example.com/any}]"]),
    ("publishNotReadyAddresses", &["false"]),
    ("selector", &["{app: web}"]),
    ("sessionAffinity", &["None", "ClientIP"]),
    ("sessionAffinityConfig", &["{clientIP: {timeoutSeconds: 60}}"]),
    ("trafficDistribution", &["PreferClose"]),
    ("type", &["LoadBalancer"]),
];

/// Of the port, and of each of the balancer's addresses.
const PORT_FIELDS: &[&str] = &["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"];
const BALANCER_FIELDS: &[&str] = &["hostname", "ip", "ipMode", "ports"];

fn fields<T: schemars::JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T);
    schema.as_value()["properties"].as_object().unwrap().keys().cloned().collect()
}

/// A new field of the API is not silently left out.
pub fn every_field_has_its_values() {
    let set = |names: &mut dyn Iterator<Item = &str>| names.map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(fields::<ServiceSpec>(), set(&mut FIELDS.iter().map(|(field, _)| *field)));
    assert_eq!(fields::<ServicePort>(), set(&mut PORT_FIELDS.iter().copied()));
    assert_eq!(fields::<LoadBalancerIngress>(), set(&mut BALANCER_FIELDS.iter().copied()));
}

/// Every combination of the values.
fn specs() -> Vec<Value> {
    let mut specs = vec![json!({})];
    for (field, values) in FIELDS.iter().filter(|(_, values)| !values.is_empty()) {
        let with = |spec: &Value, value: &str| {
            let mut spec = spec.clone();
            spec[field] = serde_saphyr::from_str(value).unwrap();
            spec
        };
        specs = specs.iter().flat_map(|spec| values.iter().map(move |value| with(spec, value))).collect();
    }
    specs
}

/// Where endpoints are. The one of this node is a pod of it, the other one a host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    here: bool,
    there: bool,
}

const LAYOUTS: [Layout; 4] = [
    Layout { here: false, there: false },
    Layout { here: true, there: false },
    Layout { here: false, there: true },
    Layout { here: true, there: true },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Host,
    /// A pod of another node.
    Pod,
    Outside,
}

impl Client {
    fn ip(self) -> IpAddr {
        match self {
            Self::Host => HOST,
            Self::Pod => POD.into(),
            Self::Outside => THERE.into(),
        }
    }
}

/// Who may answer, by the API reference and what kube-proxy makes of it; nobody: the connection fails.
fn expected(spec: &Value, layout: Layout, client: Client, to: Ipv4Addr) -> BTreeSet<&'static str> {
    let local_only = match (to, client) {
        (CLUSTER, _) => spec["internalTrafficPolicy"] == "Local",
        // Clients inside of the cluster are not led outside and back in.
        (_, Client::Host | Client::Pod) => false,
        (_, Client::Outside) => spec["externalTrafficPolicy"] == "Local",
    };
    let ranges = spec["loadBalancerSourceRanges"].as_array().unwrap();
    let holds = |range: &Value| range.as_str().unwrap().parse::<ipnet::IpNet>().unwrap().contains(&client.ip());
    let is_let_in = to != BALANCER || ranges.is_empty() || ranges.iter().any(holds);
    if !is_let_in {
        return BTreeSet::new();
    }
    let here = layout.here.then_some("here");
    let there = (layout.there && !local_only).then_some("there");
    here.into_iter().chain(there).collect()
}

fn tables(spec: &Value, mode: &str, layout: Layout, here: SocketAddr, there: SocketAddr) -> Tables {
    let service = json!({
        "metadata": {"namespace": "default", "name": "web"},
        "spec": spec,
        "status": {"loadBalancer": {"ingress": [{"ip": BALANCER, "ipMode": mode}]}},
    });
    let slice = |address: SocketAddr, node: &str| {
        let slice = json!({
            "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": address.port()}],
            "endpoints": [{"addresses": [address.ip()], "nodeName": node}],
        });
        Arc::new(serde_json::from_value(slice).unwrap())
    };
    let slices = layout.here.then(|| slice(here, "here")).into_iter();
    let slices: Vec<_> = slices.chain(layout.there.then(|| slice(there, "there"))).collect();
    let services = [Arc::new(serde_json::from_value(service).unwrap())];
    Tables::build(&Objects { services: &services, endpoint_slices: &slices, ..Objects::default() }, "here")
}

/// What a client is told at port 80 of an address; `None` when nobody says anything.
fn heard_by(client: Client, neighbour: &Neighbour, to: Ipv4Addr) -> Option<String> {
    let to = SocketAddr::new(to.into(), 80);
    let said = match client {
        Client::Host => hear(to),
        Client::Pod => neighbour.run(move || hear_from(POD, to)),
        Client::Outside => neighbour.run(move || hear_from(THERE, to)),
    };
    said.ok()
}

/// Replaces the tables, and waits until the kernel knows them: it learns of a port that opens after them.
async fn settle(network: &Network, tables: Tables, port: u16) {
    network.update(tables);
    let _marker = network.bind_http(&pod(200), port, Arc::new(Hello)).unwrap();
    once_open(&format!("10.64.0.200:{port}")).await;
}

pub fn every_combination_leads_where_it_should() {
    let neighbour = Neighbour::new();
    neighbour.add_address(POD);
    let listener = neighbour.run(|| TcpListener::bind((THERE, 0)).unwrap());
    let there = listener.local_addr().unwrap();
    block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let saying_there = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(say(stream, "there"));
            }
        });
        let network = network();
        let served = Served::start(&network).await;
        let here = network.bind_tcp(&pod(2), 8080).await.unwrap();
        let address = here.local_addr();
        let saying = tokio::spawn(async move {
            while let Ok(incoming) = here.accept().await {
                tokio::spawn(say(incoming.stream, "here"));
            }
        });
        let (begun, mut checked, mut port) = (Instant::now(), 0_u32, 1_000);
        for (spec, layout) in specs().iter().flat_map(|spec| LAYOUTS.map(|layout| (spec, layout))) {
            port += 1;
            settle(&network, tables(spec, "VIP", layout, address, there), port).await;
            let tries = if spec["sessionAffinity"] == "ClientIP" { 3 } else { 1 };
            let clients = [Client::Host, Client::Pod, Client::Outside];
            for (client, to) in clients.iter().flat_map(|client| [CLUSTER, EXTERNAL, BALANCER].map(|to| (*client, to)))
            {
                let expected = expected(spec, layout, client, to);
                let heard: Vec<Option<String>> = (0..tries).map(|_| heard_by(client, &neighbour, to)).collect();
                let what = format!("{client:?} to {to} with {layout:?}, {spec}: {heard:?}, not {expected:?}");
                for said in &heard {
                    match said {
                        Some(said) => assert!(expected.contains(said.as_str()), "{what}"),
                        None => assert!(expected.is_empty(), "{what}"),
                    }
                }
                assert!(heard.iter().all(|said| *said == heard[0]), "{what}");
                checked += 1;
            }
        }
        // A balancer that wants to see every connection has its address for itself.
        settle(&network, tables(&specs()[0], "Proxy", LAYOUTS[3], address, there), port + 1).await;
        assert_eq!(heard_by(Client::Host, &neighbour, BALANCER), None);
        assert!(heard_by(Client::Host, &neighbour, EXTERNAL).is_some());
        eprintln!("{checked} combinations in {:?}", begun.elapsed());
        saying.abort();
        saying_there.abort();
        served.stop().await;
    });
}
