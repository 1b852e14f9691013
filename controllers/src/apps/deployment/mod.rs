//! Brings a Deployment's pods from one template to the next (API concepts: Deployments).
//!
//! Each plan takes one step of a rollout, from what the ReplicaSets say now; what the step causes brings the Deployment
//! back for the next.

mod bounds;
mod revisions;
mod rollback;
mod scale;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use serde_json::json;

use self::bounds::Bounds;
use self::revisions::REVISION;
use self::scale::{Resize, spec_replicas};
use self::status::Facts;
use super::hash::template_hash;
use crate::claim::{Claimed, claim};
use crate::engine::{Controller, Turn, Wake};
use crate::execute::Failure;
use crate::plan::{self, Note, NoteType, PatchKind, Plan, Regarding, Step, Target};
use crate::pods::{self, annotation};
use crate::resource::{DEPLOYMENTS, Key, REPLICA_SETS};
use crate::selector;
use crate::world::{Delta, Object, World, controller_of};

const COMPONENT: &str = "deployment-controller";

pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Deployment(deployment) => wake.now(Key::of(&deployment.metadata)),
            Object::ReplicaSet(set) => {
                let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
                pods::wake_owners(&DEPLOYMENTS, delta, wake);
                if controller_of(&set.metadata).is_none() && !delta.gone {
                    for deployment in world.deployments.in_namespace(namespace) {
                        let selector = deployment.spec.as_ref().map(|spec| &spec.selector);
                        if selector.is_some_and(|s| selector::matches(s, set.metadata.labels.as_ref())) {
                            wake.now(Key::of(&deployment.metadata));
                        }
                    }
                }
            }
            // Recreate waits for the last old pod to end.
            Object::Pod(pod) if delta.gone || pods::is_terminal(pod) => {
                let set = controller_of(&pod.metadata).and_then(|o| {
                    world.replica_sets.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &o.name)
                });
                let deployment = set.and_then(|set| {
                    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
                    world.deployments.get(namespace, &controller_of(&set.metadata)?.name)
                });
                let is_recreate = |d: &&Arc<Deployment>| d.spec.as_ref().is_some_and(|s| !bounds::is_rolling(s));
                if let Some(deployment) = deployment.filter(is_recreate) {
                    wake.now(Key::of(&deployment.metadata));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.deployments.by_key(key) {
            Some(deployment) => reconcile(deployment, world, turn.now, turn.last_failure.as_ref()),
            None => Plan::none(),
        }
    }
}

pub fn reconcile(deployment: &Deployment, world: &World, now: Timestamp, failure: Option<&Failure>) -> Plan {
    let Some(spec) = &deployment.spec else { return Plan::none() };
    if selector::is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        let mut plan = Plan::none();
        plan.note(note(deployment, NoteType::Warning, "SelectingAll", message.into()));
        let mut updated = deployment.clone();
        updated.status.get_or_insert_default().observed_generation = deployment.metadata.generation;
        if updated.status != deployment.status {
            plan.update_status(&DEPLOYMENTS, &updated);
        }
        return plan;
    }
    let meta = &deployment.metadata;
    let Claimed { mine, steps } = claim(&DEPLOYMENTS, meta, &spec.selector, &REPLICA_SETS, &world.replica_sets);
    if !steps.is_empty() {
        return Plan { steps, ..Plan::none() };
    }
    let (new, old) = revisions::split(deployment, mine);
    let rollout = Rollout { deployment, spec, bounds: Bounds::of(spec), new, old, world, now, failure };
    rollout.plan()
}

struct Rollout<'a> {
    deployment: &'a Deployment,
    spec: &'a DeploymentSpec,
    bounds: Bounds,
    new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    old: Vec<Arc<ReplicaSet>>,
    world: &'a World,
    now: Timestamp,
    failure: Option<&'a Failure>,
}

/// What the rest of a plan is to be.
enum Move {
    Sizes(Vec<Resize>),
    CreateNew,
    Nothing,
}

impl Rollout<'_> {
    fn plan(&self) -> Plan {
        if pods::is_deleting(&self.deployment.metadata) {
            return self.finish(Plan::none(), false);
        }
        if let Some(plan) = self.annotate_new() {
            return plan;
        }
        let is_paused = self.spec.paused == Some(true);
        let sets: Vec<_> = self.old.iter().chain(&self.new).collect();
        if let Some(wanted) = rollback::wanted(self.deployment).filter(|_| !is_paused) {
            return rollback::plan(self.deployment, &sets, wanted);
        }
        let is_rescaling = is_paused || scale::is_scaling(&self.bounds, &sets);
        let next = if is_rescaling {
            let deployed = self.deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or(0);
            let is_rolling = bounds::is_rolling(self.spec);
            Move::Sizes(scale::rescale(&self.bounds, is_rolling, deployed, self.new.as_ref(), &self.old))
        } else if bounds::is_rolling(self.spec) {
            self.roll()
        } else {
            self.recreate()
        };
        let mut plan = Plan::none();
        match next {
            Move::Sizes(sizes) => {
                plan.steps.extend(sizes.iter().filter_map(|resize| self.resize(resize)));
                if is_paused {
                    self.clean_up(&mut plan);
                }
                self.finish(plan, !is_rescaling)
            }
            Move::CreateNew => self.create_new(),
            Move::Nothing => {
                let stored = self.deployment.status.clone().unwrap_or_default();
                if self.facts(!is_rescaling).is_complete(&stored) {
                    self.clean_up(&mut plan);
                }
                self.finish(plan, !is_rescaling)
            }
        }
    }

    fn clean_up(&self, plan: &mut Plan) {
        for set in revisions::surplus(self.spec.revision_history_limit, &self.old) {
            plan.delete(Target::exact(&REPLICA_SETS, &set.metadata));
        }
    }

    /// One step of a rolling update: grow the new, or else shrink the old.
    fn roll(&self) -> Move {
        let Some(new) = &self.new else { return Move::CreateNew };
        if let Some(grown) = scale::grow_new(&self.bounds, new, &self.old) {
            return Move::Sizes(vec![grown]);
        }
        match scale::shrink_old(&self.bounds, Some(new), &self.old) {
            sizes if sizes.is_empty() => Move::Nothing,
            sizes => Move::Sizes(sizes),
        }
    }

    /// One step of a recreation: end everything old, and only then start the new.
    fn recreate(&self) -> Move {
        let active = self.old.iter().filter(|set| spec_replicas(set) > 0);
        let ended: Vec<_> = active.map(|set| Resize { set: set.clone(), replicas: 0 }).collect();
        if !ended.is_empty() {
            return Move::Sizes(ended);
        }
        if self.old.iter().any(|set| self.still_runs(set)) {
            return Move::Nothing;
        }
        match &self.new {
            None => Move::CreateNew,
            Some(new) if spec_replicas(new) != self.bounds.replicas => {
                Move::Sizes(vec![Resize { set: new.clone(), replicas: self.bounds.replicas }])
            }
            Some(_) => Move::Nothing,
        }
    }

    fn still_runs(&self, set: &ReplicaSet) -> bool {
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        status::actual(set) > 0 || self.world.pods.controlled_by(uid).any(|pod| !pods::is_terminal(pod))
    }

    /// Sets a ReplicaSet's size, and notes for which size of the Deployment that was.
    fn resize(&self, resize: &Resize) -> Option<Step> {
        let Resize { set, replicas } = resize;
        let before = spec_replicas(set);
        let sizes = revisions::size_annotations(&self.bounds);
        let noted = sizes.iter().all(|(name, value)| annotation(&set.metadata, name) == Some(value));
        if before == *replicas && noted {
            return None;
        }
        let direction = if *replicas > before { "up" } else { "down" };
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Scaled {direction} replica set {name} from {before} to {replicas}");
        let then = (before != *replicas).then(|| note(self.deployment, NoteType::Normal, "ScalingReplicaSet", message));
        Some(Step::Patch {
            target: Target::exact(&REPLICA_SETS, &set.metadata),
            subresource: "",
            kind: PatchKind::Merge,
            patch: json!({
                "metadata": { "annotations": std::collections::BTreeMap::from(sizes) },
                "spec": { "replicas": replicas },
            }),
            then,
        })
    }

    fn create_new(&self) -> Plan {
        let collisions = self.collisions();
        let hash = self.hash();
        let replicas = if bounds::is_rolling(self.spec) {
            scale::new_set_size(&self.bounds, &self.old, 0)
        } else {
            self.bounds.replicas
        };
        let set = revisions::new_set(self.deployment, &hash, replicas, self.next_revision());
        let name = set.metadata.name.clone().unwrap_or_default();
        let namespace = self.deployment.metadata.namespace.as_deref().unwrap_or_default();
        let mut plan = Plan::none();
        if self.world.replica_sets.get(namespace, &name).is_some() {
            // Another template, or another owner, has this name: the next hash takes the count in.
            let mut updated = self.deployment.clone();
            updated.status.get_or_insert_default().collision_count = Some(collisions.unwrap_or(0) + 1);
            plan.update_status(&DEPLOYMENTS, &updated);
            return plan;
        }
        if self.failure.is_some() {
            plan = self.finish(plan, true);
        }
        let mut step = plan::create(&REPLICA_SETS, namespace, &set);
        if let Step::Create { then, or_else, .. } = &mut step {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            *then = (replicas > 0).then(|| note(self.deployment, NoteType::Normal, "ScalingReplicaSet", message));
            let message = format!("Failed to create new replica set \"{name}\": {{error}}");
            *or_else = Some(note(self.deployment, NoteType::Warning, "ReplicaSetCreateError", message));
        }
        plan.step(step);
        plan
    }

    fn collisions(&self) -> Option<i32> {
        self.deployment.status.as_ref().and_then(|s| s.collision_count)
    }

    fn hash(&self) -> String {
        template_hash(&self.spec.template, self.collisions())
    }

    fn next_revision(&self) -> i64 {
        self.old.iter().map(|set| revisions::revision(set)).max().unwrap_or(0) + 1
    }

    /// The current set takes over the Deployment's annotations, and the highest revision when it is current again.
    fn annotate_new(&self) -> Option<Plan> {
        let new = self.new.as_ref()?;
        let wanted = revisions::annotations(self.deployment, new, self.next_revision());
        let same_annotations = new.metadata.annotations.as_ref() == Some(&wanted);
        let min_ready = |seconds: Option<i32>| seconds.unwrap_or(0);
        let set_min_ready = new.spec.as_ref().and_then(|s| s.min_ready_seconds);
        if same_annotations && min_ready(set_min_ready) == min_ready(self.spec.min_ready_seconds) {
            return None;
        }
        let mut plan = Plan::none();
        plan.merge_patch(
            Target::exact(&REPLICA_SETS, &new.metadata),
            json!({
                "metadata": { "annotations": wanted },
                "spec": { "minReadySeconds": min_ready(self.spec.min_ready_seconds) },
            }),
        );
        Some(plan)
    }

    fn facts(&self, is_rolling_out: bool) -> Facts<'_> {
        Facts {
            deployment: self.deployment,
            bounds: self.bounds,
            new: self.new.as_ref(),
            old: &self.old,
            create_error: self.failure.filter(|_| self.new.is_none()).map(|failure| self.create_error(failure)),
            is_rolling_out,
            now: self.now,
        }
    }

    fn create_error(&self, failure: &Failure) -> String {
        let name = self.deployment.metadata.name.as_deref().unwrap_or_default();
        format!("Failed to create new replica set \"{name}-{}\": {failure}", self.hash())
    }

    /// Completes a plan with the status, the revision, and the next look at the deadline.
    fn finish(&self, mut plan: Plan, is_rolling_out: bool) -> Plan {
        let facts = self.facts(is_rolling_out);
        let status = facts.status();
        if let Some(wait) = facts.deadline_in(&status).filter(|_| is_rolling_out) {
            plan.requeue(wait);
        }
        let revision = self.new.as_ref().and_then(|new| annotation(&new.metadata, REVISION));
        let revision = revision.filter(|r| annotation(&self.deployment.metadata, REVISION) != Some(r));
        if self.deployment.status.as_ref() != Some(&status) || revision.is_some() {
            let mut updated = self.deployment.clone();
            updated.status = Some(status);
            if let Some(revision) = revision {
                // Through the status: elsewhere a change of annotations counts as a new generation.
                updated.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision.into());
            }
            plan.update_status(&DEPLOYMENTS, &updated);
        }
        plan
    }
}

fn note(deployment: &Deployment, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&DEPLOYMENTS, &deployment.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}
