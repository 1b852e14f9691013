//! What a reconciler wants done, as data: it can be printed, compared, replayed, and stopped between any two steps.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::{Value, json};

use crate::resource::{Key, Resource};
use crate::world::{Meta, Object};

/// Steps in order. The first one that fails ends the plan; the key is then queued again with backoff.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Events that are true whatever becomes of the steps.
    pub notes: Vec<Note>,
    /// When to look again although nothing happens (a deadline passes).
    pub requeue_after: Option<Duration>,
}

/// Names one object; preconditions make a step fail instead of acting on another object or another state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub resource: Resource,
    pub key: Key,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Lists merge by key, as the built-in types declare.
    Strategic,
    /// Server-side apply that takes over what others own.
    Apply { manager: &'static str },
}

/// One write, or one question that must be answered with yes for the plan to go on.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Create {
        resource: Resource,
        namespace: String,
        object: Value,
        then: Option<Note>,
        or_else: Option<Note>,
    },
    /// Replaces the object, or the subresource of it; carries the resource version it was computed from.
    Update {
        resource: Resource,
        key: Key,
        subresource: &'static str,
        object: Value,
        then: Option<Note>,
    },
    Patch {
        target: Target,
        subresource: &'static str,
        kind: PatchKind,
        patch: Value,
        then: Option<Note>,
    },
    Delete {
        target: Target,
        propagation: Option<Propagation>,
        /// `Some(0)` removes a pod at once, without waiting for its node.
        grace_seconds: Option<i64>,
        then: Option<Note>,
        or_else: Option<Note>,
    },
    DeleteAll {
        resource: Resource,
        namespace: String,
    },
    Bind {
        pod: Target,
        node: String,
        then: Option<Note>,
        or_else: Option<Note>,
    },
    /// Has a node remove the directory of a volume that it keeps; done if there is none.
    RemoveDirectory {
        node: String,
        volume: String,
        or_else: Option<Note>,
    },
    /// Reads the subresource `scale` into the world.
    ReadScale(Target),
    /// Goes on only if the API server says now that there is no object of the target's name, or only one of another uid.
    CheckAbsent(Target),
    /// Goes on only if the API server says now that the target exists with this uid and is not being deleted.
    CheckAlive(Target),
    /// Goes on only if the API server says now that the namespace holds none of these.
    CheckNoneLeft {
        resource: Resource,
        namespace: String,
    },
    /// Goes on only if the API server allows one of these, each the `spec` of a SubjectAccessReview.
    CheckAllowed(Vec<Value>),
    /// Steps that don't depend on each other: 1 at first, then twice as many each time, so that a failure that all share
    /// costs few requests (Kubernetes' slow start). What takes away or changes is tried each for itself.
    Together(Vec<Step>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NoteType {
    Normal,
    Warning,
}

/// An event to be recorded on an object. `{name}` in the message stands for the created object's name, `{error}` for what
/// the API server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub component: &'static str,
    pub regarding: Regarding,
    pub note_type: NoteType,
    pub reason: &'static str,
    pub action: &'static str,
    pub message: String,
}

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Regarding {
    pub api_version: String,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

impl Regarding {
    pub fn new(resource: &Resource, meta: &ObjectMeta) -> Self {
        Self {
            api_version: resource.api_version(),
            kind: resource.kind.to_string(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
        }
    }
}

impl Target {
    /// The object with this uid, in whatever state it is.
    pub fn new(resource: &Resource, meta: &ObjectMeta) -> Self {
        Self { resource: resource.clone(), key: Key::of(meta), uid: meta.uid.clone(), resource_version: None }
    }

    /// The object in exactly the state that was looked at.
    pub fn exact(resource: &Resource, meta: &ObjectMeta) -> Self {
        Self { resource_version: meta.resource_version.clone(), ..Self::new(resource, meta) }
    }

    /// The object of this name; any object of it where no uid is given.
    pub fn named(resource: &Resource, key: Key, uid: Option<String>) -> Self {
        Self { resource: resource.clone(), key, uid, resource_version: None }
    }

    pub fn object(object: &Object) -> Self {
        Self::new(object.resource(), object.meta())
    }
}

impl Plan {
    pub fn none() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.notes.is_empty()
    }

    pub fn step(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Adds steps that don't depend on each other, if there are any.
    pub fn together(&mut self, steps: impl IntoIterator<Item = Step>) {
        let steps: Vec<Step> = steps.into_iter().collect();
        if !steps.is_empty() {
            self.step(Step::Together(steps));
        }
    }

    pub fn note(&mut self, note: Note) {
        self.notes.push(note);
    }

    /// Replaces the whole object except its status.
    pub fn update(&mut self, resource: &Resource, object: &(impl Meta + Serialize), then: Option<Note>) {
        self.step(update(resource, object, "", then));
    }

    pub fn update_status(&mut self, resource: &Resource, object: &(impl Meta + Serialize)) {
        self.step(update(resource, object, "status", None));
    }

    pub fn delete(&mut self, target: Target) {
        self.step(Step::Delete { target, propagation: None, grace_seconds: None, then: None, or_else: None });
    }

    /// Patches list entries of the status by their keys, whatever else has changed meanwhile.
    pub fn patch_status(&mut self, target: Target, patch: Value) {
        self.step(Step::Patch { target, subresource: "status", kind: PatchKind::Strategic, patch, then: None });
    }

    pub fn merge_patch(&mut self, target: Target, patch: Value) {
        self.step(Step::Patch { target, subresource: "", kind: PatchKind::Merge, patch, then: None });
    }

    /// Looks again after `delay`, or sooner if something asked for that already.
    pub fn requeue(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |earlier| earlier.min(delay)));
    }
}

pub fn create(resource: &Resource, namespace: &str, object: &impl Serialize) -> Step {
    Step::Create {
        resource: resource.clone(),
        namespace: namespace.into(),
        object: to_value(object),
        then: None,
        or_else: None,
    }
}

/// Replaces the object, or the subresource `sub` of it.
pub fn update(resource: &Resource, object: &(impl Meta + Serialize), sub: &'static str, then: Option<Note>) -> Step {
    let key = Key::of(object.meta());
    Step::Update { resource: resource.clone(), key, subresource: sub, object: to_value(object), then }
}

/// API types serialise to JSON without fail: their maps have string keys.
pub fn to_value(object: &impl Serialize) -> Value {
    serde_json::to_value(object).unwrap_or(Value::Null)
}

/// A merge patch that sets `metadata.ownerReferences` as a whole; used with an exact target.
pub fn owners_patch(owners: &[OwnerReference]) -> Value {
    json!({ "metadata": { "ownerReferences": owners } })
}

/// Takes a finalizer away, if the object is still what it was.
pub fn without_finalizer(resource: &Resource, meta: &ObjectMeta, name: &str) -> Step {
    let rest: Vec<&String> = meta.finalizers.iter().flatten().filter(|finalizer| *finalizer != name).collect();
    set_finalizers(resource, meta, json!(rest))
}

/// Adds a finalizer, if the object is still what it was.
pub fn with_finalizer(resource: &Resource, meta: &ObjectMeta, name: &str) -> Step {
    let all: Vec<&str> = meta.finalizers.iter().flatten().map(String::as_str).chain([name]).collect();
    set_finalizers(resource, meta, json!(all))
}

fn set_finalizers(resource: &Resource, meta: &ObjectMeta, finalizers: Value) -> Step {
    Step::Patch {
        target: Target::exact(resource, meta),
        subresource: "",
        kind: PatchKind::Merge,
        patch: json!({ "metadata": { "finalizers": finalizers } }),
        then: None,
    }
}
