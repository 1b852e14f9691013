//! The real object pipeline, from request to watch event, over the memory store: what [`crate::server::Server`] asks. Its
//! clock and its dice are the simulation's.

use std::sync::{Arc, Mutex, OnceLock};

use futures::FutureExt;
use http::Request;
use http_body_util::BodyExt;
use jiff::Timestamp;
use k8w_apiserver::outside::Outside;
use k8w_apiserver::watch_cache::KindCache;
use k8w_apiserver::{ApiServer, Body, Config, Peer, UserInfo};
use k8w_controllers::execute::{Answer, Api, Failure, KubeApi};
use k8w_controllers::plan::{Propagation, Step, Target};
use k8w_controllers::resource::{Key, PODS, Resource};
use k8w_controllers::world::WATCHED;
use k8w_storage::datastore::memory::Memory;
use k8w_storage::datastore::{Datastore, KeyRange, KeyValue, ListRequest, MAX_TXN_OPERATIONS, Revision, Txn, Write};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::server::Event;

/// Where the server takes time and chance from.
#[derive(Debug)]
struct Simulated {
    now: Mutex<Timestamp>,
    dice: Mutex<StdRng>,
}

impl Outside for Simulated {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    fn bits(&self) -> u128 {
        self.dice.lock().unwrap().random()
    }
}

struct Watch {
    resource: Resource,
    body: Body,
    objects: Arc<KindCache>,
    /// The newest change of the objects that the watch was asked about.
    asked: Option<Revision>,
}

pub struct Pipeline {
    runtime: tokio::runtime::Runtime,
    server: Arc<ApiServer>,
    api: KubeApi,
    outside: Arc<Simulated>,
    watches: Vec<Watch>,
}

impl Pipeline {
    pub fn start(seed: u64, now: Timestamp) -> Self {
        let stored = first_start(now);
        let runtime = runtime();
        let outside = Arc::new(Simulated { now: Mutex::new(now), dice: Mutex::new(StdRng::seed_from_u64(seed)) });
        let started = async {
            let server = ApiServer::start(config(outside.clone()), filled(stored).await).await.unwrap();
            let mut watches = Vec::new();
            for (resource, _) in WATCHED {
                watches.push(watch(&server, resource).await);
            }
            let client = kube::Client::new(server.in_process(administrator(), "simulation"), "default");
            (server, watches, KubeApi::new(client))
        };
        let (server, watches, api) = runtime.block_on(started);
        Self { runtime, server, api, outside, watches }
    }

    pub fn set_clock(&self, now: Timestamp) {
        *self.outside.now.lock().unwrap() = now;
    }

    pub fn perform(&self, step: &Step) -> Result<Answer, Failure> {
        self.runtime.block_on(self.api.perform(step))
    }

    /// Creates an object, and says of its status what a create may not say.
    pub fn create(&self, resource: &Resource, namespace: &str, mut object: Value) -> Result<Value, Failure> {
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let status = object["status"].clone();
        let create =
            Step::Create { resource: resource.clone(), namespace: namespace.into(), object, then: None, or_else: None };
        let Answer::Object(mut made) = self.perform(&create)? else { panic!("a create answers the object") };
        if !status.is_null() {
            made["status"] = status;
            self.update(resource, "status", made.clone())?;
        }
        Ok(made)
    }

    /// Replaces the object, and its status, where they are to differ.
    pub fn edit(&self, resource: &Resource, old: &Value, mut new: Value) -> Result<(), Failure> {
        let status = (old["status"] != new["status"]).then(|| new["status"].take());
        if status.is_some() {
            new["status"] = old["status"].clone();
        }
        let mut current = if new == *old { new } else { self.update(resource, "", new)? };
        if let Some(status) = status {
            current["status"] = status;
            self.update(resource, "status", current)?;
        }
        Ok(())
    }

    fn update(&self, resource: &Resource, subresource: &'static str, object: Value) -> Result<Value, Failure> {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let key = Key::new(text("namespace"), text("name"));
        match self.perform(&Step::Update { resource: resource.clone(), key, subresource, object, then: None })? {
            Answer::Object(stored) => Ok(stored),
            other => panic!("an update answers the object, not {other:?}"),
        }
    }

    pub fn delete(&self, target: Target, how: Option<Propagation>, grace: Option<i64>) -> Result<Answer, Failure> {
        self.perform(&Step::Delete { target, propagation: how, grace_seconds: grace, then: None, or_else: None })
    }

    pub fn evict(&self, namespace: &str, name: &str) -> Result<(), Failure> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "namespace": namespace, "name": name },
        });
        let request = Request::post(format!("{}/{name}/eviction", PODS.path(namespace)));
        let request = request.header("content-type", "application/json").body(Body::from(eviction.to_string()));
        let peer = Peer::in_process(administrator());
        let response = self.runtime.block_on(self.server.handle(request.unwrap(), peer));
        match response.status().is_success() {
            true => Ok(()),
            false => Err(crate::server::failure(response.status().as_u16(), "the eviction is refused")),
        }
    }

    /// What the watches have to say of all that was written so far.
    pub fn events(&mut self) -> Vec<(Resource, Event)> {
        let Self { runtime, server, watches, .. } = self;
        let mut events = Vec::new();
        // Every watch is asked at once, as often as it has something to say.
        runtime.block_on(tokio::task::unconstrained(async {
            server.cache.catch_up().await.unwrap();
            for Watch { resource, body, objects, asked } in watches {
                let newest = Some(objects.revision());
                if std::mem::replace(asked, newest) == newest {
                    continue;
                }
                while let Some(frame) = body.frame().now_or_never() {
                    let frame = frame.unwrap_or_else(|| panic!("the watch of {} ended", resource.plural));
                    // It holds whole events.
                    let data = frame.unwrap().into_data().unwrap();
                    let lines = serde_json::Deserializer::from_slice(&data).into_iter();
                    events.extend(lines.map(|event| (resource.clone(), read(event.unwrap()))));
                }
            }
        }));
        events
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

fn config(outside: Arc<Simulated>) -> Config {
    // It waits for a namespace's account by the real clock.
    let disabled_admission = vec!["ServiceAccount".into()];
    Config { outside, disabled_admission, ..Config::default() }
}

/// What a cluster's first start stores, made once for all clusters.
fn first_start(now: Timestamp) -> &'static [KeyValue] {
    static STORED: OnceLock<Vec<KeyValue>> = OnceLock::new();
    STORED.get_or_init(|| {
        // No cluster's own seed, or its first objects would have the uids that these have.
        let outside = Arc::new(Simulated { now: Mutex::new(now), dice: Mutex::new(StdRng::seed_from_u64(u64::MAX)) });
        let store = Arc::new(Memory::new());
        let everything = ListRequest { range: KeyRange::prefix(""), start_key: None, limit: 0, revision: None };
        runtime().block_on(async {
            ApiServer::start(config(outside), store.clone()).await.unwrap();
            store.list(everything).await.unwrap().items
        })
    })
}

/// A store that holds this.
async fn filled(stored: &[KeyValue]) -> Arc<Memory> {
    let store = Arc::new(Memory::new());
    let put = |KeyValue { key, value, .. }: &KeyValue| Write::Put {
        key: key.clone(),
        value: value.clone(),
        ttl_seconds: None,
    };
    for some in stored.chunks(MAX_TXN_OPERATIONS) {
        store.txn(Txn { compares: Vec::new(), writes: some.iter().map(put).collect() }).await.unwrap();
    }
    store
}

fn administrator() -> UserInfo {
    UserInfo { name: "simulation".into(), groups: vec!["system:masters".into()], ..UserInfo::default() }
}

/// A watch of all there is and will be.
async fn watch(server: &Arc<ApiServer>, resource: &Resource) -> Watch {
    const SECONDS: u32 = 86_400;
    let uri = format!("{}?watch=true&timeoutSeconds={SECONDS}", resource.path(""));
    let response = server.handle(Request::get(uri).body(Body::Empty).unwrap(), Peer::in_process(administrator())).await;
    assert!(response.status().is_success(), "{} cannot be watched: {}", resource.plural, response.status());
    let objects = server.cache.kind(&resource.group, &resource.plural);
    Watch { resource: resource.clone(), body: response.into_body(), objects, asked: None }
}

fn read(mut event: Value) -> Event {
    let mut object = event["object"].take();
    object["metadata"].as_object_mut().unwrap().remove("managedFields");
    match event["type"].as_str() {
        Some("ADDED" | "MODIFIED") => Event::Put(object),
        Some("DELETED") => Event::Gone(object),
        other => panic!("a watch says {other:?}: {object}"),
    }
}
