//! Worlds from YAML and plans as text, for table-driven tests.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use crate::execute::Outcome;
use crate::plan::{NoteType, Plan, Step, Target};
use crate::resource::{self, Resource};
use crate::world::{Change, Delta, Object, WATCHED, World, watches};

/// For a Service that selects `app: web`: a pod that is ready, one that starts, one that leaves, one that has ended, and one
/// of another app.
pub const PODS: &str = "
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: ready, labels: {app: web}}
spec: {nodeName: one, hostname: h, subdomain: web, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.64.0.1}], conditions: [{type: Ready, status: 'True', lastTransitionTime: 2024-01-01T00:00:05Z}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: starting, labels: {app: web}}
spec: {nodeName: one, containers: [{name: c, ports: [{name: http, containerPort: 9090}]}]}
status: {phase: Running, podIPs: [{ip: 10.64.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: leaving, labels: {app: web}, deletionTimestamp: 2024-01-01T00:00:09Z}
spec: {nodeName: one, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIPs: [{ip: 10.64.0.3}], conditions: [{type: Ready, status: 'True'}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: ended, labels: {app: web}}
spec: {nodeName: one, containers: []}
status: {phase: Succeeded, podIPs: [{ip: 10.64.0.4}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: other, labels: {app: db}}
spec: {nodeName: one, containers: []}
status: {phase: Running, podIPs: [{ip: 10.64.0.5}]}
";

/// The API objects of a stream of YAML documents. Uids and resource versions that are missing are made up.
pub fn objects(yaml: &str) -> Vec<Object> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let made = documents.into_iter().enumerate().map(|(index, mut object)| {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let (resource, _) = WATCHED.iter().find(|(resource, _)| resource.kind == kind).unwrap();
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("{}-uid", metadata["name"].as_str().unwrap()).into();
        }
        if metadata["resourceVersion"].is_null() {
            metadata["resourceVersion"] = (index + 1).to_string().into();
        }
        Object::decode(resource, object).unwrap()
    });
    made.collect()
}

/// A synced world of these objects, and what its controllers would have been told.
pub fn world(yaml: &str) -> (World, Vec<Delta>) {
    let mut world = World::default();
    let mut deltas = Vec::new();
    let objects = objects(yaml);
    let resources: Vec<Resource> = WATCHED.iter().map(|(resource, _)| (*resource).clone()).collect();
    world.apply(Change::Discovered { resources, scalable: BTreeSet::new() });
    for (resource, part) in watches() {
        let listed = objects.iter().filter(|o| o.resource() == resource && part.is_none_or(|part| part.holds(o)));
        let (resource, objects) = (Arc::new(resource.clone()), listed.cloned().collect());
        deltas.extend(world.apply(Change::Relisted { resource, bare: false, part, objects, at: 1_000 }));
    }
    (world, deltas)
}

/// A plan, a line a step.
pub fn text(plan: &Plan) -> String {
    let mut out = String::new();
    for note in &plan.notes {
        let type_ = if note.note_type == NoteType::Normal { "Normal" } else { "Warning" };
        writeln!(out, "note {type_} {} on {}: {}", note.reason, note.regarding.name, note.message).unwrap();
    }
    for step in &plan.steps {
        write_step(&mut out, step, "");
    }
    if let Some(wait) = plan.requeue_after {
        writeln!(out, "look again in {wait:?}").unwrap();
    }
    out
}

fn write_step(out: &mut String, step: &Step, indent: &str) {
    let at = |target: &Target| {
        let version = target.resource_version.as_ref().map(|v| format!(" at {v}")).unwrap_or_default();
        format!("{} {}{version}", target.resource.plural, target.key)
    };
    let line = match step {
        Step::Create { resource, namespace, object, .. } => {
            format!("create {} in {namespace}: {object}", resource.plural)
        }
        Step::Update { resource, key, subresource, object, .. } => {
            let shown = if *subresource == "status" { &object["status"] } else { object };
            format!("update {} {key} {subresource}: {shown}", resource.plural)
        }
        Step::Patch { target, subresource, patch, .. } => format!("patch {} {subresource}: {patch}", at(target)),
        Step::Delete { target, propagation, grace_seconds, .. } => {
            let how = propagation.map(|p| format!(" {p:?}")).unwrap_or_default();
            let grace = grace_seconds.map(|s| format!(" within {s} s")).unwrap_or_default();
            format!("delete {}{how}{grace}", at(target))
        }
        Step::DeleteAll { resource, namespace } => format!("delete all {} in {namespace}", resource.plural),
        Step::Bind { pod, node, .. } => format!("bind {} to {node}", at(pod)),
        Step::RemoveDirectory { node, volume, .. } => format!("remove directory {volume} of {node}"),
        Step::ReadScale(target) => format!("read scale of {}", at(target)),
        Step::CheckAbsent(target) => format!("check absent {}", at(target)),
        Step::CheckAlive(target) => format!("check alive {}", at(target)),
        Step::CheckNoneLeft { resource, namespace } => format!("check no {} in {namespace}", resource.plural),
        Step::CheckAllowed(reviews) => format!("check allowed {}", Value::from(reviews.clone())),
        Step::Together(steps) => {
            writeln!(out, "{indent}together:").unwrap();
            return steps.iter().for_each(|step| write_step(out, step, "  "));
        }
    };
    writeln!(out, "{indent}{line}").unwrap();
}

/// One controller brought up to date with a world, reconciling one key at a time.
pub struct Bench<C> {
    pub world: World,
    pub controller: C,
    pub rng: rand::rngs::StdRng,
}

impl<C: crate::engine::Controller> Bench<C> {
    pub fn new(mut controller: C, yaml: &str) -> Self {
        use rand::SeedableRng;
        let (world, deltas) = world(yaml);
        let mut wake = crate::engine::Wake::default();
        for delta in &deltas {
            controller.observe(delta, &world, &mut wake);
        }
        Self { world, controller, rng: rand::rngs::StdRng::seed_from_u64(7) }
    }

    /// Takes in a change, as the engine would, and says whether it wakes any key.
    pub fn wakes(&mut self, change: Change) -> bool {
        let mut wake = crate::engine::Wake::default();
        for delta in self.world.apply(change) {
            self.controller.observe(&delta, &self.world, &mut wake);
        }
        !wake.is_empty()
    }

    pub fn reconcile(&mut self, namespace: &str, name: &str, now: &str) -> Plan {
        let key = resource::Key::new(namespace, name);
        let mut turn = crate::engine::Turn { now: now.parse().unwrap(), rng: &mut self.rng, last_failure: None };
        self.controller.reconcile(&key, &self.world, &mut turn)
    }

    pub fn finish(&mut self, namespace: &str, name: &str, outcome: &Outcome) {
        self.controller.finished(&resource::Key::new(namespace, name), outcome);
    }
}
