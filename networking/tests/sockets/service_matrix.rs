//! Services by what pods call: every case that is generated (`cases/services.rs`), on two nodes.

use std::net::IpAddr;
use std::sync::Arc;

use k8w_networking::peers::Node;
use k8w_networking::{Network, Objects, Origin, PodIdentity, Protocol, Tables};
use serde_json::Value;

use crate::cases::Way;
use crate::cases::services::{
    CLIENT, LAYOUTS, NODE_PORT, OTHER, PODS, PORTS, Where, hear_all, ip_of, is_here, meaning, questions, specs, tables,
};
use crate::harness::*;
use crate::peers::{Ca, There, here, there};
use crate::ways::{Listening, hear, hear_of, hear_stream, listen};

/// A client outside of the cluster.
const OUTSIDE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

fn identity(name: &str, ip: IpAddr) -> PodIdentity {
    PodIdentity { name: name.into(), uid: name.into(), ip, ..pod(0) }
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
        for (port, suffix) in PORTS {
            for (name, ..) in PODS {
                let network = if is_here(name) { &network } else { &far.network };
                let word = format!("{name}{suffix}");
                pods.push(listen(network, way, &identity(name, ip_of(name)), port, &word).await);
            }
            pods.push(listen(&network, way, &identity("other", OTHER), port, "other").await);
        }
        let zone = |node: Node, zone: &str| Arc::new(Node { zone: Some(zone.into()), ..node });
        let nodes = vec![zone(here(), "a"), zone(far.node.clone(), "b")];
        far.network.update(Tables::build(&Objects { nodes: &nodes, ..Objects::default() }, "there"));
        Bench { way, network, far, nodes, _pods: pods }
    }

    /// Asks at every address of the Service, from a pod and from outside.
    async fn check(&self, spec: &Value, layout: &[&str]) -> usize {
        self.network.update(tables(spec, layout, self.way, &self.nodes));
        let client = identity("client", CLIENT);
        let what = format!("{:?} with {layout:?}, {spec}", self.way);
        assert_eq!(self.network.lookup_host("default", "web"), meaning(spec, layout), "{what}");
        let questions = questions(spec, layout, self.way);
        for question in &questions {
            let ask = async || match &question.to {
                Where::At(at) => hear(&self.network, self.way, &client, *at).await,
                Where::Uri(uri) => hear_of(&self.network, &client, uri).await,
                Where::NodePort => self.hear_outside().await,
            };
            hear_all(question, &format!("{:?}, {what}", question.to), ask).await;
        }
        questions.len()
    }

    /// What a client outside hears by a port of this node.
    async fn hear_outside(&self) -> Option<String> {
        let (origin, tables) = (Origin::Outside(OUTSIDE), self.network.tables());
        let endpoint = self.network.select_of(tables.node_port(NODE_PORT, Protocol::Tcp).unwrap(), origin).ok()?;
        let stream = self.network.open(origin, endpoint).await.unwrap();
        Some(hear_stream(self.way, stream, OUTSIDE).await)
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
