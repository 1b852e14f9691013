//! Frees pods that no Job will account for any more: their Job is gone, has finished, or let them go.

use k8s_openapi::api::core::v1::Pod;

use super::{TRACKING_FINALIZER, is_finished, is_managed_elsewhere};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, without_finalizer};
use crate::pods;
use crate::resource::{JOBS, Key, PODS};
use crate::world::{Delta, Object, World, controller_of};

pub struct OrphanedPods;

impl Controller for OrphanedPods {
    fn name(&self) -> &'static str {
        "job-orphaned-pods"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Pod(pod) if !delta.gone && is_orphaned(pod, world) => wake.now(Key::of(&pod.metadata)),
            Object::Job(job) if delta.gone || is_finished(job) => {
                let pods = world.pods.controlled_by(job.metadata.uid.as_deref().unwrap_or_default());
                pods.for_each(|pod| wake.now(Key::of(&pod.metadata)));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        if let Some(pod) = world.pods.by_key(key).filter(|pod| is_orphaned(pod, world)) {
            plan.step(without_finalizer(&PODS, &pod.metadata, TRACKING_FINALIZER));
        }
        plan
    }
}

fn is_orphaned(pod: &Pod, world: &World) -> bool {
    if !pods::has_finalizer(&pod.metadata, TRACKING_FINALIZER) {
        return false;
    }
    let Some(owner) = controller_of(&pod.metadata) else { return true };
    if owner.kind != JOBS.kind || owner.api_version != JOBS.api_version() {
        return false;
    }
    let job = world.jobs.get(pod.metadata.namespace.as_deref().unwrap_or_default(), &owner.name);
    job.filter(|job| job.metadata.uid.as_deref() == Some(&owner.uid))
        .is_none_or(|job| is_finished(job) && !is_managed_elsewhere(job))
}
