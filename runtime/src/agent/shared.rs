//! What the agent's loop and its jobs share.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8w_networking::Network;
use k8w_storage::blob::BlobStore;
use kube::runtime::reflector::{self, Store};
use kube::{Client, ResourceExt};
use tokio::sync::{Notify, mpsc, watch};

use super::Event;
use super::probe_counts::ProbeCounts;
use super::refs::Refs;
use crate::config::NodeConfig;
use crate::engine::{Engine, EngineEvent};
use crate::image::Images;
use crate::node::{self, Machine};
use crate::pod::refs::Reference;
use crate::pod::{containers, state};
use crate::recorder::Recorder;

/// RuntimeClasses whose handler is remembered; a handler never changes.
const REMEMBERED_CLASSES: usize = 256;

pub struct Shared {
    pub config: Arc<NodeConfig>,
    pub machine: Arc<Machine>,
    pub allocatable: BTreeMap<String, Quantity>,
    pub client: Client,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<Images>,
    pub images_changed: Arc<Notify>,
    pub network: Arc<Network>,
    pub recorder: Recorder,
    pub refs: Refs,
    pub services: Store<Service>,
    /// What the node's HTTP API shows of its pods.
    pub pods: PodTable,
    pub probe_counts: ProbeCounts,
    results: mpsc::Sender<Event>,
    service_writer: Mutex<Option<reflector::store::Writer<Service>>>,
    runtime_classes: Mutex<HashMap<String, String>>,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once, by the constructor that takes the same things")]
    pub(super) fn new(
        config: NodeConfig,
        client: Client,
        engine: Arc<dyn Engine>,
        blobs: Arc<BlobStore>,
        network: Arc<Network>,
        recorder: Recorder,
        results: mpsc::Sender<Event>,
        references: mpsc::Sender<Reference>,
    ) -> Shared {
        let machine = Machine::read(&config.root_dir);
        let (services, writer) = reflector::store();
        let images_changed = Arc::new(Notify::new());
        let images = Images::new(blobs, config.registries.clone(), images_changed.clone());
        Shared {
            allocatable: node::allocatable(&config, &machine),
            config: Arc::new(config),
            machine: Arc::new(machine),
            refs: Refs::new(client.clone(), references),
            client,
            engine,
            images: Arc::new(images),
            images_changed,
            network,
            recorder,
            services,
            pods: PodTable::default(),
            probe_counts: ProbeCounts::default(),
            results,
            service_writer: Mutex::new(Some(writer)),
            runtime_classes: Mutex::default(),
        }
    }

    /// Tells the loop; waits while it is behind.
    pub(super) async fn tell(&self, event: Event) {
        // The loop is gone only when the node stops.
        let _ = self.results.send(event).await;
    }

    pub(super) async fn tell_pod(&self, uid: &str, event: state::Event) {
        self.tell(Event::Pod { uid: uid.to_owned(), event }).await;
    }

    pub(super) fn take_service_writer(&self) -> Option<reflector::store::Writer<Service>> {
        self.service_writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn known_handler(&self, class: &str) -> Option<String> {
        self.runtime_classes.lock().unwrap_or_else(PoisonError::into_inner).get(class).cloned()
    }

    pub(super) fn remember_handler(&self, class: &str, handler: &str) {
        let mut classes = self.runtime_classes.lock().unwrap_or_else(PoisonError::into_inner);
        if classes.len() < REMEMBERED_CLASSES {
            classes.insert(class.to_owned(), handler.to_owned());
        }
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.root_dir.join("pods").join(uid)
    }

    pub fn log_dir(&self, pod: &Pod) -> PathBuf {
        let namespace = pod.namespace().unwrap_or_default();
        let uid = pod.uid().unwrap_or_default();
        self.config.log_dir.join(format!("{namespace}_{}_{uid}", pod.name_any()))
    }

    pub fn log_path(&self, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
        self.log_dir(pod).join(container).join(format!("{attempt}.log"))
    }
}

/// Namespace and name, and the pod.
type ByName = BTreeMap<(String, String), Arc<Pod>>;

/// The pods of this node by namespace and name, with their newest status; cheap to clone.
#[derive(Clone)]
pub struct PodTable {
    pods: Arc<RwLock<ByName>>,
    /// Counts changes.
    version: Arc<watch::Sender<u64>>,
    /// Whether every pod of the node is here.
    listed: Arc<watch::Sender<bool>>,
}

impl Default for PodTable {
    fn default() -> PodTable {
        PodTable { pods: Arc::default(), version: Arc::new(watch::channel(0).0), listed: Arc::default() }
    }
}

impl PodTable {
    /// The pod of that name that came last.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let key = (namespace.to_owned(), name.to_owned());
        self.pods.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Pod>> {
        self.pods.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Waits until the pods that the API has for this node have been here once.
    pub(super) async fn listed(&self) {
        // The sender is this table's own.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    pub(super) fn all_are_here(&self) {
        self.listed.send_replace(true);
    }

    /// Waits until an attempt of a container no longer runs, or its pod is gone.
    pub async fn ended(self, pod: Arc<Pod>, container: String, attempt: u32) {
        let mut changes = self.version.subscribe();
        loop {
            changes.mark_unchanged();
            let now = self.get(&pod.namespace().unwrap_or_default(), &pod.name_any());
            let same = now.filter(|now| now.uid() == pod.uid());
            if !same.is_some_and(|pod| may_run(&pod, &container, attempt)) || changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn insert(&self, pod: Arc<Pod>) {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        self.pods.write().unwrap_or_else(PoisonError::into_inner).insert(key, pod);
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Removes exactly this pod; one of the same name that came after it stays.
    pub(super) fn remove(&self, pod: &Pod) {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let mut pods = self.pods.write().unwrap_or_else(PoisonError::into_inner);
        if pods.get(&key).is_some_and(|found| found.uid() == pod.uid()) {
            pods.remove(&key);
        }
        drop(pods);
        self.version.send_modify(|version| *version = version.wrapping_add(1));
    }
}

/// Whether this attempt runs, by the pod's status.
fn may_run(pod: &Pod, container: &str, attempt: u32) -> bool {
    let mut own = pod.status.iter().flat_map(containers::statuses).filter(|status| status.name == container);
    own.any(|status| {
        u32::try_from(status.restart_count) == Ok(attempt)
            && status.state.as_ref().is_some_and(|state| state.running.is_some())
    })
}

/// An engine's event, as the state machine of the pod it is about takes it.
pub(super) fn from_engine(event: EngineEvent) -> (String, state::Event) {
    match event {
        EngineEvent::Started { id } => {
            (id.pod_uid, state::Event::Started { container: id.container, attempt: id.attempt })
        }
        EngineEvent::Trapped { id, message } => {
            (id.pod_uid, state::Event::Trapped { container: id.container, attempt: id.attempt, message })
        }
        EngineEvent::Exited { id, exit_code, reason, message } => {
            let reason = reason.as_str().to_owned();
            let (container, attempt) = (id.container, id.attempt);
            (id.pod_uid, state::Event::Exited { container, attempt, exit_code, reason, message })
        }
    }
}
