//! Keeps claims that pods use, and volumes that are bound, from vanishing under them (API concepts: Persistent Volumes,
//! "Storage Object in Use Protection").

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use super::facts;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, with_finalizer, without_finalizer};
use crate::pods::{has_finalizer, is_deleting, node_name};
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use crate::scheduler::is_made_for;
use crate::world::{Delta, Object, World};

const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

pub struct ClaimProtection;

impl Controller for ClaimProtection {
    fn name(&self) -> &'static str {
        "persistentvolumeclaim-protection"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::PersistentVolumeClaim(claim) => wake.now(Key::of(&claim.metadata)),
            Object::Pod(pod) if delta.gone || has_shut_down(pod) => facts::wake_claims(pod, wake),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(claim) = world.persistent_volume_claims.by_key(key) else { return plan };
        let meta = &claim.metadata;
        match (is_deleting(meta), has_finalizer(meta, CLAIM_FINALIZER)) {
            (false, false) => plan.step(with_finalizer(&PERSISTENT_VOLUME_CLAIMS, meta, CLAIM_FINALIZER)),
            (true, true) if !facts::users(claim, world).any(|pod| may_have(pod, claim)) => {
                plan.step(without_finalizer(&PERSISTENT_VOLUME_CLAIMS, meta, CLAIM_FINALIZER));
            }
            _ => {}
        }
        plan
    }
}

/// Whether the pod may have the claim's volume mounted. One without a node will find out by itself that the claim goes.
fn may_have(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut claims = volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref());
    let names_it = claims.any(|named| Some(&named.claim_name) == claim.metadata.name.as_ref());
    // A claim of the pod's own must not wait for it where the pod's finalizers wait for the claim.
    node_name(pod).is_some() && (names_it || (is_made_for(claim, pod) && !has_shut_down(pod)))
}

/// Whether nothing of the pod runs any more, and only its finalizers keep it.
fn has_shut_down(pod: &Pod) -> bool {
    is_deleting(&pod.metadata) && pod.metadata.deletion_grace_period_seconds == Some(0)
}

pub struct VolumeProtection;

impl Controller for VolumeProtection {
    fn name(&self) -> &'static str {
        "persistentvolume-protection"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::PersistentVolume(volume) = &delta.object {
            wake.now(Key::of(&volume.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(volume) = world.persistent_volumes.by_key(key) else { return plan };
        let meta = &volume.metadata;
        let is_bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
        match (is_deleting(meta), has_finalizer(meta, VOLUME_FINALIZER)) {
            (false, false) => plan.step(with_finalizer(&PERSISTENT_VOLUMES, meta, VOLUME_FINALIZER)),
            (true, true) if !is_bound => plan.step(without_finalizer(&PERSISTENT_VOLUMES, meta, VOLUME_FINALIZER)),
            _ => {}
        }
        plan
    }
}
