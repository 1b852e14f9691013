//! The API server of a simulation: the real one, or one in miniature.
//!
//! Of the real [`Pipeline`] it keeps a copy of what the watches say, and asks it for everything else. In miniature it is
//! objects by path, resource versions, preconditions, finalizers and subresources: just enough of Kubernetes' rules for
//! generated cases, of which there are many, and which begin with less than any real cluster has.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8w_controllers::execute::{Answer, Failure};
use k8w_controllers::plan::{PatchKind, Propagation, Step, Target};
use k8w_controllers::resource::{
    Key, LEASES, NAMESPACES, NODES, PERSISTENT_VOLUME_CLAIMS, POD_DISRUPTION_BUDGETS, PODS, Resource,
};
use serde_json::{Value, json};

use crate::cluster::namespace;
use crate::pipeline::Pipeline;

/// A custom kind.
pub static WIDGETS: Resource = Resource {
    group: Cow::Borrowed("example.com"),
    version: Cow::Borrowed("v1"),
    plural: Cow::Borrowed("widgets"),
    kind: Cow::Borrowed("Widget"),
    namespaced: true,
};

/// Where nodes keep their Leases.
const NODE_LEASES: &str = "kube-node-lease";

#[derive(Clone, Debug)]
pub enum Event {
    Put(Value),
    Gone(Value),
}

pub struct Server {
    objects: BTreeMap<Resource, BTreeMap<Key, Value>>,
    pub revision: u64,
    /// What the watches have to deliver, by resource, in order.
    pub events: Vec<(Resource, Event)>,
    serial: u64,
    /// What is asked, unless all this is in miniature.
    pipeline: Option<Pipeline>,
    pub now: Timestamp,
    /// What nodes keep of volumes, by the volume's name.
    pub directories: BTreeSet<String>,
    /// Nodes whose machine is off: they report nothing, and nothing on them starts or ends.
    pub dead: BTreeSet<String>,
}

impl Server {
    /// On the real pipeline, with what a cluster has from its first start.
    pub fn new(seed: u64, now: Timestamp) -> Self {
        let mut server = Self::empty(now, Some(Pipeline::start(seed, now)));
        server.take_in();
        server
    }

    /// With nothing but a namespace.
    pub fn in_miniature(now: Timestamp) -> Self {
        let mut server = Self::empty(now, None);
        server.create(&NAMESPACES, "", namespace("default")).unwrap();
        server
    }

    fn empty(now: Timestamp, pipeline: Option<Pipeline>) -> Self {
        Self {
            objects: BTreeMap::new(),
            revision: 1,
            events: Vec::new(),
            serial: 0,
            pipeline,
            now,
            directories: BTreeSet::new(),
            dead: BTreeSet::new(),
        }
    }

    pub fn is_in_miniature(&self) -> bool {
        self.pipeline.is_none()
    }

    /// The pipeline, at the time it is; whoever writes to it takes in what comes of that.
    fn pipeline(&self) -> Option<&Pipeline> {
        let pipeline = self.pipeline.as_ref()?;
        pipeline.set_clock(self.now);
        Some(pipeline)
    }

    fn take_in(&mut self) {
        let Some(pipeline) = &mut self.pipeline else { return };
        for (resource, event) in pipeline.events() {
            let (Event::Put(object) | Event::Gone(object)) = &event;
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            let key = Key::new(text("namespace"), text("name"));
            self.revision = self.revision.max(text("resourceVersion").parse().unwrap());
            let objects = self.objects.entry(resource.clone()).or_default();
            match &event {
                Event::Put(object) => _ = objects.insert(key, object.clone()),
                Event::Gone(_) => _ = objects.remove(&key),
            }
            self.events.push((resource, event));
        }
    }

    pub fn is_dead(&self, node: &Value) -> bool {
        node.as_str().is_some_and(|name| self.dead.contains(name))
    }

    pub fn all(&self) -> impl Iterator<Item = &Value> {
        self.objects.values().flat_map(BTreeMap::values)
    }

    pub fn list(&self, resource: &Resource) -> impl Iterator<Item = &Value> {
        self.objects.get(resource).into_iter().flat_map(BTreeMap::values)
    }

    pub fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Option<&Value> {
        self.stored(resource, &Key::new(namespace, name))
    }

    fn stored(&self, resource: &Resource, key: &Key) -> Option<&Value> {
        self.objects.get(resource)?.get(key)
    }

    /// Changes an object as somebody else would.
    pub fn edit(&mut self, resource: &Resource, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        let key = Key::new(namespace, name);
        let Some(old) = self.stored(resource, &key).cloned() else { return };
        let mut new = old.clone();
        change(&mut new);
        if let Some(pipeline) = self.pipeline() {
            pipeline.edit(resource, &old, new).unwrap();
            return self.take_in();
        }
        self.store(resource, key, Some(&old), new);
    }

    pub fn create(&mut self, resource: &Resource, namespace: &str, mut object: Value) -> Result<Value, Failure> {
        if let Some(pipeline) = self.pipeline() {
            let made = pipeline.create(resource, namespace, object);
            self.take_in();
            return made;
        }
        self.serial += 1;
        let metadata = &mut object["metadata"];
        if metadata["name"].is_null() {
            let prefix = metadata["generateName"].as_str().unwrap_or_default();
            metadata["name"] = json!(format!("{prefix}{:05}", self.serial));
        }
        if resource.namespaced {
            let owner = Key::new("", namespace);
            let terminating = self.stored(&NAMESPACES, &owner);
            if terminating.is_some_and(|n| !n["metadata"]["deletionTimestamp"].is_null()) {
                return Err(failure(403, "unable to create new content in namespace because it is being terminated"));
            }
            metadata["namespace"] = json!(namespace);
        }
        let key = Key::new(if resource.namespaced { namespace } else { "" }, metadata["name"].as_str().unwrap());
        metadata["uid"] = json!(format!("uid-{:05}", self.serial));
        metadata["creationTimestamp"] = json!(self.stamp());
        metadata["generation"] = json!(1);
        if *resource == PODS {
            object["status"] = json!({ "phase": "Pending" });
        }
        if self.stored(resource, &key).is_some() {
            return Err(failure(409, "already exists"));
        }
        Ok(self.store(resource, key, None, object).expect("nothing new is removed at once"))
    }

    /// Deletes as a user would.
    pub fn delete(&mut self, resource: &Resource, namespace: &str, name: &str, propagation: Propagation) {
        let target =
            Target { resource: resource.clone(), key: Key::new(namespace, name), uid: None, resource_version: None };
        self.remove(&target, Some(propagation), None).expect("the object exists");
    }

    /// Likewise, unless it is gone already.
    pub fn delete_if_there(&mut self, resource: &Resource, namespace: &str, name: &str, propagation: Propagation) {
        if self.get(resource, namespace, name).is_some() {
            self.delete(resource, namespace, name, propagation);
        }
    }

    /// What a node does when the containers of a pod that is being deleted have ended.
    pub fn forget(&mut self, namespace: &str, name: &str) {
        let in_miniature = self.is_in_miniature();
        self.edit(&PODS, namespace, name, |pod| {
            if pod["status"]["phase"] != "Succeeded" {
                pod["status"]["phase"] = json!("Failed");
            }
            if in_miniature {
                pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            }
        });
        if let Some(pipeline) = self.pipeline() {
            let target = Target::named(&PODS, Key::new(namespace, name), None);
            pipeline.delete(target, None, Some(0)).unwrap();
            self.take_in();
        }
    }

    /// Evicts a pod as the API server does: only where every budget that selects it can spare one, which is charged.
    pub fn evict(&mut self, namespace: &str, name: &str) -> Result<(), Failure> {
        if let Some(pipeline) = self.pipeline() {
            let evicted = pipeline.evict(namespace, name);
            self.take_in();
            return evicted;
        }
        let pod = self.find(&PODS, &Key::new(namespace, name))?;
        let selects = |budget: &Value| {
            let wanted = budget["spec"]["selector"]["matchLabels"].as_object().cloned().unwrap_or_default();
            wanted.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value)
        };
        let budgets: Vec<Value> =
            self.list(&POD_DISRUPTION_BUDGETS).filter(|budget| selects(budget)).cloned().collect();
        for budget in &budgets {
            let status = &budget["status"];
            let is_current = status["observedGeneration"] == budget["metadata"]["generation"];
            if !is_current || status["disruptionsAllowed"].as_i64().unwrap_or(0) <= 0 {
                return Err(failure(429, "Cannot evict pod as it would violate the pod's disruption budget."));
            }
        }
        let now = self.stamp();
        for budget in &budgets {
            self.edit(&POD_DISRUPTION_BUDGETS, namespace, budget["metadata"]["name"].as_str().unwrap(), |budget| {
                let left = budget["status"]["disruptionsAllowed"].as_i64().unwrap();
                budget["status"]["disruptionsAllowed"] = json!(left - 1);
                budget["status"]["disruptedPods"][name] = json!(now);
            });
        }
        self.delete(&PODS, namespace, name, Propagation::Background);
        Ok(())
    }

    /// Whether the claims of a pod are bound, so that its node can mount them.
    pub fn has_volumes(&self, pod: &Value) -> bool {
        self.claims(pod).all(|claim| claim.is_some_and(|claim| claim["status"]["phase"] == "Bound"))
    }

    /// Makes the directories of a pod's volumes, as its node does.
    pub fn mount(&mut self, pod: &Value) {
        let volumes: Vec<String> = self
            .claims(pod)
            .flatten()
            .filter_map(|claim| Some(claim["spec"]["volumeName"].as_str()?.to_owned()))
            .collect();
        self.directories.extend(volumes);
    }

    fn claims(&self, pod: &Value) -> impl Iterator<Item = Option<&Value>> {
        let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
        let names = volumes
            .into_iter()
            .filter_map(|volume| Some(volume["persistentVolumeClaim"]["claimName"].as_str()?.to_owned()));
        names.map(move |name| self.get(&PERSISTENT_VOLUME_CLAIMS, &namespace, &name))
    }

    /// The nodes that live say so: each renews its Lease, and denies what was said of it while it was silent.
    pub fn report_nodes(&mut self) {
        let (now, renewed) = (self.stamp(), self.now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
        let living = self.list(&NODES).filter(|node| !self.is_dead(&node["metadata"]["name"]));
        let reports = living.map(|node| {
            let mut conditions = node["status"]["conditions"].as_array().unwrap().clone();
            conditions.retain(|condition| condition["type"] == "Ready" || condition["status"] == "True");
            let is_believed = conditions[0]["status"] == "True";
            conditions[0]["status"] = json!("True");
            conditions[0]["lastHeartbeatTime"] = json!(now);
            (node["metadata"]["name"].as_str().unwrap().to_owned(), (!is_believed).then_some(conditions))
        });
        for (name, correction) in reports.collect::<Vec<_>>() {
            if self.get(&LEASES, NODE_LEASES, &name).is_some() {
                self.edit(&LEASES, NODE_LEASES, &name, |lease| lease["spec"]["renewTime"] = json!(renewed));
            } else {
                let spec = json!({ "holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": renewed });
                self.create(&LEASES, NODE_LEASES, json!({ "metadata": { "name": name }, "spec": spec })).unwrap();
            }
            if let Some(conditions) = correction {
                self.edit(&NODES, "", &name, |node| node["status"]["conditions"] = json!(conditions));
            }
        }
    }

    fn stamp(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    pub fn perform(&mut self, step: &Step) -> Result<Answer, Failure> {
        if let Some(pipeline) = self.pipeline().filter(|_| !matches!(step, Step::RemoveDirectory { .. })) {
            let answer = pipeline.perform(step);
            self.take_in();
            return answer;
        }
        match step {
            Step::Create { resource, namespace, object, .. } => {
                self.create(resource, namespace, object.clone()).map(Answer::Object)
            }
            Step::Update { resource, key, subresource, object, .. } => {
                let old = self.find(resource, key)?;
                if object["metadata"]["resourceVersion"] != old["metadata"]["resourceVersion"] {
                    return Err(failure(409, "the object has been modified"));
                }
                let new = merged_subresource(&old, object.clone(), subresource);
                Ok(self.store(resource, key.clone(), Some(&old), new).map_or(Answer::Gone, Answer::Object))
            }
            Step::Patch { target, subresource, kind, patch, .. } => {
                let old = self.check(target)?;
                let mut new = old.clone();
                match kind {
                    PatchKind::Merge | PatchKind::Apply { .. } => merge(&mut new, patch),
                    PatchKind::Strategic => merge_strategic(&mut new, patch),
                }
                let new = merged_subresource(&old, new, subresource);
                let stored = self.store(&target.resource, target.key.clone(), Some(&old), new);
                Ok(stored.map_or(Answer::Gone, Answer::Object))
            }
            Step::Delete { target, propagation, grace_seconds, .. } => {
                self.remove(target, *propagation, *grace_seconds)
            }
            Step::DeleteAll { resource, namespace } => {
                let keys: Vec<Key> = self.keys(resource, namespace);
                for key in keys {
                    let target = Target { resource: resource.clone(), key, uid: None, resource_version: None };
                    self.remove(&target, Some(Propagation::Background), None)?;
                }
                Ok(Answer::Done)
            }
            Step::Bind { pod, node, .. } => {
                let old = self.check(pod)?;
                if !old["spec"]["nodeName"].is_null() {
                    return Err(failure(409, "pod is already assigned to a node"));
                }
                let mut new = old.clone();
                new["spec"]["nodeName"] = json!(node);
                new["status"].as_object_mut().map(|status| status.remove("nominatedNodeName"));
                self.store(&PODS, pod.key.clone(), Some(&old), new);
                Ok(Answer::Done)
            }
            Step::RemoveDirectory { volume, .. } => {
                self.directories.remove(volume);
                Ok(Answer::Done)
            }
            Step::CheckAbsent(target) => {
                let found = self.stored(&target.resource, &target.key);
                let is_it = |o: &Value| target.uid.as_deref().is_none_or(|uid| o["metadata"]["uid"] == uid);
                Ok(Answer::Check(!found.is_some_and(is_it)))
            }
            Step::CheckAlive(target) => {
                let alive = self.check(target).is_ok_and(|o| o["metadata"]["deletionTimestamp"].is_null());
                Ok(Answer::Check(alive))
            }
            Step::CheckAllowed(_) => Ok(Answer::Check(true)),
            Step::CheckNoneLeft { resource, namespace } => Ok(Answer::Check(self.keys(resource, namespace).is_empty())),
            Step::ReadScale(_) => Err(failure(404, "the server could not find the requested resource")),
            Step::Together(_) => panic!("the executor splits these"),
        }
    }

    fn keys(&self, resource: &Resource, namespace: &str) -> Vec<Key> {
        let of = self.objects.get(resource).into_iter().flat_map(BTreeMap::keys);
        of.filter(|key| &*key.namespace == namespace).cloned().collect()
    }

    fn find(&self, resource: &Resource, key: &Key) -> Result<Value, Failure> {
        self.stored(resource, key).cloned().ok_or_else(|| failure(404, "not found"))
    }

    fn check(&self, target: &Target) -> Result<Value, Failure> {
        let object = self.find(&target.resource, &target.key)?;
        let metadata = &object["metadata"];
        let same_uid = target.uid.as_deref().is_none_or(|uid| metadata["uid"] == uid);
        let same_version = target.resource_version.as_deref().is_none_or(|v| metadata["resourceVersion"] == v);
        if same_uid && same_version { Ok(object) } else { Err(failure(409, "precondition failed")) }
    }

    fn remove(&mut self, target: &Target, how: Option<Propagation>, grace: Option<i64>) -> Result<Answer, Failure> {
        if let Some(pipeline) = self.pipeline() {
            let answer = pipeline.delete(target.clone(), how, grace);
            self.take_in();
            return answer;
        }
        let old = self.check(target)?;
        let mut new = old.clone();
        let finalizer = match how {
            Some(Propagation::Foreground) => Some("foregroundDeletion"),
            Some(Propagation::Orphan) => Some("orphan"),
            _ => None,
        };
        let finalizers = new["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        if let Some(name) = finalizer.filter(|name| !finalizers.contains(&json!(name))) {
            new["metadata"]["finalizers"] = json!([finalizers, vec![json!(name)]].concat());
        }
        let placed = target.resource == PODS && !new["spec"]["nodeName"].is_null();
        let seconds = if placed { grace.unwrap_or(30) } else { 0 };
        if new["metadata"]["deletionTimestamp"].is_null() || grace == Some(0) {
            new["metadata"]["deletionTimestamp"] = json!(self.stamp());
            new["metadata"]["deletionGracePeriodSeconds"] = json!(seconds);
        }
        let stored = self.store(&target.resource, target.key.clone(), Some(&old), new);
        Ok(stored.map_or(Answer::Gone, Answer::Object))
    }

    /// Stores the new state; `None` when that removes the object.
    fn store(&mut self, resource: &Resource, key: Key, old: Option<&Value>, mut new: Value) -> Option<Value> {
        if old == Some(&new) {
            return Some(new);
        }
        let metadata = &new["metadata"];
        let is_deleting = !metadata["deletionTimestamp"].is_null();
        let is_held = metadata["finalizers"].as_array().is_some_and(|f| !f.is_empty())
            || metadata["deletionGracePeriodSeconds"].as_i64().is_some_and(|s| s > 0)
            || new["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
        if let Some(old) = old.filter(|old| old["spec"] != new["spec"]) {
            new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap_or(0) + 1);
        }
        if is_deleting && !is_held {
            self.objects.get_mut(resource).map(|objects| objects.remove(&key));
            self.gone(resource, new);
            return None;
        }
        self.revision += 1;
        new["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.events.push((resource.clone(), Event::Put(new.clone())));
        self.objects.entry(resource.clone()).or_default().insert(key, new.clone());
        Some(new)
    }

    fn gone(&mut self, resource: &Resource, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.events.push((resource.clone(), Event::Gone(object)));
    }
}

pub fn failure(code: u16, message: &str) -> Failure {
    Failure { code, reason: String::new(), message: message.into() }
}

/// What a write to a subresource may change.
fn merged_subresource(old: &Value, new: Value, subresource: &str) -> Value {
    let mut result = old.clone();
    match subresource {
        "status" | "approval" => {
            result["status"] = new["status"].clone();
            // As for Deployments: a status update may change annotations, which then make no new generation.
            result["metadata"]["annotations"] = new["metadata"]["annotations"].clone();
        }
        "finalize" => result["spec"]["finalizers"] = new["spec"]["finalizers"].clone(),
        _ => {
            result = new;
            result["status"] = old["status"].clone();
        }
    }
    result["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    result
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("made one above").remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}

/// Merges conditions by type, the only list that our strategic patches touch.
fn merge_strategic(target: &mut Value, patch: &Value) {
    let mut patch = patch.clone();
    if let Some(conditions) = patch.pointer_mut("/status/conditions").map(Value::take) {
        let mut merged = target["status"]["conditions"].as_array().cloned().unwrap_or_default();
        for condition in conditions.as_array().into_iter().flatten() {
            match merged.iter_mut().find(|c| c["type"] == condition["type"]) {
                Some(old) => merge(old, condition),
                None => merged.push(condition.clone()),
            }
        }
        patch["status"]["conditions"] = json!(merged);
    }
    merge(target, &patch);
}
