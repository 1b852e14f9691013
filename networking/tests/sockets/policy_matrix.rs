//! NetworkPolicies by what pods call: every value of every field in both directions, by connections, datagrams and calls of
//! components, compared with what the API reference says of objects as they are written.

#[path = "../../src/policy/tests/model.rs"]
mod model;
#[path = "../../src/policy/tests/values.rs"]
mod values;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::Response;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8w_networking::{Network, Objects, Origin, PodIdentity, Protocol, Refused, Tables, policy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use self::model::{Actor, namespaces};
use self::values::{ALLOWED_PORTS, PEERS, directions};
use crate::harness::*;
use crate::ways::{Listening, Way, hear, hear_stream, listen};

/// Who there is: pods of this node in two namespaces, two hosts, a client outside of the cluster, one of the ingress, and cluster
/// DNS.
const ACTORS: &str = r"
- {name: web, namespace: a, uid: web, ip: 10.64.0.2, labels: {app: web}, ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]}
- {name: friend, namespace: a, uid: friend, ip: 10.64.0.3, labels: {app: friend}, ports: [{name: http, containerPort: 9000}]}
- {name: stranger, namespace: b, uid: stranger, ip: 10.64.0.4, labels: {app: friend, tier: back}, ports: [{name: dns, containerPort: 53}]}
- {name: host, ip: 127.0.0.1}
- {name: other-host, ip: 127.0.0.2}
- {name: client, ip: 192.0.2.7}
- {name: ingress, namespace: kube-system, ip: 198.51.100.1, labels: {app.kubernetes.io/name: k8w-ingress}}
- {name: dns, namespace: kube-system, ip: 10.96.0.10, labels: {k8s-app: kube-dns}}
";

/// Ports of every pod.
const PORTS: [u16; 4] = [53, 80, 8080, 9000];
/// The port of a host's Service.
const HOST_SERVICE_PORT: u16 = 80;

impl Actor {
    fn is_pod(&self) -> bool {
        !self.uid.is_empty()
    }

    fn is_host(&self) -> bool {
        self.ip.is_loopback()
    }

    /// The Service that leads to it alone.
    fn service(&self) -> Ipv4Addr {
        let IpAddr::V4(ip) = self.ip else { unreachable!("all are") };
        let [first, .., last] = ip.octets();
        Ipv4Addr::new(10, 96, first, last)
    }
}

fn objects<K: DeserializeOwned>(values: &[Value]) -> Vec<Arc<K>> {
    values.iter().map(|value| Arc::new(serde_json::from_value(value.clone()).unwrap())).collect()
}

/// A node on which every pod listens at every port in one way, and says what its address is.
struct World {
    way: Way,
    network: Arc<Network>,
    actors: Vec<Actor>,
    /// A port that both hosts listen at.
    host_port: u16,
    _pods: Vec<Listening>,
    _hosts: JoinSet<()>,
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
    namespaces: Vec<Arc<Namespace>>,
    pods: Vec<Arc<policy::Pod>>,
}

impl World {
    async fn new(way: Way) -> World {
        let actors: Vec<Actor> = serde_saphyr::from_str(ACTORS).unwrap();
        let network = network();
        let (host_port, hosts) = hosts(way).await;
        let mut listening = Vec::new();
        for pod in actors.iter().filter(|actor| actor.is_pod()).map(Actor::identity) {
            for port in PORTS {
                let at = SocketAddr::new(pod.ip, port).to_string();
                listening.push(listen(&network, way, &pod, port, &at).await);
            }
        }
        let (mut services, mut slices) = (Vec::new(), Vec::new());
        for actor in actors.iter().filter(|actor| actor.is_pod() || actor.is_host()) {
            let ports = if actor.is_pod() { PORTS.to_vec() } else { vec![HOST_SERVICE_PORT] };
            let target = |port| if actor.is_pod() { port } else { host_port };
            let named = |name: &u16, number: u16| json!({"name": format!("p{name}"), "port": number, "protocol": way.protocol()});
            services.push(json!({
                "metadata": {"namespace": "default", "name": actor.name},
                "spec": {"clusterIPs": [actor.service()], "ports": ports.iter().map(|port| named(port, *port)).collect::<Vec<_>>()},
            }));
            slices.push(json!({
                "metadata": {"namespace": "default", "labels": {"kubernetes.io/service-name": actor.name}},
                "addressType": "IPv4",
                "ports": ports.iter().map(|port| named(port, target(*port))).collect::<Vec<_>>(),
                "endpoints": [{"addresses": [actor.ip]}],
            }));
        }
        let pods: Vec<Value> = actors.iter().filter_map(Actor::object).collect();
        let pods = objects::<Pod>(&pods).iter().map(|pod| Arc::new(policy::Pod::of(pod).unwrap())).collect();
        World {
            way,
            network,
            actors,
            host_port,
            _pods: listening,
            _hosts: hosts,
            services: objects(&services),
            slices: objects(&slices),
            namespaces: objects(&namespaces()),
            pods,
        }
    }

    /// Asks about every pair of ends, and every port and address of the second one.
    async fn check(&self, policies: &[Value]) -> usize {
        let objects = Objects {
            services: &self.services,
            endpoint_slices: &self.slices,
            network_policies: &objects(policies),
            namespaces: &self.namespaces,
            pods: &self.pods,
            ..Objects::default()
        };
        self.network.update(Tables::build(&objects, "here"));
        let mut asked = 0;
        for from in self.actors.iter().filter(|from| !from.is_host()) {
            for to in self.actors.iter().filter(|to| to.is_pod() || to.is_host()) {
                for (dialled, real) in self.addresses(to) {
                    let heard = match (from.is_pod(), to.is_pod(), self.way) {
                        (true, ..) => hear(&self.network, self.way, &from.identity(), dialled).await,
                        (false, true, Way::Tcp | Way::Http) if dialled != real && from.name != "dns" => {
                            self.hear_outside(from, dialled).await
                        }
                        _ => continue,
                    };
                    let allowed = model::allows(policies, from, to, real.port(), self.way.protocol());
                    let what = format!("{:?} {} -> {} by {dialled} with {policies:#?}", self.way, from.name, to.name);
                    assert_eq!(heard, allowed.then(|| real.to_string()), "{what}");
                    asked += 1;
                }
            }
            if from.is_pod() {
                let dns = self.actors.iter().find(|actor| actor.name == "dns").unwrap();
                let may = ["UDP", "TCP"].iter().any(|protocol| model::allows(policies, from, dns, 53, protocol));
                assert_eq!(self.network.may_resolve(&from.identity()), may, "{} with {policies:#?}", from.name);
            }
        }
        asked
    }

    /// What one can dial to reach somebody, and where that leads.
    fn addresses(&self, to: &Actor) -> Vec<(SocketAddr, SocketAddr)> {
        let at = |port| SocketAddr::new(to.ip, port);
        if to.is_host() {
            // A pod that dials such an address itself means its own loopback.
            return vec![((to.service(), HOST_SERVICE_PORT).into(), at(self.host_port))];
        }
        PORTS.iter().flat_map(|port| [(at(*port), at(*port)), ((to.service(), *port).into(), at(*port))]).collect()
    }

    /// What a client that is no pod hears by the Service's address.
    async fn hear_outside(&self, from: &Actor, dialled: SocketAddr) -> Option<String> {
        let origin = if from.name == "ingress" { Origin::Ingress(from.ip) } else { Origin::Outside(from.ip) };
        let tables = self.network.tables();
        let endpoint = match self.network.select_of(tables.virtual_port(dialled, Protocol::Tcp).unwrap(), origin) {
            Ok(endpoint) => endpoint,
            Err(Refused::NotAllowed(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        let stream = self.network.open(origin, endpoint).await.unwrap();
        Some(hear_stream(self.way, stream, from.ip).await)
    }
}

/// Servers of both hosts, at one port that is free on both.
async fn hosts(way: Way) -> (u16, JoinSet<()>) {
    const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
    for _ in 0..100 {
        let mut serving = JoinSet::new();
        let mut port = 0;
        for host in HOSTS {
            let served = match way {
                Way::Udp => UdpSocket::bind((host, port)).await.and_then(|socket| {
                    port = socket.local_addr()?.port();
                    serving.spawn(say_by_datagrams(socket));
                    Ok(())
                }),
                Way::Tcp | Way::Http => TcpListener::bind((host, port)).await.and_then(|listener| {
                    port = listener.local_addr()?.port();
                    serving.spawn(say(listener, way));
                    Ok(())
                }),
            };
            if served.is_err() {
                port = 0;
                break;
            }
        }
        if port != 0 {
            return (port, serving);
        }
    }
    panic!("no port is free on both hosts");
}

async fn say(listener: TcpListener, way: Way) {
    let address = listener.local_addr().unwrap().to_string();
    while let Ok((mut socket, _)) = listener.accept().await {
        let address = address.clone();
        tokio::spawn(async move {
            if way == Way::Tcp {
                // A client that is gone has heard enough.
                let _ = socket.write_all(address.as_bytes()).await;
                return;
            }
            let answer = move |_, _| {
                let address = address.clone();
                async move { Response::new(full(address)) }
            };
            serve(socket, 0, answer).await;
        });
    }
}

async fn say_by_datagrams(socket: UdpSocket) {
    let (address, mut buffer) = (socket.local_addr().unwrap().to_string(), [0; 64]);
    while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
        socket.send_to(address.as_bytes(), peer).await.unwrap();
    }
}

/// A list of nothing, one that is not there, and each value alone.
fn lists(table: &[(&str, &[&str])]) -> Vec<Value> {
    let alone = values::values(table).into_iter().map(|value| json!([value]));
    [Value::Null, json!([])].into_iter().chain(alone).collect()
}

/// The object without what is null: a field that is not there.
fn without_nulls(mut object: Value) -> Value {
    match &mut object {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(|value| *value = without_nulls(value.take()));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = without_nulls(item.take())),
        _ => {}
    }
    object
}

/// Every value of a peer with every value of a port, in either direction, for some pods of a namespace and for all of them; and
/// every value of `policyTypes` with rules of every shape in both directions.
fn specs() -> Vec<Value> {
    let mut specs = Vec::new();
    for (peers, ports) in
        lists(&PEERS).iter().flat_map(|peers| lists(&ALLOWED_PORTS).into_iter().map(move |ports| (peers, ports)))
    {
        for spec in directions(peers, &ports) {
            for selector in [json!({}), json!({"matchLabels": {"app": "web"}})] {
                let mut spec = without_nulls(spec.clone());
                spec["podSelector"] = selector;
                specs.push(spec);
            }
        }
    }
    let types = [Value::Null, json!([]), json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])];
    let rule = |peers: &str| json!([{peers: [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": 8080}]}]);
    let shapes = |peers| [Value::Null, json!([]), json!([{}]), rule(peers)];
    for types in &types {
        for ingress in shapes("from") {
            for egress in shapes("to") {
                let spec = json!({"podSelector": {}, "policyTypes": types, "ingress": ingress, "egress": egress});
                specs.push(without_nulls(spec));
            }
        }
    }
    specs
}

async fn every_policy(way: Way) {
    let world = World::new(way).await;
    let (mut asked, specs) = (world.check(&[]).await, specs());
    for spec in &specs {
        asked += world.check(&[model::policy("a", spec.clone())]).await;
    }
    eprintln!("{} policies, {asked} questions", specs.len());
}

#[tokio::test]
async fn connections_are_made_where_every_policy_allows_it() {
    every_policy(Way::Tcp).await;
}

#[tokio::test]
async fn components_are_called_where_every_policy_allows_it() {
    every_policy(Way::Http).await;
}

#[tokio::test]
async fn datagrams_arrive_where_every_policy_allows_it() {
    every_policy(Way::Udp).await;
}
