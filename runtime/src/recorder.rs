//! Events about this node's objects: bounded, in order, with repeats counted instead of repeated.
//!
//! The rules are client-go's (`tools/record/events_cache.go`): the same event about the same object raises `count` of
//! the one Event, and an object that is talked about too much is muted but for one event in five minutes.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde_json::json;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::Instant;

/// Events that may wait to be written; more are dropped and counted.
const QUEUE_EVENTS: usize = 1_024;
/// Different events that are remembered, to count their repeats.
const REMEMBERED_EVENTS: usize = 4_096;
/// Events about one object before it is muted, and how often one more is let through.
const BURST_EVENTS: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// Longest message of an Event, in bytes.
const MAX_MESSAGE_BYTES: usize = 1_024;

/// Takes events from anywhere in the node; cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
}

/// One thing to say about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub object: ObjectReference,
    pub warning: bool,
    pub reason: String,
    pub message: String,
}

impl Recorder {
    /// A recorder for a component of a node, and the task that writes what it is given until the recorder is dropped.
    pub fn new(
        client: Client,
        component: &'static str,
        node: &str,
    ) -> (Recorder, impl Future<Output = ()> + Send + use<>) {
        let (queue, notes) = mpsc::channel(QUEUE_EVENTS);
        let node = node.to_owned();
        let writer = Writer { client, component, node, seen: HashMap::new(), objects: HashMap::new() };
        (Recorder { queue }, writer.run(notes))
    }

    /// Records an event; never waits.
    pub fn record(&self, mut note: Note) {
        if note.message.len() > MAX_MESSAGE_BYTES {
            let cut = note.message.floor_char_boundary(MAX_MESSAGE_BYTES - 3);
            note.message.truncate(cut);
            note.message.push_str("...");
        }
        tracing::debug!(object = ?note.object.name, reason = note.reason, "{}", note.message);
        // One that is closed belongs to a node that stops.
        if let Err(TrySendError::Full(_)) = self.queue.try_send(note) {
            tracing::warn!("an event was dropped: {QUEUE_EVENTS} are waiting to be written");
        }
    }

    /// Records an event about a pod, or about one of its containers.
    pub fn pod(&self, pod: &Pod, container: Option<&str>, warning: bool, reason: &str, message: impl Into<String>) {
        let object = reference(pod, container);
        self.record(Note { object, warning, reason: reason.to_owned(), message: message.into() });
    }

    /// Records an event about a node.
    pub fn node(&self, name: &str, warning: bool, reason: &str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            // Events about nodes have always carried the name for a uid.
            uid: Some(name.to_owned()),
            ..Default::default()
        };
        self.record(Note { object, warning, reason: reason.to_owned(), message: message.into() });
    }
}

fn reference(pod: &Pod, container: Option<&str>) -> ObjectReference {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    let ephemeral = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let path = container.map(|name| {
        let list = match () {
            () if init.clone().any(|container| container.name == name) => "initContainers",
            () if ephemeral.clone().any(|container| container.name == name) => "ephemeralContainers",
            () => "containers",
        };
        format!("spec.{list}{{{name}}}")
    });
    ObjectReference { field_path: path, ..pod.object_ref(&()) }
}

/// What makes two events the same.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    path: String,
    reason: String,
    message: String,
}

struct Seen {
    namespace: String,
    name: String,
    count: i32,
}

struct Tokens {
    left: u32,
    since: Instant,
}

struct Writer {
    client: Client,
    component: &'static str,
    node: String,
    seen: HashMap<Key, Seen>,
    objects: HashMap<String, Tokens>,
}

impl Writer {
    async fn run(mut self, mut notes: mpsc::Receiver<Note>) {
        while let Some(note) = notes.recv().await {
            if self.permits(note.object.uid.as_deref().unwrap_or_default())
                && let Err(error) = self.write(note).await
            {
                tracing::warn!(%error, "an event could not be written");
            }
        }
    }

    fn permits(&mut self, uid: &str) -> bool {
        if self.objects.len() > REMEMBERED_EVENTS {
            self.objects.clear();
        }
        let now = Instant::now();
        let tokens = self.objects.entry(uid.to_owned()).or_insert(Tokens { left: BURST_EVENTS, since: now });
        let refills = now.duration_since(tokens.since).as_secs() / REFILL.as_secs();
        if refills > 0 {
            tokens.left = tokens.left.saturating_add(u32::try_from(refills).unwrap_or(u32::MAX)).min(BURST_EVENTS);
            tokens.since = now;
        }
        let permitted = tokens.left > 0;
        tokens.left = tokens.left.saturating_sub(1);
        permitted
    }

    async fn write(&mut self, note: Note) -> Result<(), kube::Error> {
        let key = Key {
            uid: note.object.uid.clone().unwrap_or_default(),
            path: note.object.field_path.clone().unwrap_or_default(),
            reason: note.reason.clone(),
            message: note.message.clone(),
        };
        let now = Time(Timestamp::now());
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.count += 1;
            let api: Api<Event> = Api::namespaced(self.client.clone(), &seen.namespace);
            let patch = Patch::Merge(json!({ "count": seen.count, "lastTimestamp": now }));
            match api.patch(&seen.name, &PatchParams::default(), &patch).await {
                Err(kube::Error::Api(status)) if status.code == 404 => self.seen.remove(&key),
                other => return other.map(drop),
            };
        }
        let event = self.event(note, now);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &event).await?;
        if self.seen.len() >= REMEMBERED_EVENTS {
            self.seen.clear();
        }
        self.seen.insert(key, Seen { namespace, name, count: 1 });
        Ok(())
    }

    fn event(&self, note: Note, now: Time) -> Event {
        // Cluster-scoped objects are talked about in the default namespace.
        let namespace = note.object.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let object = note.object.name.clone().unwrap_or_default();
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{object}.{:x}", now.0.as_nanosecond())),
                namespace: Some(namespace),
                ..Default::default()
            },
            involved_object: note.object,
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(note.reason),
            message: Some(note.message),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource { component: Some(self.component.to_owned()), host: Some(self.node.clone()) }),
            reporting_component: Some(self.component.to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Default::default()
        }
    }
}
