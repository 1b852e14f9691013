//! NetworkPolicies: every value of every field in both directions, between everybody and everybody, with what the API reference says
//! of objects as they are written.

#[path = "../../src/policy/tests/model.rs"]
pub mod model;
#[path = "../../src/policy/tests/values.rs"]
mod values;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8w_networking::{Objects, PodIdentity, Tables, policy};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use self::model::{Actor, namespaces};
use self::values::{ALLOWED_PORTS, PEERS, directions};
use super::Way;

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
pub const PORTS: [u16; 4] = [53, 80, 8080, 9000];
/// The port of a host's Service.
const HOST_SERVICE_PORT: u16 = 80;

impl Actor {
    pub fn is_pod(&self) -> bool {
        !self.uid.is_empty()
    }

    pub fn is_host(&self) -> bool {
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

/// Everybody, and what the tables know beside policies.
pub struct Cases {
    way: Way,
    pub actors: Vec<Actor>,
    host_port: u16,
    services: Vec<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
    namespaces: Vec<Arc<Namespace>>,
    pods: Vec<Arc<policy::Pod>>,
}

/// What somebody asks another one.
pub struct Question<'a> {
    pub to: &'a Actor,
    pub dialled: SocketAddr,
    /// Where that leads.
    pub real: SocketAddr,
    /// Who is heard, as everybody says its address; nobody where a policy does not allow it.
    pub expected: Option<String>,
}

impl Cases {
    /// Among them both hosts listen at a port of this machine.
    pub fn new(way: Way, host_port: u16) -> Cases {
        let actors: Vec<Actor> = serde_saphyr::from_str(ACTORS).unwrap();
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
        let (services, slices, namespaces) = (objects(&services), objects(&slices), objects(&namespaces()));
        Cases { way, actors, host_port, services, slices, namespaces, pods }
    }

    /// The tables with these policies.
    pub fn tables(&self, policies: &[Value]) -> Tables {
        let objects = Objects {
            services: &self.services,
            endpoint_slices: &self.slices,
            network_policies: &objects(policies),
            namespaces: &self.namespaces,
            pods: &self.pods,
            ..Objects::default()
        };
        Tables::build(&objects, "here")
    }

    /// Every port and address of everybody who can be asked.
    pub fn questions<'a>(&'a self, policies: &'a [Value], from: &'a Actor) -> impl Iterator<Item = Question<'a>> {
        let asked = self.actors.iter().filter(|to| to.is_pod() || to.is_host());
        asked.flat_map(move |to| {
            self.addresses(to).into_iter().map(move |(dialled, real)| {
                let allowed = model::allows(policies, from, to, real.port(), self.way.protocol());
                Question { to, dialled, real, expected: allowed.then(|| real.to_string()) }
            })
        })
    }

    /// Whether a pod may ask cluster DNS.
    pub fn may_resolve(&self, policies: &[Value], from: &Actor) -> bool {
        let dns = self.actors.iter().find(|actor| actor.name == "dns").unwrap();
        ["UDP", "TCP"].iter().any(|protocol| model::allows(policies, from, dns, 53, protocol))
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
}

/// Servers of both hosts, at one port that is free on both.
pub async fn hosts(way: Way) -> (u16, JoinSet<()>) {
    const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
    for _ in 0..100 {
        let (mut serving, mut port) = (JoinSet::new(), 0);
        for host in HOSTS {
            port = match serve((host, port).into(), way, &mut serving).await {
                Ok(port) => port,
                Err(_) => break,
            };
        }
        if serving.len() == HOSTS.len() {
            return (port, serving);
        }
    }
    panic!("no port is free on both hosts");
}

async fn serve(at: SocketAddr, way: Way, serving: &mut JoinSet<()>) -> io::Result<u16> {
    let at = match way {
        Way::Udp => {
            let socket = UdpSocket::bind(at).await?;
            let at = socket.local_addr()?;
            serving.spawn(say_by_datagrams(socket, at.to_string()));
            at
        }
        Way::Tcp | Way::Http => {
            let listener = TcpListener::bind(at).await?;
            let at = listener.local_addr()?;
            serving.spawn(say(listener, at.to_string(), way));
            at
        }
    };
    Ok(at.port())
}

async fn say(listener: TcpListener, word: String, way: Way) {
    while let Ok((mut socket, _)) = listener.accept().await {
        let word = word.clone();
        // A client that is gone has heard enough.
        tokio::spawn(async move {
            match way {
                Way::Http => answer(&mut socket, &word).await,
                _ => socket.write_all(word.as_bytes()).await,
            }
        });
    }
}

/// Answers one request, which has no body.
async fn answer(socket: &mut TcpStream, word: &str) -> io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(socket.read_u8().await?);
    }
    let length = word.len();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{word}");
    socket.write_all(answer.as_bytes()).await
}

async fn say_by_datagrams(socket: UdpSocket, word: String) {
    let mut buffer = [0; 64];
    while let Ok((_, peer)) = socket.recv_from(&mut buffer).await {
        socket.send_to(word.as_bytes(), peer).await.unwrap();
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
pub fn specs() -> Vec<Value> {
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
