//! A StatefulSet's status, as `kubectl rollout status` reads it.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};

use super::{Rollout, identity, is_running_and_available};
use crate::apps::history;
use crate::plan::Plan;
use crate::pods;
use crate::resource::STATEFUL_SETS;

pub(super) fn status(rollout: &Rollout) -> StatefulSetStatus {
    let Rollout { set, pods, current, update, .. } = rollout;
    let count = |is_one: &dyn Fn(&k8s_openapi::api::core::v1::Pod) -> bool| {
        pods::count(pods.values().filter(|pod| is_one(pod)).count())
    };
    let of_revision = |name: &str| count(&|pod| !pods::is_deleting(&pod.metadata) && identity::revision(pod) == name);
    let is_ready = |pod: &k8s_openapi::api::core::v1::Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
    let (replicas, ready, updated) = (count(&|_| true), count(&is_ready), of_revision(history::name(update)));
    let old = set.status.clone().unwrap_or_default();
    let mut status = StatefulSetStatus {
        replicas,
        ready_replicas: pods::positive(ready),
        available_replicas: Some(count(&|pod| is_running_and_available(pod, rollout.min_ready(), rollout.now))),
        current_replicas: pods::positive(of_revision(history::name(current))),
        updated_replicas: pods::positive(updated),
        current_revision: Some(history::name(current).into()),
        update_revision: Some(history::name(update).into()),
        collision_count: Some(old.collision_count.unwrap_or(0)),
        conditions: old.conditions,
        observed_generation: set.metadata.generation,
    };
    let wanted = rollout.replicas();
    if rollout.is_rolling() && [replicas, ready, updated].iter().all(|count| *count == wanted) {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
    status
}

/// The next revision's name takes one more collision in.
pub(super) fn collided(set: &StatefulSet) -> Plan {
    let mut status = set.status.clone().unwrap_or_default();
    status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
    let mut plan = Plan::none();
    plan.update_status(&STATEFUL_SETS, &StatefulSet { status: Some(status), ..set.clone() });
    plan
}
