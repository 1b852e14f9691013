//! Keeps as many pods as a ReplicaSet asks for (API reference: ReplicaSet v1 apps).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::claim::{Claimed, claim_active};
use crate::engine::{Controller, Turn, Wake};
use crate::execute::Failure;
use crate::plan::{self, Note, NoteType, Plan, Regarding, Step, Target};
use crate::pods;
use crate::ranking::Rank;
use crate::resource::{Key, PODS, REPLICA_SETS, Resource};
use crate::selector;
use crate::time::stamp;
use crate::world::{Delta, Object, World, controller_of};

/// Pods created or deleted by one plan.
const MAX_PODS_PER_PLAN: usize = 500;

/// As which kind a set is kept: a ReplicationController is a ReplicaSet in all but its name and its status.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    pub resource: &'static Resource,
    pub component: &'static str,
    pub set: &'a ReplicaSet,
}

pub struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::ReplicaSet(set) => wake.now(Key::of(&set.metadata)),
            Object::Pod(pod) => {
                pods::wake_owners(&REPLICA_SETS, delta, wake);
                if controller_of(&pod.metadata).is_none() && !delta.gone {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    for set in world.replica_sets.in_namespace(namespace).filter(|set| selects(set, pod)) {
                        wake.now(Key::of(&set.metadata));
                    }
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.replica_sets.by_key(key) {
            Some(set) => {
                let kept = Kept { resource: &REPLICA_SETS, component: "replicaset-controller", set };
                reconcile(kept, world, turn.now, turn.last_failure.as_ref(), |status| write_status(set, status))
            }
            None => Plan::none(),
        }
    }
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, pod.metadata.labels.as_ref()))
}

fn write_status(set: &ReplicaSet, status: ReplicaSetStatus) -> Option<Step> {
    let updated = ReplicaSet { status: Some(status), ..set.clone() };
    (updated.status != set.status).then(|| plan::update(&REPLICA_SETS, &updated, "status", None))
}

/// `write_status` gives the write of a status, if it differs from the stored one.
pub fn reconcile(
    kept: Kept,
    world: &World,
    now: Timestamp,
    failure: Option<&Failure>,
    write_status: impl FnOnce(ReplicaSetStatus) -> Option<Step>,
) -> Plan {
    let mut plan = Plan::none();
    let set = kept.set;
    let Some(spec) = &set.spec else { return plan };
    let Claimed { mine, steps } = claim_active(kept.resource, &set.metadata, &spec.selector, &world.pods);
    if !steps.is_empty() {
        plan.steps = steps;
        return plan;
    }
    let active: Vec<&Arc<Pod>> = mine.iter().filter(|pod| pods::is_active(pod)).collect();
    let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
    let scaling = match (pods::is_deleting(&set.metadata), active.len()) {
        (true, _) => None,
        (false, have) if have < wanted => Some(create(kept, wanted - have)),
        (false, have) if have > wanted => Some(delete(kept, &active, have - wanted, world, now)),
        _ => None,
    };
    // The answers to these writes bring the set back at once, so its status can wait until they are counted.
    if let (Some(scaling), None) = (&scaling, failure) {
        plan.step(scaling.clone());
        return plan;
    }
    let reason = if active.len() < wanted { "FailedCreate" } else { "FailedDelete" };
    let failure = failure.filter(|_| scaling.is_some()).map(|failure| (reason, failure.message.as_str()));
    plan.steps.extend(write_status(status(set, &mine, failure, now)));
    plan.steps.extend(scaling);
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let waiting =
        active.iter().filter_map(|pod| pods::available_in(pod, min_ready, now)).filter(|wait| !wait.is_zero());
    if let Some(wait) = waiting.min() {
        plan.requeue(wait);
    }
    plan
}

fn create(kept: Kept, missing: usize) -> Step {
    let set = kept.set;
    let template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let owner = pods::controller_ref(kept.resource, &set.metadata);
    let mut step = plan::create(&PODS, namespace, &pods::from_template(&template, namespace, owner));
    if let Step::Create { then, or_else, .. } = &mut step {
        *then = Some(note(kept, NoteType::Normal, "SuccessfulCreate", "Created pod: {name}".into()));
        *or_else = Some(note(kept, NoteType::Warning, "FailedCreate", "Error creating: {error}".into()));
    }
    Step::Together(vec![step; missing.min(MAX_PODS_PER_PLAN)])
}

fn delete(kept: Kept, active: &[&Arc<Pod>], excess: usize, world: &World, now: Timestamp) -> Step {
    let mut ranked: Vec<&Pod> = active.iter().map(|pod| &***pod).collect();
    let related = related_pods_per_node(kept.set, world);
    ranked.sort_by_cached_key(|pod| {
        let neighbours = pods::node_name(pod).and_then(|node| related.get(node)).copied().unwrap_or(0);
        Rank::of(pod, neighbours, now)
    });
    let doomed = ranked.into_iter().take(excess.min(MAX_PODS_PER_PLAN));
    let steps = doomed.map(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Step::Delete {
            target: Target::new(&PODS, &pod.metadata),
            propagation: None,
            grace_seconds: None,
            then: Some(note(kept, NoteType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"))),
            or_else: Some(note(kept, NoteType::Warning, "FailedDelete", "Error deleting: {error}".into())),
        }
    });
    Step::Together(steps.collect())
}

/// Active pods on each node of all ReplicaSets that share this one's controller.
fn related_pods_per_node<'a>(set: &ReplicaSet, world: &'a World) -> HashMap<&'a str, usize> {
    let mut count = HashMap::new();
    let own = set.metadata.uid.as_deref();
    let siblings =
        controller_of(&set.metadata).into_iter().flat_map(|owner| world.replica_sets.controlled_by(&owner.uid));
    let uids: std::collections::BTreeSet<&str> =
        siblings.filter_map(|sibling| sibling.metadata.uid.as_deref()).chain(own).collect();
    for pod in uids.into_iter().flat_map(|uid| world.pods.controlled_by(uid)).filter(|pod| pods::is_active(pod)) {
        if let Some(node) = pods::node_name(pod) {
            *count.entry(node).or_default() += 1;
        }
    }
    count
}

fn status(set: &ReplicaSet, mine: &[Arc<Pod>], failure: Option<(&str, &str)>, now: Timestamp) -> ReplicaSetStatus {
    let spec = set.spec.clone().unwrap_or_default();
    let template_labels = spec.template.and_then(|t| t.metadata).and_then(|m| m.labels).unwrap_or_default();
    let min_ready = spec.min_ready_seconds.unwrap_or(0);
    let active = || mine.iter().filter(|pod| pods::is_active(pod));
    let positive = |n: usize| pods::positive(pods::count(n));
    let labeled = active().filter(|pod| selector::contains(pod.metadata.labels.as_ref(), &template_labels));
    let available = active().filter(|pod| pods::available_in(pod, min_ready, now).is_some_and(|wait| wait.is_zero()));
    let terminating = mine.iter().filter(|pod| pods::is_deleting(&pod.metadata) && !pods::is_terminal(pod));
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: pods::count(active().count()),
        fully_labeled_replicas: positive(labeled.count()),
        ready_replicas: positive(active().filter(|pod| pods::is_ready(pod)).count()),
        available_replicas: positive(available.count()),
        terminating_replicas: Some(pods::count(terminating.count())),
        observed_generation: set.metadata.generation,
        conditions: conditions(old.conditions.unwrap_or_default(), failure, now),
    }
}

/// The conditions with ReplicaFailure set or removed.
fn conditions(
    mut conditions: Vec<ReplicaSetCondition>,
    failure: Option<(&str, &str)>,
    now: Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let has = conditions.iter().any(|c| c.type_ == "ReplicaFailure");
    match failure {
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some((reason, message)) if !has => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(stamp(now)),
        }),
        Some(_) => {}
    }
    Some(conditions).filter(|c| !c.is_empty())
}

fn note(kept: Kept, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(kept.resource, &kept.set.metadata);
    Note { component: kept.component, regarding, note_type, reason, action: "", message }
}
