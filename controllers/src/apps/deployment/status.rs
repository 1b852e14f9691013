//! A Deployment's status and conditions, as `kubectl rollout status` and `kubectl wait` read them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};

use super::bounds::Bounds;
use super::scale::spec_replicas;
use crate::time::{self, stamp, until};
use crate::world::Meta;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const CREATE_ERROR: &str = "ReplicaSetCreateError";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// What the status is made from.
pub struct Facts<'a> {
    pub deployment: &'a Deployment,
    pub bounds: Bounds,
    pub new: Option<&'a Arc<ReplicaSet>>,
    pub old: &'a [Arc<ReplicaSet>],
    /// The new ReplicaSet could not be created.
    pub create_error: Option<String>,
    /// Judge the progress of a rollout; not while paused or scaling.
    pub is_rolling_out: bool,
    pub now: Timestamp,
}

impl Facts<'_> {
    pub fn status(&self) -> DeploymentStatus {
        let old_status = self.old_status();
        let sets = || self.old.iter().chain(self.new);
        let sum = |of: fn(&ReplicaSet) -> i32| sets().map(|set| of(set)).sum::<i32>();
        let positive = |n: i32| Some(n).filter(|n| *n > 0);
        let available_now = sum(available);
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: positive(sum(actual)),
            updated_replicas: positive(self.new.map_or(0, |set| actual(set))),
            ready_replicas: positive(sum(ready)),
            available_replicas: positive(available_now),
            unavailable_replicas: positive(sum(spec_replicas) - available_now),
            terminating_replicas: sets().map(|set| set.status.as_ref()?.terminating_replicas).sum(),
            collision_count: old_status.collision_count,
            conditions: old_status.conditions.clone(),
        };
        let conditions = status.conditions.get_or_insert_default();
        if available_now >= self.bounds.min_available() {
            let message = "Deployment has minimum availability.";
            self.set(conditions, AVAILABLE, "True", "MinimumReplicasAvailable", message.into());
        } else {
            let message = "Deployment does not have minimum availability.";
            self.set(conditions, AVAILABLE, "False", "MinimumReplicasUnavailable", message.into());
        }
        self.pause_or_resume(conditions);
        if self.is_rolling_out {
            let mut conditions = std::mem::take(conditions);
            self.judge_progress(&mut conditions, &status);
            self.copy_failure(&mut conditions);
            status.conditions = Some(conditions);
        }
        status
    }

    /// When the progress deadline passes, if it has not and still can.
    pub fn deadline_in(&self, status: &DeploymentStatus) -> Option<Duration> {
        let deadline = self.deadline()?;
        let progressing = condition(status.conditions.as_deref()?, PROGRESSING)?;
        if self.is_complete(status) || matches!(progressing.reason.as_deref(), Some(TIMED_OUT | COMPLETE)) {
            return None;
        }
        let since = progressing.last_update_time.as_ref()?.0;
        // A second more, for times in the API are whole seconds.
        Some(until(time::after(since, deadline), self.now) + Duration::from_secs(1))
    }

    pub fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = Some(self.bounds.replicas).filter(|n| *n > 0);
        status.updated_replicas == wanted
            && status.replicas == wanted
            && status.available_replicas == wanted
            && status.observed_generation >= self.deployment.metadata.generation
    }

    fn old_status(&self) -> DeploymentStatus {
        self.deployment.status.clone().unwrap_or_default()
    }

    fn deadline(&self) -> Option<Duration> {
        let seconds = self.deployment.spec.as_ref()?.progress_deadline_seconds?;
        (seconds != i32::MAX).then(|| time::seconds(seconds))
    }

    fn pause_or_resume(&self, conditions: &mut Vec<DeploymentCondition>) {
        if self.deadline().is_none() {
            return;
        }
        let reason = condition(conditions, PROGRESSING).and_then(|c| c.reason.clone());
        if reason.as_deref() == Some(TIMED_OUT) {
            return;
        }
        let is_paused = self.deployment.spec.as_ref().is_some_and(|s| s.paused == Some(true));
        match (is_paused, reason.as_deref() == Some(PAUSED)) {
            (true, false) => self.set(conditions, PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into()),
            (false, true) => self.set(conditions, PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".into()),
            _ => {}
        }
    }

    fn judge_progress(&self, conditions: &mut Vec<DeploymentCondition>, status: &DeploymentStatus) {
        let Some(deadline) = self.deadline() else {
            conditions.retain(|c| c.type_ != PROGRESSING);
            return;
        };
        if let Some(error) = &self.create_error {
            self.set(conditions, PROGRESSING, "False", CREATE_ERROR, error.clone());
            return;
        }
        self.begin(conditions);
        let subject = match self.new {
            Some(new) => format!("ReplicaSet \"{}\"", name_of(&**new)),
            None => format!("Deployment \"{}\"", name_of(self.deployment)),
        };
        let current = condition(conditions, PROGRESSING).cloned();
        let reason = current.as_ref().and_then(|c| c.reason.as_deref());
        if status.replicas == status.updated_replicas && reason == Some(COMPLETE) {
            return;
        }
        if self.is_complete(status) {
            self.set(conditions, PROGRESSING, "True", COMPLETE, format!("{subject} has successfully progressed."));
        } else if self.has_progressed(status) || current.is_none() {
            let since = current.filter(|c| c.status == "True").and_then(|c| c.last_transition_time);
            conditions.retain(|c| c.type_ != PROGRESSING);
            self.set(conditions, PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."));
            if let (Some(since), Some(last)) = (since, conditions.last_mut()) {
                last.last_transition_time = Some(since);
            }
        } else if reason != Some(COMPLETE)
            && let Some(since) = current.and_then(|c| c.last_update_time)
            && time::after(since.0, deadline) < self.now
        {
            self.set(conditions, PROGRESSING, "False", TIMED_OUT, format!("{subject} has timed out progressing."));
        }
    }

    /// A rollout begins with its ReplicaSet, and with it the time until the deadline.
    fn begin(&self, conditions: &mut Vec<DeploymentCondition>) {
        let Some(new) = self.new else { return };
        let (name, created) = (name_of(&**new), new.metadata.creation_timestamp.as_ref().map(|t| t.0));
        let is_new = condition(conditions, PROGRESSING).is_none_or(|last| {
            let is_named = last.message.as_deref().is_some_and(|message| message.contains(&format!("\"{name}\"")));
            let is_of_this = is_named && last.reason.as_deref() != Some(CREATE_ERROR);
            !is_of_this && created >= last.last_update_time.as_ref().map(|t| t.0)
        });
        if !is_new {
            return;
        }
        let (reason, message) = if created < self.deployment.metadata.creation_timestamp.as_ref().map(|t| t.0) {
            ("FoundNewReplicaSet", format!("Found new replica set \"{name}\""))
        } else {
            ("NewReplicaSetCreated", format!("Created new replica set \"{name}\""))
        };
        self.set(conditions, PROGRESSING, "True", reason, message);
    }

    /// Something moved in the right direction since the status was last written.
    pub fn has_progressed(&self, status: &DeploymentStatus) -> bool {
        let before = self.old_status();
        let old_replicas = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
        status.updated_replicas > before.updated_replicas
            || old_replicas(status) < old_replicas(&before)
            || status.ready_replicas > before.ready_replicas
            || status.available_replicas > before.available_replicas
    }

    fn copy_failure(&self, conditions: &mut Vec<DeploymentCondition>) {
        let failure_of = |set: &Arc<ReplicaSet>| {
            let conditions = set.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|c| c.type_ == REPLICA_FAILURE).cloned()
        };
        match self.new.and_then(failure_of).or_else(|| self.old.iter().find_map(failure_of)) {
            Some(failure) => {
                let (reason, message) = (failure.reason.unwrap_or_default(), failure.message.unwrap_or_default());
                self.set(conditions, REPLICA_FAILURE, &failure.status, &reason, message);
            }
            None => conditions.retain(|c| c.type_ != REPLICA_FAILURE),
        }
    }

    /// Sets a condition; one that says the same already keeps its times and its words.
    fn set(&self, all: &mut Vec<DeploymentCondition>, type_: &str, status: &str, reason: &str, message: String) {
        let current = condition(all, type_);
        if current.is_some_and(|c| c.status == status && c.reason.as_deref() == Some(reason)) {
            return;
        }
        let since = current.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        all.retain(|c| c.type_ != type_);
        all.push(DeploymentCondition {
            type_: type_.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_update_time: Some(stamp(self.now)),
            last_transition_time: since.or_else(|| Some(stamp(self.now))),
        });
    }
}

fn condition<'a>(conditions: &'a [DeploymentCondition], type_: &str) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|c| c.type_ == type_)
}

pub fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

fn name_of(object: &impl Meta) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

fn ready(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0)
}
