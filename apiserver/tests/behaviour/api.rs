//! A client for tests.

use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, BodyStream};
use k8w_apiserver::identity::Attributes;
use k8w_apiserver::plugins::{Authorizer, Decision};
use k8w_apiserver::{ApiServer, Body, Config, Peer, Plugins, UserInfo};
use k8w_storage::datastore::Datastore;
use k8w_storage::datastore::memory::Memory;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a test waits for an event that must come.
const EVENT_WAIT_MS: u64 = 10_000;

struct Everything;

impl Authorizer for Everything {
    fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

/// An API server of the test's own.
pub struct Api {
    pub server: Arc<ApiServer>,
    pub datastore: Arc<dyn Datastore>,
    peer: Peer,
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(self.code < 300, "{}: {}", self.code, String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// Code, reason and message of a failure.
    #[track_caller]
    pub fn error(&self) -> (u16, String, String) {
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["status"], "Failure", "{status}");
        assert_eq!(status["code"], self.code);
        let text = |field: &str| status[field].as_str().unwrap_or_default().to_string();
        (self.code, text("reason"), text("message"))
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
    }
}

impl Api {
    pub async fn new() -> Self {
        Self::on(Arc::new(Memory::new())).await
    }

    pub async fn on(datastore: Arc<dyn Datastore>) -> Self {
        let plugins = Plugins { authorizers: vec![Arc::new(Everything)], ..Plugins::default() };
        let server = ApiServer::start_with(Config::default(), datastore.clone(), plugins).await.unwrap();
        let peer = Peer::in_process(UserInfo { name: "tester".into(), ..UserInfo::default() });
        Api { server, datastore, peer }
    }

    /// Who this client is.
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.server.handle(request, self.peer()).await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { code: parts.status.as_u16(), headers: parts.headers, body }
    }

    async fn with_body(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Reply {
        let request = Request::builder().method(method).uri(path).header("content-type", content_type);
        self.send(request.header("user-agent", "test/1").body(Body::from(body.to_string())).unwrap()).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(path).body(Body::Empty).unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.with_body("POST", path, "application/json", body).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.with_body("PUT", path, "application/json", body).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Request::delete(path).body(Body::Empty).unwrap()).await
    }

    pub async fn delete_with(&self, path: &str, options: &Value) -> Reply {
        self.with_body("DELETE", path, "application/json", options).await
    }

    /// `format` is `json`, `merge` or `strategic-merge`.
    pub async fn patch(&self, format: &str, path: &str, patch: &Value) -> Reply {
        self.with_body("PATCH", path, &format!("application/{format}-patch+json"), patch).await
    }

    pub async fn apply(&self, path: &str, config: &Value) -> Reply {
        self.with_body("PATCH", path, "application/apply-patch+yaml", config).await
    }

    /// A ConfigMap in `default`.
    pub async fn config_map(&self, name: &str, data: &str) -> Value {
        self.post(CONFIG_MAPS, &config_map(name, data)).await.ok()
    }

    pub async fn watch(&self, path: &str) -> Watch {
        let request = Request::get(path).body(Body::Empty).unwrap();
        let response = self.server.handle(request, self.peer()).await;
        assert_eq!(response.status(), 200);
        Watch { body: BodyStream::new(response.into_body()), lines: Vec::new() }
    }
}

pub const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn config_map(name: &str, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"key": data}})
}

pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "localhost/c:latest"}]},
    })
}

pub fn deployment(name: &str, replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "c", "image": "localhost/c:latest"}]},
            },
        },
    })
}

pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

pub fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

/// An open watch.
pub struct Watch {
    body: BodyStream<Body>,
    lines: Vec<Value>,
}

impl Watch {
    /// The next event; `None` when the server ended the watch.
    pub async fn next(&mut self) -> Option<Value> {
        while self.lines.is_empty() {
            let frame = tokio::time::timeout(Duration::from_millis(EVENT_WAIT_MS), self.body.next());
            let frame = frame.await.expect("no event came in time")?;
            let bytes = frame.unwrap().into_data().unwrap();
            self.lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect();
        }
        Some(self.lines.remove(0))
    }

    /// Type and name of the next event.
    pub async fn event(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch ended");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }

    /// Types and names of the next events.
    pub async fn expect(&mut self, events: &[(&str, &str)]) {
        for (event, name) in events {
            assert_eq!(self.event().await, (event.to_string(), name.to_string()));
        }
    }
}

fn parse(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap()
}
