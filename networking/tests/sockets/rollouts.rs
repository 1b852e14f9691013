//! Pods that stop before the tables know: on another node, where only that node can say so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use http::{Request, StatusCode};
use k8w_networking::{Body, Network, ingress};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::harness::*;
use crate::node_ports::{connect, free_port, start};
use crate::peers::{Ca, There, between, far_pod, here, there};

fn service() -> SocketAddr {
    "10.96.0.9:80".parse().unwrap()
}

/// A node and its ingress, beside a node whose pod 3 answers.
struct Fixture {
    network: Arc<Network>,
    there: There,
    answering: SocketAddr,
    ingress: SocketAddr,
    _kept: (k8w_networking::Registration, DropGuard),
}

async fn fixture() -> Fixture {
    let ca = Ca::new();
    let (network, there) = (network(), there(&ca, "there").await);
    network.connect_peers(ca.tls("here").0);
    there.network.update(Cluster::default().node(here()).tables_of("there"));
    let (answering, registration) = describing(&there.network, &far_pod(3));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (ingress, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    tokio::spawn(ingress::serve(network.clone(), ingress::Config::default(), Some(listener), None, stop.clone()));
    Fixture { network, there, answering, ingress, _kept: (registration, stop.drop_guard()) }
}

/// A port of a pod that listens no more.
fn stopped(last: u8) -> SocketAddr {
    SocketAddr::new(far_pod(last).ip, 8080)
}

fn post(uri: &str) -> Request<Body> {
    Request::post(uri).header("host", "host").body(full("two, please")).unwrap()
}

impl Fixture {
    fn cluster(&self, node_port: Option<u16>, endpoints: &[SocketAddr]) -> Cluster {
        Cluster::default().service("web", "10.96.0.9", node_port, endpoints).ingress("host", "web")
    }

    /// Asks once by each way that a client has, at the same time.
    async fn ask(&self, node_port: Option<u16>) {
        let answered = |(status, answer): (StatusCode, String), way: &str| {
            assert_eq!(status, StatusCode::OK, "{way}: {answer}");
            assert!(answer.starts_with("pod-3: POST /x\n") && answer.ends_with("two, please"), "{way}: {answer}");
        };
        let by_ingress = async {
            answered(read(Client::connect(self.ingress).await.send(post("/x")).await).await, "ingress");
        };
        let by_request = async {
            let sent = self.network.send(Some(&pod(5)), post("http://web/x")).await;
            answered(read(sent.unwrap_or_else(|error| panic!("{error}"))).await, "request of a pod");
        };
        let by_connection = async {
            let from = pod(5);
            let stream = self.network.connect(Some(&from), service()).await.unwrap();
            answered(read(Client::over(stream).await.send(post("/x")).await).await, "connection of a pod");
        };
        let by_node_port = async {
            if let Some(port) = node_port {
                answered(read(Client::over(connect(port).await).await.send(post("/x")).await).await, "node port");
            }
        };
        tokio::join!(by_ingress, by_request, by_connection, by_node_port);
    }
}

#[tokio::test]
async fn what_a_stopped_pod_of_another_node_did_not_take_goes_to_another() {
    let fixture = fixture().await;
    let (_failures, _stop) = start(&fixture.network);
    let port = free_port().await;
    for protocol in ["http", "kubernetes.io/h2c"] {
        let cluster = fixture.cluster(Some(port), &[stopped(2), fixture.answering, stopped(4)]).app_protocol(protocol);
        fixture.network.update(cluster.node(fixture.there.node.clone()).tables());
        // The choice is random.
        for _ in 0..10 {
            fixture.ask(Some(port)).await;
        }
    }
}

#[tokio::test]
async fn a_successor_is_waited_for_that_the_tables_will_know_in_a_moment() {
    let fixture = fixture().await;
    let between = between(&fixture.there.node).await;
    let tables = |endpoint| fixture.cluster(None, &[endpoint]).node(between.node.clone()).tables();
    fixture.network.update(tables(stopped(2)));
    let asked = fixture.ask(None);
    let known = async {
        // By then, somebody has asked the other node.
        while between.connections.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        fixture.network.update(tables(fixture.answering));
    };
    tokio::join!(asked, known);
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_leave_the_choice_to_others() {
    let fixture = fixture().await;
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let gone = k8w_networking::peers::Node {
        name: "gone".into(),
        zone: None,
        wasm_cidr: "10.64.128.0/18".parse().ok(),
        address: Some(nobody),
    };
    let cluster = fixture.cluster(None, &["10.64.128.2:8080".parse().unwrap(), fixture.answering]);
    fixture.network.update(cluster.node(fixture.there.node.clone()).node(gone).tables());
    for _ in 0..10 {
        fixture.ask(None).await;
    }
}

/// Endpoints that are nobody's pods, of which one listens.
#[tokio::test]
async fn hosts_outside_that_refuse_leave_the_choice_to_others() {
    let fixture = fixture().await;
    let outside = server(|_, request| async move { describe("pod-3", request).await }).await;
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    fixture.network.update(fixture.cluster(None, &[nobody, outside]).tables());
    for _ in 0..10 {
        fixture.ask(None).await;
    }
}

#[tokio::test]
async fn where_all_have_stopped_the_last_answer_counts() {
    let fixture = fixture().await;
    fixture.network.update(fixture.cluster(None, &[stopped(2), stopped(4)]).node(fixture.there.node.clone()).tables());
    let error = fixture.network.connect(Some(&pod(5)), service()).await.unwrap_err();
    assert!(error.to_string().starts_with("nothing listens on 10.64.64."), "{error}");
    let (status, answer) = Client::connect(fixture.ingress).await.get("host", "/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(answer.starts_with("the request to 10.64.64."), "{answer}");
}

/// As with packets: a policy that does not allow the choice leaves no other.
#[tokio::test]
async fn what_a_policy_of_the_other_node_refuses_is_not_tried_elsewhere() {
    let fixture = fixture().await;
    let (closed, _registration) = describing(&fixture.there.network, &far_pod(2));
    let cluster = fixture.cluster(None, &[closed, fixture.answering]);
    fixture.network.update(cluster.node(fixture.there.node.clone()).tables());
    let policy = json!({"podSelector": {"matchLabels": {"pod": "2"}}});
    let policed = Cluster::default().policed_pod(&far_pod(2)).policed_pod(&far_pod(3)).policy(policy);
    fixture.there.network.update(policed.node(here()).tables_of("there"));
    let mut refused = Vec::new();
    for _ in 0..40 {
        refused.extend(fixture.network.connect(Some(&pod(5)), service()).await.err().map(|error| error.to_string()));
    }
    assert!(!refused.is_empty() && refused.len() < 40, "{} were refused", refused.len());
    refused.dedup();
    assert_eq!(refused, [format!("no NetworkPolicy allows a connection to {closed}")]);
}
