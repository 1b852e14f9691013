//! NetworkPolicies by what pods call: every case that is generated (`cases/policies.rs`), by connections, datagrams and calls of
//! components.

use std::net::SocketAddr;
use std::sync::Arc;

use k8w_networking::{Network, Origin, Protocol, Refused};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::cases::Way;
use crate::cases::policies::model::{self, Actor};
use crate::cases::policies::{Cases, PORTS, hosts, specs};
use crate::harness::*;
use crate::ways::{Listening, hear, hear_stream, listen};

/// A node on which every pod listens at every port in one way, and says what its address is.
struct World {
    way: Way,
    network: Arc<Network>,
    cases: Cases,
    _pods: Vec<Listening>,
    _hosts: JoinSet<()>,
}

impl World {
    async fn new(way: Way) -> World {
        let network = network();
        let (host_port, hosts) = hosts(way).await;
        let cases = Cases::new(way, host_port);
        let mut listening = Vec::new();
        for pod in cases.actors.iter().filter(|actor| actor.is_pod()).map(Actor::identity) {
            for port in PORTS {
                let at = SocketAddr::new(pod.ip, port).to_string();
                listening.push(listen(&network, way, &pod, port, &at).await);
            }
        }
        World { way, network, cases, _pods: listening, _hosts: hosts }
    }

    /// Asks about every pair of ends, and every port and address of the second one.
    async fn check(&self, policies: &[Value]) -> usize {
        self.network.update(self.cases.tables(policies));
        let mut asked = 0;
        for from in self.cases.actors.iter().filter(|from| !from.is_host()) {
            for question in self.cases.questions(policies, from) {
                let (to, dialled) = (question.to, question.dialled);
                let heard = match (from.is_pod(), to.is_pod(), self.way) {
                    (true, ..) => hear(&self.network, self.way, &from.identity(), dialled).await,
                    (false, true, Way::Tcp | Way::Http) if dialled != question.real && from.name != "dns" => {
                        self.hear_outside(from, dialled).await
                    }
                    _ => continue,
                };
                let what = format!("{:?} {} -> {} by {dialled} with {policies:#?}", self.way, from.name, to.name);
                assert_eq!(heard, question.expected, "{what}");
                asked += 1;
            }
            if from.is_pod() {
                let may = self.cases.may_resolve(policies, from);
                assert_eq!(self.network.may_resolve(&from.identity()), may, "{} with {policies:#?}", from.name);
            }
        }
        asked
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
