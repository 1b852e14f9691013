//! Keeps one pod of a DaemonSet on every node that fits (API concepts: DaemonSet).

mod backoff;
mod nodes;
mod rollout;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use self::backoff::Backoff;
use self::rollout::{Judge, Moves, Place, Places};
use super::history::{self, Current};
use crate::claim::claim;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Step, Target};
use crate::pods;
use crate::resource::{CONTROLLER_REVISIONS, DAEMON_SETS, Key, PODS};
use crate::selector;
use crate::world::{Delta, Object, World, controller_of};

/// Pods created or deleted by one plan.
const MAX_PODS_PER_PLAN: usize = 250;
const HASH_LABEL: &str = "controller-revision-hash";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";
const COMPONENT: &str = "daemonset-controller";

#[derive(Default)]
pub struct DaemonSets {
    backoff: Backoff,
}

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::DaemonSet(set) => wake.now(Key::of(&set.metadata)),
            Object::Pod(_) | Object::ControllerRevision(_) => {
                pods::wake_owners(&DAEMON_SETS, delta, wake);
                let meta = delta.object.meta();
                if controller_of(meta).is_none() && !delta.gone {
                    let namespace = meta.namespace.as_deref().unwrap_or_default();
                    let selects = |set: &&Arc<DaemonSet>| {
                        set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, meta.labels.as_ref()))
                    };
                    let sets = world.daemon_sets.in_namespace(namespace).filter(selects);
                    sets.for_each(|set| wake.now(Key::of(&set.metadata)));
                }
            }
            Object::Node(node) => {
                let is_same = matches!(&delta.before, Some(Object::Node(before)) if same_ground(before, node));
                if delta.gone || !is_same {
                    world.daemon_sets.iter().for_each(|set| wake.now(Key::of(&set.metadata)));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.daemon_sets.by_key(key) {
            Some(set) => reconcile(set, world, &mut self.backoff, turn.now),
            None => Plan::none(),
        }
    }
}

/// Nothing has changed in the node that decides who runs there.
fn same_ground(a: &Node, b: &Node) -> bool {
    let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
    a.metadata.labels == b.metadata.labels && taints(a) == taints(b)
}

fn reconcile(set: &DaemonSet, world: &World, backoff: &mut Backoff, now: Timestamp) -> Plan {
    let Some(spec) = &set.spec else { return Plan::none() };
    if selector::is_empty(&spec.selector) {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        let mut plan = Plan::none();
        plan.note(note(set, NoteType::Warning, "SelectingAll", message.into()));
        return plan;
    }
    let meta = &set.metadata;
    let members = claim(&DAEMON_SETS, meta, &spec.selector, &PODS, &world.pods);
    let revisions = claim(&DAEMON_SETS, meta, &spec.selector, &CONTROLLER_REVISIONS, &world.controller_revisions);
    let steps: Vec<Step> = members.steps.into_iter().chain(revisions.steps).collect();
    if !steps.is_empty() {
        return Plan { steps, ..Plan::none() };
    }
    if pods::is_deleting(meta) {
        return Plan::none();
    }
    let revisions = history::sorted(revisions.mine);
    let owner = history::Owner {
        resource: &DAEMON_SETS,
        meta,
        template: &spec.template,
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
        hash_label: HASH_LABEL,
    };
    let current = match history::current(&owner, &revisions, world) {
        Current::Stored(revision) => revision,
        Current::Write(step) => return Plan { steps: vec![*step], ..Plan::none() },
        Current::Collision => return collided(set),
    };
    let mut members = members.mine;
    // Those that have their node come first: they may run.
    members.sort_by_cached_key(|pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
        (pods::node_name(pod).is_none(), created, pod.metadata.name.clone())
    });
    let alike = revisions.iter().filter(|revision| revision.data == current.data).map(|revision| hash(revision));
    let judge = Judge { set, spec, hash: hash(&current), alike: alike.collect(), now };
    let places = places(set, &members, world);
    let mut plan = Plan::none();
    let status = status(&judge, &places);
    if set.status.as_ref() != Some(&status) {
        plan.update_status(&DAEMON_SETS, &DaemonSet { status: Some(status), ..set.clone() });
    }
    let mut moves = judge.manage(&places);
    if moves.is_empty() {
        moves = judge.roll(&places);
    }
    carry_out(&mut plan, &judge, moves, backoff);
    let live: BTreeSet<&str> = members.iter().filter_map(|pod| label(pod)).chain([judge.hash]).collect();
    let names: BTreeSet<&str> = revisions.iter().filter(|r| live.contains(hash(r))).map(|r| history::name(r)).collect();
    plan.steps.extend(history::clean_up(spec.revision_history_limit, &revisions, &names));
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let waits = members.iter().filter_map(|pod| pods::available_in(pod, min_ready, now));
    if let Some(wait) = waits.filter(|wait| !wait.is_zero()).min() {
        plan.requeue(wait);
    }
    plan
}

fn hash(revision: &ControllerRevision) -> &str {
    let labels = revision.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(HASH_LABEL)).map(String::as_str).unwrap_or_default()
}

fn label(pod: &Pod) -> Option<&str> {
    pod.metadata.labels.as_ref()?.get(HASH_LABEL).map(String::as_str)
}

/// Every node, and every other that a pod is meant for. A pod that has ended and is being deleted is in nobody's way,
/// whatever finalizers hold it.
fn places<'a>(set: &DaemonSet, members: &'a [Arc<Pod>], world: &'a World) -> Places<'a> {
    let mut places: Places = world
        .nodes
        .iter()
        .map(|node| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            (name, Place { fit: Some(nodes::fit(set, node)), pods: Vec::new() })
        })
        .collect();
    for pod in members.iter().filter(|pod| !(pods::is_terminal(pod) && pods::is_deleting(&pod.metadata))) {
        if let Some(node) = nodes::target(pod) {
            places.entry(node).or_insert(Place { fit: None, pods: Vec::new() }).pods.push(pod);
        }
    }
    places
}

fn status(judge: &Judge, places: &Places) -> DaemonSetStatus {
    let old = judge.set.status.clone().unwrap_or_default();
    let mut status = DaemonSetStatus {
        observed_generation: judge.set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
        ..DaemonSetStatus::default()
    };
    let (mut updated, mut available) = (0, 0);
    for place in places.values() {
        let Some(fit) = place.fit else { continue };
        let oldest = place.pods.first();
        if !fit.runs {
            status.number_misscheduled += i32::from(oldest.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        if let Some(pod) = oldest {
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pods::is_ready(pod));
            available += i32::from(judge.is_available(pod));
            updated += i32::from(judge.is_updated(pod));
        }
    }
    status.updated_number_scheduled = pods::positive(updated);
    status.number_available = pods::positive(available);
    status.number_unavailable = pods::positive(status.desired_number_scheduled - available);
    status
}

fn carry_out(plan: &mut Plan, judge: &Judge, moves: Moves, backoff: &mut Backoff) {
    let set = judge.set;
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let mut doomed = moves.delete;
    for (node, pod) in moves.replace {
        if let Some(wait) = backoff.replace(uid, node, judge.now) {
            plan.requeue(wait);
            continue;
        }
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        let at = format!("{}/{} on node {node}", namespace.unwrap_or_default(), name.unwrap_or_default());
        plan.note(if pods::phase(pod) == "Failed" {
            let message = format!("Found failed daemon pod {at}, will try to kill it");
            note(set, NoteType::Warning, "FailedDaemonPod", message)
        } else {
            let message = format!("Found succeeded daemon pod {at}, will try to delete it");
            note(set, NoteType::Normal, "SucceededDaemonPod", message)
        });
        doomed.push(pod);
    }
    plan.together(moves.create.iter().take(MAX_PODS_PER_PLAN).map(|node| create(judge, node)));
    plan.together(doomed.iter().take(MAX_PODS_PER_PLAN).map(|pod| delete(set, pod)));
}

fn create(judge: &Judge, node: &str) -> Step {
    let (set, spec): (&DaemonSet, &DaemonSetSpec) = (judge.set, judge.spec);
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let owner = pods::controller_ref(&DAEMON_SETS, &set.metadata);
    let mut pod = pods::from_template(&spec.template, namespace, owner);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(HASH_LABEL.into(), judge.hash.into());
    if let Some(generation) = set.metadata.annotations.as_ref().and_then(|a| a.get(TEMPLATE_GENERATION)) {
        labels.insert(TEMPLATE_GENERATION_LABEL.into(), generation.clone());
    }
    if let Some(spec) = &mut pod.spec {
        nodes::tolerate(spec);
        nodes::pin(spec, node);
    }
    let mut step = plan::create(&PODS, namespace, &pod);
    if let Step::Create { then, or_else, .. } = &mut step {
        *then = Some(note(set, NoteType::Normal, "SuccessfulCreate", "Created pod: {name}".into()));
        *or_else = Some(note(set, NoteType::Warning, "FailedCreate", "Error creating: {error}".into()));
    }
    step
}

fn delete(set: &DaemonSet, pod: &Pod) -> Step {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Step::Delete {
        target: Target::new(&PODS, &pod.metadata),
        propagation: None,
        grace_seconds: None,
        then: Some(note(set, NoteType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"))),
        or_else: Some(note(set, NoteType::Warning, "FailedDelete", "Error deleting: {error}".into())),
    }
}

/// The next revision's name takes one more collision in.
fn collided(set: &DaemonSet) -> Plan {
    let mut status = set.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    let mut plan = Plan::none();
    plan.update_status(&DAEMON_SETS, &DaemonSet { status: Some(status), ..set.clone() });
    plan
}

fn note(set: &DaemonSet, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&DAEMON_SETS, &set.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}
