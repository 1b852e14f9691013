//! The node agent: one loop over a closed enum of events.
//!
//! ```text
//! watches: node, its pods ───┐
//! folder of static pods ─────┤
//! engine events ─────────────┤             ┌─▶ jobs (set-up, launch, stop, probes) ─▶ events
//! results of jobs ───────────┼─▶ Agent ────┤
//! changed ConfigMaps ────────┤   (step)    ├─▶ PATCH /status, DELETE
//! timers ────────────────────┘             └─▶ Events
//! ```
//!
//! The loop itself never waits for anything but the next event: whatever takes time is a task, and its result is an
//! event. What a pod does next is decided by [`crate::pod::state`].

mod address;
mod admit;
mod claims;
mod command;
mod garbage;
mod grpc;
mod hooks;
mod http_get;
mod inbox;
mod jobs;
mod launch;
mod manifests;
mod own_files;
pub(crate) mod probe_counts;
mod probes;
pub(crate) mod quota;
mod record;
mod refs;
mod setup;
mod shared;
mod static_pods;
mod termination;
#[cfg(test)]
mod tests;
mod tokens;
mod trust;
mod unreached;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{self as core, Pod, Service};
use k8w_networking::Network;
use k8w_storage::blob::BlobStore;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::NodeConfig;
use crate::engine::{Engine, EngineEvent};
use crate::node::{self, Keeper};
use crate::pod::downward;
use crate::pod::plan::PodPlan;
use crate::pod::refs::Reference;
use crate::pod::room::Room;
use crate::pod::state::{self, Action, step};
use crate::pod::static_pod;
use crate::recorder::Recorder;
use crate::server::NodeService;

use address::AddressPool;
use inbox::Inbox;
pub(crate) use manifests::MANIFESTS_EVERY;
use record::Record;
pub use shared::PodTable;
pub(crate) use shared::Shared;
use static_pods::{PodName, StaticPods};

/// Results of jobs that may wait for the loop.
const RESULTS: usize = 4_096;
/// How long running containers get when the agent itself stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long the agent waits for them, and for its tasks.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(5);

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot prepare {}", path.display())]
    Directory { path: PathBuf, source: std::io::Error },
}

/// Everything that can happen to the agent.
#[derive(Debug)]
enum Event {
    Watched(Box<watcher::Event<Pod>>),
    /// The Node object changed.
    Node(Box<core::Node>),
    /// How the Node object was when a pod waited to be let in for it; `None` when nobody could say.
    NodeSeen {
        uid: String,
        node: Option<Box<core::Node>>,
    },
    Engine(EngineEvent),
    /// A job of a pod has something to say to the pod's state machine.
    Pod {
        uid: String,
        event: state::Event,
    },
    /// A pod's volumes were made or made anew.
    Volumes {
        uid: String,
        made: setup::Made,
    },
    /// The API server answered a status patch.
    StatusWritten {
        uid: String,
        result: Result<Box<Pod>, kube::Error>,
    },
    /// The API server answered the final delete; false when it is to be tried again.
    Deleted {
        uid: String,
        done: bool,
    },
    /// The folder of static pods was read.
    Manifests(Vec<Pod>),
    /// The API server answered the creation of a static pod's mirror; `None` when it is to be tried again.
    MirrorMade {
        name: PodName,
        mirror: Option<Box<Pod>>,
    },
    /// Nothing is left of a static pod that is over.
    Cleared(Arc<Pod>),
    /// Something that pods refer to changed.
    Referenced(Reference),
    Timer,
}

/// A node: made first, so that its service can be wired, then run.
pub struct Node {
    shared: Arc<Shared>,
    inbox: Inbox,
    references: mpsc::Receiver<Reference>,
    record_events: futures::future::BoxFuture<'static, ()>,
}

impl Node {
    /// Makes the node's directories and reads the machine.
    ///
    /// # Errors
    /// When a directory cannot be made.
    pub fn new(
        config: NodeConfig,
        client: Client,
        engine: Arc<dyn Engine>,
        engine_events: mpsc::Receiver<EngineEvent>,
        blobs: Arc<BlobStore>,
        network: Arc<Network>,
    ) -> Result<Node, Error> {
        // Every TLS connection of this process uses the one provider; another part may have chosen it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let pods = config.root_dir.join("pods");
        for path in [&pods, &config.log_dir] {
            std::fs::create_dir_all(path).map_err(|source| Error::Directory { path: path.clone(), source })?;
        }
        // Whoever is in a pod may write to some of its volumes, and nobody else on this host.
        std::fs::set_permissions(&pods, Permissions::from_mode(0o700))
            .map_err(|source| Error::Directory { path: pods, source })?;
        let (results_sender, results) = mpsc::channel(RESULTS);
        let (references_sender, references) = mpsc::channel(RESULTS);
        let (recorder, record_events) = Recorder::new(client.clone(), "kubelet", &config.name);
        let shared = Shared::new(config, client, engine, blobs, network, recorder, results_sender, references_sender);
        let record_events = Box::pin(record_events);
        let inbox = Inbox::new(results, engine_events);
        Ok(Node { shared: Arc::new(shared), inbox, references, record_events })
    }

    /// The node's HTTP API, as a kubelet serves it on 10250.
    pub fn service(&self) -> NodeService {
        NodeService::new(self.shared.clone())
    }

    /// Registers the node and runs its pods until shutdown. Containers are then stopped, while the API keeps their
    /// pods, so that they come back with the node.
    ///
    /// # Errors
    /// None yet: whatever fails while a node runs is tried again.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let Node { shared, inbox, references, record_events } = self;
        let tasks = TaskTracker::new();
        tasks.spawn(until(shutdown.clone(), record_events));
        tasks.spawn(until(shutdown.clone(), watch_services(shared.clone())));
        tasks.spawn(until(shutdown.clone(), garbage::run(shared.clone())));
        let (node, watched) = watch::channel(node::node(&shared.config, &shared.machine));
        let keeper = Keeper {
            client: shared.client.clone(),
            config: shared.config.clone(),
            machine: shared.machine.clone(),
            recorder: shared.recorder.clone(),
            inventory: shared.images.clone(),
            changed: shared.images_changed.clone(),
            watched,
        };
        let (registering, registered) = oneshot::channel();
        tasks.spawn(keeper.run(registering, shutdown.clone()));
        let static_pods = shared.config.static_pod_path.clone();
        // A node that was killed may have left mounts whose processes end just now.
        let pods = shared.config.root_dir.join("pods");
        jobs::unmount(&pods);
        let mut agent = Agent {
            statics: StaticPods::new(static_pods.is_some()),
            addresses: AddressPool::new(shared.config.wasm_cidr),
            leftovers: jobs::leftovers(&shared.config),
            is_listed: false,
            room: Room::new(&shared.allocatable),
            node,
            shared,
            pods: HashMap::new(),
            undecided: HashMap::new(),
            timers: BTreeSet::new(),
            listing: None,
        };
        if let Some(path) = static_pods {
            tasks.spawn(until(shutdown.clone(), manifests::watch(agent.shared.clone(), path)));
        }
        agent.run(registered, inbox, references, &shutdown).await;
        jobs::unmount(&pods);
        tasks.close();
        let _ = tokio::time::timeout(SHUTDOWN_WAIT, tasks.wait()).await;
        Ok(())
    }
}

async fn until(shutdown: CancellationToken, task: impl Future<Output = ()>) {
    shutdown.run_until_cancelled(task).await;
}

/// Keeps the Services whose variables containers get.
async fn watch_services(shared: Arc<Shared>) {
    let Some(writer) = shared.take_service_writer() else { return };
    let services: Api<Service> = Api::all(shared.client.clone());
    let events = watcher(services, watcher::Config::default()).default_backoff();
    let mut events = pin!(reflector(writer, events));
    while let Some(event) = events.next().await {
        if let Err(error) = event {
            tracing::debug!(%error, "watching Services failed, trying again");
        }
    }
}

struct Agent {
    shared: Arc<Shared>,
    addresses: AddressPool,
    /// By uid.
    pods: HashMap<String, Record>,
    /// By uid: new pods that wait until the Node object was looked at.
    undecided: HashMap<String, Pod>,
    statics: StaticPods,
    /// What is left for pods.
    room: Room,
    /// As the API has it, or, before that is known, as it is registered.
    node: watch::Sender<core::Node>,
    timers: BTreeSet<(Timestamp, String)>,
    /// Pods seen so far while the watch lists anew.
    listing: Option<Vec<Pod>>,
    /// Directories that were here at the start; those of pods that are gone are removed once all pods are known.
    leftovers: Vec<(String, PathBuf)>,
    /// Whether the API has told of all pods once.
    is_listed: bool,
}

impl Agent {
    async fn run(
        &mut self,
        registered: oneshot::Receiver<()>,
        mut inbox: Inbox,
        mut references: mpsc::Receiver<Reference>,
        shutdown: &CancellationToken,
    ) {
        let (client, name) = (self.shared.client.clone(), self.shared.config.name.clone());
        let mut nodes = pin!(watcher::watch_object(Api::<core::Node>::all(client.clone()), &name).default_backoff());
        let mut pods = pin!(stream::once(registered).flat_map(|_| {
            let own = watcher::Config::default().fields(&format!("spec.nodeName={name}"));
            watcher(Api::<Pod>::all(client.clone()), own).default_backoff()
        }));
        loop {
            let wake = self.timers.first().map(|(at, _)| until_timestamp(*at));
            let event = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(event) = pods.next() => match event {
                    Ok(event) => Event::Watched(Box::new(event)),
                    Err(error) => {
                        tracing::warn!(%error, "watching this node's pods failed, trying again");
                        continue;
                    }
                },
                Some(node) = nodes.next() => match node {
                    Ok(Some(node)) => Event::Node(Box::new(node)),
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::debug!(%error, "watching the node failed, trying again");
                        continue;
                    }
                },
                Some(event) = inbox.next() => event,
                Some(reference) = references.recv() => Event::Referenced(reference),
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => Event::Timer,
            };
            self.handle(event);
        }
        self.stop_everything(inbox).await;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Watched(event) => self.watched(*event),
            Event::Node(node) => {
                self.node.send_replace(*node);
                self.tend_all();
            }
            Event::NodeSeen { uid, node } => self.node_seen(uid, node),
            Event::Engine(event) => self.reported(event),
            Event::Pod { uid, event } => self.process(&uid, event),
            Event::Volumes { uid, made } => {
                if let Some(record) = self.pods.get_mut(&uid) {
                    record.volumes_made(&self.shared, &made);
                }
                self.process(&uid, state::Event::SetUp(made.into_result()));
            }
            Event::StatusWritten { uid, result } => {
                if let Some(record) = self.pods.get_mut(&uid) {
                    record.status_written(result);
                    self.settle(&uid);
                }
            }
            Event::Deleted { uid, done } => {
                if let Some(record) = self.pods.get_mut(&uid) {
                    record.deleted(done);
                    self.settle(&uid);
                }
            }
            Event::Manifests(pods) => self.manifests_read(pods),
            Event::MirrorMade { name, mirror } => self.mirror_made(&name, mirror),
            Event::Cleared(pod) => self.static_cleared(&pod),
            Event::Referenced(reference) => {
                for uid in self.shared.refs.users(&reference) {
                    if let Some(record) = self.pods.get_mut(&uid) {
                        record.refresh(&self.shared);
                    }
                    self.process(&uid, state::Event::Nudge);
                }
            }
            Event::Timer => self.timer(),
        }
    }

    /// An engine's event. Of an attempt that has ended, what it left as message is read first.
    fn reported(&mut self, event: EngineEvent) {
        let (uid, event) = shared::from_engine(event);
        if let Some(record) = self.pods.get(&uid)
            && let Some(explained) = termination::explain(&self.shared, &record.pod, &event)
        {
            tokio::spawn(explained);
            return;
        }
        self.process(&uid, event);
    }

    fn watched(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing = Some(Vec::new()),
            watcher::Event::InitApply(mut pod) => {
                pod.metadata.managed_fields = None;
                self.listing.get_or_insert_default().push(pod);
            }
            watcher::Event::InitDone => self.listed(),
            watcher::Event::Apply(pod) => self.applied(pod),
            watcher::Event::Delete(pod) if static_pod::mirrored(&pod).is_some() => self.mirror_gone(&pod),
            watcher::Event::Delete(pod) => {
                if let Some(uid) = pod.uid() {
                    self.removed(&uid);
                }
            }
        }
    }

    /// A pod that is known has changed, or may get the resources that it waits for.
    fn changed(&mut self, uid: &str, mut pod: Pod) {
        let Some(mut record) = self.pods.remove(uid) else { return };
        let resize_pending = record.allocate(&mut self.room, &mut pod);
        let plan = PodPlan { resize_pending, ..PodPlan::of(&pod) };
        let shows_metadata = downward::volumes_show_metadata(&pod);
        if record.pod_changed(pod) && shows_metadata {
            record.refresh(&self.shared);
        }
        self.pods.insert(uid.to_owned(), record);
        self.process(uid, state::Event::Plan(plan));
    }

    /// A pod has given back what it had: others may wait for that.
    fn resize_waiting(&mut self) {
        let waiting = self.pods.iter().filter_map(|(uid, record)| record.waiting().map(|pod| (uid.clone(), pod)));
        let waiting: Vec<_> = waiting.collect();
        for (uid, pod) in waiting {
            self.changed(&uid, pod);
        }
    }

    /// Steps one pod and does what it decides.
    fn process(&mut self, uid: &str, event: state::Event) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        let actions = step(&mut record.state, event, Timestamp::now());
        let mut closed = false;
        for action in actions {
            match action {
                Action::Close => {
                    let Some(record) = self.pods.get_mut(uid) else { return };
                    if let Some(address) = record.close(&self.shared) {
                        self.addresses.release(address);
                    }
                    self.room.give_back(uid);
                    closed = true;
                }
                Action::Forget => {
                    self.forget(uid);
                    closed = true;
                    break;
                }
                action => {
                    if let Some(record) = self.pods.get_mut(uid) {
                        record.execute(&self.shared, action);
                    }
                }
            }
        }
        self.settle(uid);
        if closed {
            self.resize_waiting();
        }
    }

    fn forget(&mut self, uid: &str) {
        let Some(mut record) = self.pods.remove(uid) else { return };
        self.timers.retain(|(_, other)| other != uid);
        self.shared.pods.remove(&record.pod);
        self.shared.probe_counts.forget(&record.pod);
        self.shared.engine.forget_pod(uid);
        let (removing, log_dir) = (record.take_removing(), self.shared.log_dir(&record.pod));
        let static_pod = self.statics.has(uid).then(|| record.pod.clone());
        if let Some(pod) = &static_pod {
            self.static_forgotten(pod);
        }
        tokio::spawn(jobs::clear(self.shared.clone(), removing, log_dir, static_pod));
    }

    /// Brings what follows from a pod's state up to date: its tasks, its status in the API, its timer.
    fn settle(&mut self, uid: &str) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        let now = Timestamp::now();
        if let Some(before) = record.wake.take() {
            self.timers.remove(&(before, uid.to_owned()));
        }
        record.wake = record.settle(&self.shared, now);
        if let Some(wake) = record.wake {
            self.timers.insert((wake, uid.to_owned()));
        }
    }

    fn timer(&mut self) {
        let now = Timestamp::now();
        while let Some((at, uid)) = self.timers.first().cloned().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, uid.clone()));
            if let Some(record) = self.pods.get_mut(&uid) {
                record.wake = None;
                if record.refresh_at.is_some_and(|due| due <= now) {
                    record.refresh(&self.shared);
                }
            }
            self.process(&uid, state::Event::Tick);
        }
    }

    /// Stops all containers, and waits a bounded time for them.
    async fn stop_everything(&mut self, mut inbox: Inbox) {
        let mut running = HashSet::new();
        for record in self.pods.values_mut() {
            running.extend(record.abandon());
        }
        for id in &running {
            self.shared.engine.stop(id, SHUTDOWN_GRACE).await;
        }
        let all_ended = async {
            while !running.is_empty() {
                match inbox.engine().await {
                    Some(EngineEvent::Exited { id, .. }) => running.remove(&id),
                    Some(EngineEvent::Started { .. } | EngineEvent::Trapped { .. }) => false,
                    None => return,
                };
            }
        };
        if tokio::time::timeout(SHUTDOWN_WAIT, all_ended).await.is_err() {
            tracing::warn!("not all containers ended in time");
        }
    }
}

fn until_timestamp(at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default()
}
