//! Just enough of an API server for one node: pods, what they refer to, and whatever else is written.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::stream;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use k8w_networking::Body;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;

/// Objects by path, such as `/api/v1/namespaces/ns/pods/p`.
#[derive(Clone)]
pub struct FakeApi {
    objects: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Every change of an object: what watches replay.
    log: Arc<watch::Sender<Vec<(String, Value)>>>,
    /// Nothing is answered, as if there were no API server.
    is_down: Arc<AtomicBool>,
    /// How many service account tokens there have been.
    tokens: Arc<AtomicUsize>,
    /// How many patches there have been of what is not there.
    refused_patches: Arc<AtomicUsize>,
}

impl FakeApi {
    pub fn new() -> FakeApi {
        FakeApi {
            objects: Arc::default(),
            log: Arc::new(watch::channel(Vec::new()).0),
            is_down: Arc::default(),
            tokens: Arc::default(),
            refused_patches: Arc::default(),
        }
    }

    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::Relaxed);
    }

    /// Creates or replaces an object.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut objects = self.objects.lock().unwrap();
        let kind = if objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        self.log.send_modify(|log| {
            object["metadata"]["resourceVersion"] = json!((log.len() + 1).to_string());
            if object["metadata"].get("uid").is_none() {
                object["metadata"]["uid"] = json!(format!("uid-{}", log.len()));
            }
            objects.insert(path.to_owned(), object.clone());
            log.push((path.to_owned(), json!({ "type": kind, "object": object })));
        });
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    /// Waits until an object (null when it is not there) is as wanted.
    pub async fn wait(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut changes = self.log.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                let object = self.get(path).unwrap_or_default();
                if wanted(&object) {
                    return object;
                }
                changes.changed().await.unwrap();
            }
        };
        let limit = std::time::Duration::from_secs(20);
        let found = tokio::time::timeout(limit, waiting).await;
        found.unwrap_or_else(|_| panic!("{path} did not become as wanted: {:#?}", self.get(path)))
    }

    /// Waits until an event was written for this reason, with this message.
    pub async fn wait_event(&self, reason: &str, message: &str) {
        let written = |(path, change): &(String, Value)| {
            let event = &change["object"];
            path.contains("/events/") && event["reason"] == reason && event["message"] == message
        };
        let mut changes = self.log.subscribe();
        let limit = std::time::Duration::from_secs(20);
        let found = tokio::time::timeout(limit, changes.wait_for(|log| log.iter().any(written))).await;
        assert!(found.is_ok(), "no event {reason}: {message}");
    }

    /// Reasons of the Events about a pod, in the order in which they were written.
    pub fn events(&self) -> Vec<String> {
        let created = self.log.borrow();
        let events = created.iter().filter(|(path, change)| path.contains("/events/") && change["type"] == "ADDED");
        events.map(|(_, change)| change["object"]["reason"].as_str().unwrap().to_owned()).collect()
    }

    pub fn remove(&self, path: &str) -> Option<Value> {
        let mut objects = self.objects.lock().unwrap();
        let object = objects.remove(path)?;
        self.log.send_modify(|log| log.push((path.to_owned(), json!({ "type": "DELETED", "object": object }))));
        Some(object)
    }

    /// Takes an object away of which no watch tells.
    pub fn lose(&self, path: &str) {
        self.objects.lock().unwrap().remove(path);
    }

    pub async fn wait_for_refused_patch(&self) {
        let refused = async {
            while self.refused_patches() == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), refused).await.expect("nothing was patched");
    }

    pub fn refused_patches(&self) -> usize {
        self.refused_patches.load(Ordering::Relaxed)
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default();
        let object_path = path.trim_end_matches("/status").to_owned();
        if self.is_down.load(Ordering::Relaxed) {
            return Response::builder()
                .status(StatusCode::BAD_GATEWAY)
                .body(Empty::new().map_err(|n| match n {}).boxed_unsync())
                .unwrap();
        }
        match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&path, query),
            Method::GET if is_collection(&path) => self.list(&path, query),
            Method::GET => found(self.get(&path)),
            Method::POST if path.ends_with("/token") => {
                // Each is another, and lives as long as was asked for.
                let seconds = body["spec"]["expirationSeconds"].as_i64().unwrap();
                let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
                let token = format!("token-{}", self.tokens.fetch_add(1, Ordering::Relaxed));
                found(Some(json!({ "metadata": {}, "spec": { "audiences": [] },
                    "status": { "token": token, "expirationTimestamp": ends.to_string() } })))
            }
            Method::POST => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                self.put(&path, body);
                found(self.get(&path))
            }
            Method::PATCH => {
                let Some(mut object) = self.get(&object_path) else {
                    self.refused_patches.fetch_add(1, Ordering::Relaxed);
                    return found(None);
                };
                merge(&mut object, &body);
                self.put(&object_path, object);
                found(self.get(&object_path))
            }
            Method::DELETE => found(self.remove(&path)),
            _ => found(None),
        }
    }

    fn list(&self, path: &str, query: &str) -> Response<Body> {
        let objects = self.objects.lock().unwrap();
        let items: Vec<&Value> = objects
            .iter()
            .filter(|(key, object)| selects(path, query, key, object))
            .map(|(_, object)| object)
            .collect();
        let version = self.log.borrow().len().to_string();
        json_answer(
            &json!({ "kind": "List", "apiVersion": "v1", "metadata": { "resourceVersion": version }, "items": items }),
        )
    }

    fn watch(&self, path: &str, query: &str) -> Response<Body> {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let since: usize = since.and_then(|since| since.parse().ok()).unwrap_or(0);
        let (path, query) = (path.to_owned(), query.to_owned());
        let frames = stream::unfold((self.log.subscribe(), since), move |(mut log, mut at)| {
            let (path, query) = (path.clone(), query.clone());
            async move {
                loop {
                    let next = log.borrow_and_update().get(at).cloned();
                    match next {
                        Some((key, change)) => {
                            at += 1;
                            if selects(&path, &query, &key, &change["object"]) {
                                let line = Bytes::from(change.to_string() + "\n");
                                return Some((Ok(Frame::data(line)), (log, at)));
                            }
                        }
                        None => log.changed().await.ok()?,
                    }
                }
            }
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

/// `/api/v1/pods` and `/api/v1/namespaces/ns/pods`, but not `/api/v1/nodes/n`.
fn is_collection(path: &str) -> bool {
    let parts = path.trim_start_matches('/').split('/').skip_while(|part| *part != "v1").skip(1).collect::<Vec<_>>();
    parts.len() == 1 || (parts.len() == 3 && parts[0] == "namespaces")
}

fn selects(path: &str, query: &str, key: &str, object: &Value) -> bool {
    let resource = path.rsplit('/').next().unwrap();
    let Some((collection, _)) = key.rsplit_once('/') else { return false };
    let here =
        if path.contains("/namespaces/") { collection == path } else { collection.ends_with(&format!("/{resource}")) };
    let name = query.split('&').find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
    here && name.is_none_or(|name| object["metadata"]["name"] == *name)
}

/// A merge patch, but for conditions, which merge by type.
fn merge(into: &mut Value, patch: &Value) {
    let (Value::Object(into), Value::Object(patch)) = (&mut *into, patch) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        match (into.get_mut(key), value) {
            (_, Value::Null) => {
                into.remove(key);
            }
            (Some(Value::Array(old)), Value::Array(new)) if key == "conditions" => {
                for condition in new {
                    if condition["$patch"] == "delete" {
                        old.retain(|old| old["type"] != condition["type"]);
                        continue;
                    }
                    match old.iter_mut().find(|old| old["type"] == condition["type"]) {
                        Some(old) => merge(old, condition),
                        None => old.push(condition.clone()),
                    }
                }
            }
            (Some(old @ Value::Object(_)), Value::Object(_)) => merge(old, value),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

fn found(object: Option<Value>) -> Response<Body> {
    match object {
        Some(object) => json_answer(&object),
        None => {
            let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound",
                "message": "not found", "code": 404 });
            let mut answer = json_answer(&status);
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
        }
    }
}

fn json_answer(value: &Value) -> Response<Body> {
    let body = Full::from(value.to_string()).map_err(|never: Infallible| match never {}).boxed_unsync();
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}
