//! Keeps a pod for each ordinal of a StatefulSet, with a name and storage of its own (API concepts: StatefulSets).
//!
//! In order, each pod waits until those before it are available, and goes only after those behind it; `Parallel` sets
//! don't wait. A name is a pod's only once: while one is leaving, none takes its place.

mod identity;
mod status;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::json;

use self::identity::{ordinal, pod_name, revision};
use super::history::{self, Current};
use crate::claim::{claim, claim_members};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, PatchKind, Plan, Regarding, Step, Target, owners_patch};
use crate::pods;
use crate::resource::{CONTROLLER_REVISIONS, Key, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS};
use crate::selector;
use crate::share::{Round, share};
use crate::world::{Delta, Object, World, controller_of};

/// Pods created or deleted by one plan.
const MAX_PODS_PER_PLAN: usize = 500;
const HASH_LABEL: &str = "controller.kubernetes.io/hash";
const COMPONENT: &str = "statefulset-controller";

pub struct StatefulSets;

impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        let meta = delta.object.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let mut wake_those = |concerns: &dyn Fn(&StatefulSet) -> bool| {
            let sets = world.stateful_sets.in_namespace(namespace).filter(|set| concerns(set));
            sets.for_each(|set| wake.now(Key::of(&set.metadata)));
        };
        match &delta.object {
            Object::StatefulSet(set) => wake.now(Key::of(&set.metadata)),
            Object::Pod(_) | Object::ControllerRevision(_) => {
                if controller_of(meta).is_none() && !delta.gone {
                    wake_those(&|set| {
                        set.spec.as_ref().is_some_and(|spec| selector::matches(&spec.selector, meta.labels.as_ref()))
                    });
                }
                pods::wake_owners(&STATEFUL_SETS, delta, wake);
            }
            Object::PersistentVolumeClaim(_) => {
                let name = meta.name.as_deref().unwrap_or_default();
                wake_those(&|set| storage::is_claim(set, name));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.stateful_sets.by_key(key) {
            Some(set) => reconcile(set, world, turn.now),
            None => Plan::none(),
        }
    }
}

pub fn reconcile(set: &StatefulSet, world: &World, now: Timestamp) -> Plan {
    let Some(spec) = &set.spec else { return Plan::none() };
    let meta = &set.metadata;
    let is_member = |pod: &Pod| ordinal(set, pod.metadata.name.as_deref().unwrap_or_default()).is_some();
    let members = claim_members(&STATEFUL_SETS, meta, &spec.selector, &world.pods, is_member);
    let revisions = claim(&STATEFUL_SETS, meta, &spec.selector, &CONTROLLER_REVISIONS, &world.controller_revisions);
    let steps: Vec<Step> = members.steps.into_iter().chain(revisions.steps).collect();
    if !steps.is_empty() {
        return Plan { steps, ..Plan::none() };
    }
    let revisions = history::sorted(revisions.mine);
    let owner = history::Owner {
        resource: &STATEFUL_SETS,
        meta,
        template: &spec.template,
        collisions: set.status.as_ref().and_then(|status| status.collision_count),
        hash_label: HASH_LABEL,
    };
    let update = match history::current(&owner, &revisions, world) {
        Current::Stored(revision) => revision,
        // What is going gets no new history.
        _ if pods::is_deleting(meta) => return Plan::none(),
        Current::Write(step) => return Plan { steps: vec![*step], ..Plan::none() },
        Current::Collision => return status::collided(set),
    };
    let named = set.status.as_ref().and_then(|status| status.current_revision.as_deref());
    let current = revisions.iter().find(|r| Some(history::name(r)) == named).unwrap_or(&update).clone();
    let with_ordinal = |pod: Arc<Pod>| Some((ordinal(set, pod.metadata.name.as_deref()?)?, pod));
    let pods = members.mine.into_iter().filter_map(with_ordinal).collect();
    Rollout { set, spec, world, now, pods, current, update }.plan(&revisions)
}

struct Rollout<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    world: &'a World,
    now: Timestamp,
    /// By ordinal.
    pods: BTreeMap<i32, Arc<Pod>>,
    /// What the pods below the partition are made from, and all others.
    current: Arc<ControllerRevision>,
    update: Arc<ControllerRevision>,
}

impl Rollout<'_> {
    fn plan(&self, revisions: &[Arc<ControllerRevision>]) -> Plan {
        let mut plan = Plan::none();
        let status = status::status(self);
        if self.set.status.as_ref() != Some(&status) {
            let updated = StatefulSet { status: Some(status), ..self.set.clone() };
            plan.update_status(&STATEFUL_SETS, &updated);
        }
        if pods::is_deleting(&self.set.metadata) {
            return plan;
        }
        if self.is_parallel() {
            self.all_at_once(&mut plan);
        } else {
            self.one_by_one(&mut plan);
        }
        let mut live: BTreeSet<&str> = self.pods.values().map(|pod| revision(pod)).collect();
        live.extend([history::name(&self.current), history::name(&self.update)]);
        plan.steps.extend(history::clean_up(self.spec.revision_history_limit, revisions, &live));
        let waits = self.pods.values().filter_map(|pod| pods::available_in(pod, self.min_ready(), self.now));
        if let Some(wait) = waits.filter(|wait| !wait.is_zero()).min() {
            plan.requeue(wait);
        }
        plan
    }

    fn is_parallel(&self) -> bool {
        self.spec.pod_management_policy.as_deref() == Some("Parallel")
    }

    fn min_ready(&self) -> i32 {
        self.spec.min_ready_seconds.unwrap_or(0)
    }

    fn ordinals(&self) -> Range<i32> {
        let start = self.spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        start..start.saturating_add(self.replicas())
    }

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn is_rolling(&self) -> bool {
        self.spec.update_strategy.as_ref().and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    /// Pods below this ordinal keep the current revision.
    fn partition(&self) -> i32 {
        self.ordinals().start.saturating_add(self.rolling_update().and_then(|r| r.partition).unwrap_or(0))
    }

    /// A pod that is made below this ordinal gets the current revision: what is below the partition, or, in an update that
    /// says nothing of one, what it has not reached yet.
    fn first_updated(&self) -> i32 {
        let says_rolling =
            self.spec.update_strategy.as_ref().is_some_and(|s| s.type_.as_deref() == Some("RollingUpdate"));
        if self.rolling_update().is_some() || !says_rolling {
            return self.partition();
        }
        let current = self.set.status.as_ref().and_then(|status| status.current_replicas).unwrap_or(0);
        self.ordinals().start.saturating_add(current)
    }

    /// Running, ready for long enough, and meant to stay.
    fn is_available(&self, pod: &Pod) -> bool {
        !pods::is_deleting(&pod.metadata) && is_running_and_available(pod, self.min_ready(), self.now)
    }

    /// Pods beyond the ordinals, highest first.
    fn condemned(&self) -> impl Iterator<Item = (i32, &Arc<Pod>)> {
        let wanted = self.ordinals();
        self.pods
            .iter()
            .rev()
            .filter(move |(ordinal, _)| !wanted.contains(ordinal))
            .map(|(ordinal, pod)| (*ordinal, pod))
    }

    /// The first thing to be done, which those after it wait for.
    fn one_by_one(&self, plan: &mut Plan) {
        for ordinal in self.ordinals() {
            let Some(pod) = self.pods.get(&ordinal) else {
                plan.steps.extend(self.create(ordinal, &mut plan.notes));
                return;
            };
            if pods::is_terminal(pod) {
                plan.steps.extend(self.delete_once(pod));
                return;
            }
            plan.steps.extend(self.mend(ordinal, pod));
            if !self.is_available(pod) {
                return;
            }
        }
        plan.steps.extend(self.condemned().flat_map(|(ordinal, pod)| self.own_claims(ordinal, pod, true)));
        let lowest_unavailable =
            self.condemned().filter(|(_, pod)| !self.is_available(pod)).last().map(|(ordinal, _)| ordinal);
        if let Some((ordinal, pod)) = self.condemned().next() {
            // A pod that is not available goes only if none below it is waited for.
            if self.is_available(pod) || lowest_unavailable == Some(ordinal) {
                plan.steps.extend(self.delete_once(pod));
            }
            return;
        }
        plan.steps.extend(self.replace_outdated());
    }

    fn all_at_once(&self, plan: &mut Plan) {
        let (mut create, mut delete) = (Vec::new(), Vec::new());
        for ordinal in self.ordinals() {
            match self.pods.get(&ordinal) {
                None => create.extend(self.create(ordinal, &mut plan.notes)),
                Some(pod) if pods::is_terminal(pod) => delete.extend(self.delete_once(pod)),
                Some(pod) => plan.steps.extend(self.mend(ordinal, pod)),
            }
        }
        for (ordinal, pod) in self.condemned() {
            plan.steps.extend(self.own_claims(ordinal, pod, true));
            delete.extend(self.delete_once(pod));
        }
        delete.extend(self.replace_outdated());
        // Claims come before the pods that use them.
        let is_pod = |step: &Step| matches!(step, Step::Create { resource, .. } if *resource == PODS);
        let (mut pods, claims): (Vec<Step>, Vec<Step>) = create.into_iter().partition(is_pod);
        pods.truncate(MAX_PODS_PER_PLAN);
        delete.truncate(MAX_PODS_PER_PLAN);
        plan.together(claims);
        plan.together(pods);
        plan.together(delete);
    }

    /// Pods of an old revision that go next.
    fn replace_outdated(&self) -> Vec<Step> {
        if !self.is_rolling() {
            return Vec::new();
        }
        let most = self.rolling_update().and_then(|rolling| rolling.max_unavailable.as_ref());
        match most {
            Some(most) => self.replace_several(share(most, self.replicas(), Round::Down).max(1)),
            None => self.replace_highest().into_iter().collect(),
        }
    }

    fn rolling_update(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        self.spec.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    fn is_outdated(&self, pod: &Pod) -> bool {
        revision(pod) != history::name(&self.update)
    }

    /// From the top down to the partition, whatever becomes of those below: the first of an old revision, once those above
    /// are available.
    fn replace_highest(&self) -> Option<Step> {
        let from_the_top = self.ordinals().rev().take_while(|ordinal| *ordinal >= self.partition());
        let waited_for = from_the_top.map(|ordinal| self.pods.get(&ordinal)).find(|pod| {
            pod.is_none_or(|pod| (self.is_outdated(pod) && pods::is_active(pod)) || !self.is_available(pod))
        });
        let pod = waited_for??;
        if self.is_outdated(pod) && !pods::is_terminal(pod) { self.delete_once(pod) } else { None }
    }

    /// The highest of an old revision, as many as may be unavailable.
    fn replace_several(&self, most: i32) -> Vec<Step> {
        let is_available = |ordinal: i32| self.pods.get(&ordinal).is_some_and(|pod| self.is_available(pod));
        let unavailable = pods::count(self.ordinals().filter(|ordinal| !is_available(*ordinal)).count());
        let mut room = most - unavailable;
        let mut steps = Vec::new();
        for ordinal in self.ordinals().rev().take_while(|ordinal| *ordinal >= self.partition()) {
            let Some(pod) = self.pods.get(&ordinal).filter(|pod| pods::is_active(pod)) else { continue };
            if !self.is_outdated(pod) {
                continue;
            }
            // To lose what is not available costs nothing.
            if is_available(ordinal) {
                if room <= 0 {
                    continue;
                }
                room -= 1;
            }
            steps.extend(self.delete_once(pod));
        }
        steps
    }

    /// The claims a pod still needs, then the pod; not the pod while an earlier claim is going.
    fn create(&self, ordinal: i32, notes: &mut Vec<Note>) -> Vec<Step> {
        if storage::is_stale(self.set, ordinal, self.world) {
            return Vec::new();
        }
        let mut steps = self.missing_claims(ordinal);
        let leaving: Vec<_> = storage::leaving(self.set, ordinal, self.world).collect();
        if !leaving.is_empty() {
            notes.push(self.held_up(ordinal, &leaving));
            return steps;
        }
        let from = if self.is_rolling() && ordinal < self.first_updated() { &self.current } else { &self.update };
        let template = history::template(from).unwrap_or_else(|| self.spec.template.clone());
        let pod = identity::pod(self.set, &template, from, ordinal);
        let namespace = self.set.metadata.namespace.as_deref().unwrap_or_default();
        let mut step = plan::create(&PODS, namespace, &pod);
        if let Step::Create { then, or_else, .. } = &mut step {
            *then = Some(self.told("create", "SuccessfulCreate", &pod));
            *or_else = Some(self.failed("create", "FailedCreate", &pod));
        }
        steps.push(step);
        steps
    }

    fn missing_claims(&self, ordinal: i32) -> Vec<Step> {
        let namespace = self.set.metadata.namespace.as_deref().unwrap_or_default();
        let (pod, set) = (pod_name(self.set, ordinal), self.set.metadata.name.as_deref().unwrap_or_default());
        let is_missing =
            |claim: &storage::Claim| self.world.persistent_volume_claims.get(namespace, &claim.name).is_none();
        let create = |claim: storage::Claim| {
            let new = storage::new_claim(self.set, &claim);
            let mut step = plan::create(&PERSISTENT_VOLUME_CLAIMS, namespace, &new);
            if let Step::Create { then, or_else, .. } = &mut step {
                let name = &claim.name;
                let message = format!("create Claim {name} Pod {pod} in StatefulSet {set} success");
                *then = Some(note(self.set, NoteType::Normal, "SuccessfulCreate", message));
                let message = format!("create Claim {name} for Pod {pod} in StatefulSet {set} failed error: {{error}}");
                *or_else = Some(note(self.set, NoteType::Warning, "FailedCreate", message));
            }
            step
        };
        storage::claims(self.set, ordinal).filter(is_missing).map(create).collect()
    }

    /// What a pod has lost of its identity and storage, and whose its claims should be.
    fn mend(&self, ordinal: i32, pod: &Pod) -> Vec<Step> {
        let mut plan = Plan::none();
        if pods::phase(pod) == "Pending" {
            plan.steps.extend(self.missing_claims(ordinal));
        }
        let labels = identity::missing_labels(pod, ordinal);
        if !labels.is_empty() && !pods::is_deleting(&pod.metadata) {
            let labels: BTreeMap<_, _> = labels.into_iter().collect();
            plan.merge_patch(Target::exact(&PODS, &pod.metadata), json!({ "metadata": { "labels": labels } }));
        }
        plan.steps.extend(self.own_claims(ordinal, pod, false));
        plan.steps
    }

    /// Makes a pod's claims belong to what they are to go with.
    fn own_claims(&self, ordinal: i32, pod: &Pod, is_condemned: bool) -> Vec<Step> {
        let step = |claim: &PersistentVolumeClaim| {
            let change = storage::ownership(self.set, claim, pod, is_condemned)?;
            let name = claim.metadata.name.as_deref().unwrap_or_default();
            Some(Step::Patch {
                target: Target::exact(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
                subresource: "",
                kind: PatchKind::Merge,
                patch: owners_patch(&change.owners),
                then: change.is_conflict.then(|| self.foreign_claim(name)),
            })
        };
        storage::stored(self.set, ordinal, self.world).filter_map(step).collect()
    }

    fn delete_once(&self, pod: &Pod) -> Option<Step> {
        (!pods::is_deleting(&pod.metadata)).then(|| Step::Delete {
            target: Target::new(&PODS, &pod.metadata),
            propagation: None,
            grace_seconds: None,
            then: Some(self.told("delete", "SuccessfulDelete", pod)),
            or_else: Some(self.failed("delete", "FailedDelete", pod)),
        })
    }

    fn told(&self, verb: &str, reason: &'static str, pod: &Pod) -> Note {
        let (pod, set) = (pod.metadata.name.as_deref(), self.set.metadata.name.as_deref());
        let (pod, set) = (pod.unwrap_or_default(), set.unwrap_or_default());
        note(self.set, NoteType::Normal, reason, format!("{verb} Pod {pod} in StatefulSet {set} successful"))
    }

    fn failed(&self, verb: &str, reason: &'static str, pod: &Pod) -> Note {
        let (pod, set) = (pod.metadata.name.as_deref(), self.set.metadata.name.as_deref());
        let (pod, set) = (pod.unwrap_or_default(), set.unwrap_or_default());
        let message = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {{error}}");
        note(self.set, NoteType::Warning, reason, message)
    }

    /// Why a pod is not made yet.
    fn held_up(&self, ordinal: i32, leaving: &[&str]) -> Note {
        let (pod, set) = (pod_name(self.set, ordinal), self.set.metadata.name.as_deref().unwrap_or_default());
        let errors: Vec<String> = leaving.iter().map(|claim| format!("pvc {claim} is being deleted")).collect();
        let error = if errors.len() == 1 { errors.concat() } else { format!("[{}]", errors.join(", ")) };
        let message = format!("create Pod {pod} in StatefulSet {set} failed error: {error}");
        note(self.set, NoteType::Warning, "FailedCreate", message)
    }

    fn foreign_claim(&self, claim: &str) -> Note {
        let message = format!(
            "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a managing controller, the \
             retention policy is ignored for this claim"
        );
        note(self.set, NoteType::Warning, "ConflictingController", message)
    }
}

fn is_running_and_available(pod: &Pod, min_ready: i32, now: Timestamp) -> bool {
    pods::phase(pod) == "Running" && pods::available_in(pod, min_ready, now).is_some_and(|wait| wait.is_zero())
}

fn note(set: &StatefulSet, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&STATEFUL_SETS, &set.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}
