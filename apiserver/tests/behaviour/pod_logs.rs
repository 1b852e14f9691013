//! `pods/log`: the API server asks the pod's node and passes on what it says, as it says it.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8w_apiserver::plugins::{ConnectError, NodeConnector};
use k8w_apiserver::{Body, Peer, UserInfo};
use serde_json::json;

use crate::cluster::{As, Cluster};

const LOG: &str = "/api/v1/namespaces/default/pods/p/log";

type Chunk = Result<Frame<Bytes>, std::convert::Infallible>;

type Answer = Result<Response<Body>, ConnectError>;

/// A node that notes what it is asked and answers once.
#[derive(Clone, Default)]
struct Node {
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<Answer>>>,
}

#[async_trait]
impl NodeConnector for Node {
    async fn request(&self, node: &str, request: Request<Body>) -> Answer {
        self.asked.lock().unwrap().push(format!("{node} {}", request.uri()));
        let answer = self.answer.lock().unwrap().take();
        answer.unwrap_or_else(|| Err(ConnectError::UnknownNode(node.to_owned())))
    }
}

/// A pod with the given containers on node `n1`.
async fn cluster(containers: &[&str]) -> (Cluster, Node) {
    let cluster = Cluster::new().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    cluster.make(account).await;
    let containers: Vec<_> = containers.iter().map(|name| json!({"name": name, "image": "x"})).collect();
    let spec = json!({"nodeName": "n1", "containers": containers});
    cluster.make(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})).await;
    let node = Node::default();
    cluster.server.connect_nodes(Box::new(node.clone()));
    (cluster, node)
}

#[tokio::test]
async fn logs_are_streamed_with_all_options() {
    let (cluster, node) = cluster(&["a"]).await;
    let (lines, body) = mpsc::unbounded::<Chunk>();
    *node.answer.lock().unwrap() = Some(Ok(Response::new(Body::stream(StreamBody::new(body)))));
    let path = format!("{LOG}?follow=true&tailLines=5&timestamps=true&sinceSeconds=9&limitBytes=100&previous=false");
    let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
    let request = Request::get(path).body(Body::Empty).unwrap();
    let response = cluster.server.handle(request, Peer::in_process(admin)).await;
    assert_eq!(
        (response.status(), &response.headers()["content-type"]),
        (StatusCode::OK, &"text/plain".parse().unwrap())
    );
    // A line arrives while the log goes on.
    let mut body = response.into_body().into_data_stream();
    for line in ["one\n", "two\n"] {
        lines.unbounded_send(Ok(Frame::data(Bytes::from(line)))).unwrap();
        assert_eq!(body.next().await.unwrap().unwrap(), line);
    }
    drop(lines);
    assert!(body.next().await.is_none());
    let asked = "n1 /containerLogs/default/p/a?follow=true&timestamps=true&sinceSeconds=9&tailLines=5&limitBytes=100";
    assert_eq!(*node.asked.lock().unwrap(), [asked]);
}

#[tokio::test]
async fn a_container_must_be_named_where_there_are_several() {
    let (cluster, node) = cluster(&["a", "b"]).await;
    let error = async |query: &str| cluster.get(As::Admin, &format!("{LOG}{query}")).await.error();
    assert_eq!(
        error("").await,
        (400, "BadRequest".into(), "a container name must be specified for pod p, choose one of: [a b]".into())
    );
    assert_eq!(error("?container=z").await.2, "container z is not valid for pod p");
    assert_eq!(error("?container=a&tailLines=-1").await.0, 422);
    assert!(node.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_the_node_refuses_is_passed_on() {
    let (cluster, node) = cluster(&["a"]).await;
    let refuse = |code: u16, text: &'static str| {
        *node.answer.lock().unwrap() = Some(Ok(Response::builder().status(code).body(Body::from(text)).unwrap()));
    };
    refuse(400, "previous terminated container \"a\" in pod \"p\" not found\n");
    let error = cluster.get(As::Admin, &format!("{LOG}?previous=true")).await.error();
    assert_eq!(error, (400, "BadRequest".into(), "previous terminated container \"a\" in pod \"p\" not found".into()));
    let gone = cluster.get(As::Admin, LOG).await.error();
    assert_eq!(gone, (404, "NotFound".into(), "nodes \"n1\" not found".into()));
    let (address, reason) = ("192.0.2.1:10250".to_owned(), "dial tcp 192.0.2.1:10250: i/o timeout".to_owned());
    *node.answer.lock().unwrap() = Some(Err(ConnectError::Unreachable { address, reason }));
    let why = "Get \"https://192.0.2.1:10250/containerLogs/default/p/a\": dial tcp 192.0.2.1:10250: i/o timeout";
    assert_eq!(cluster.get(As::Admin, LOG).await.error(), (500, String::new(), why.into()));
    assert_eq!(cluster.get(As::Admin, "/api/v1/namespaces/default/pods/q/log").await.error().0, 404);
}
