//! Binds claims to volumes (API concepts: Persistent Volumes, "Binding").
//!
//! The volume is written first, then the claim: between the two, the volume says whom it is kept for.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::facts::{self, BOUND_BY_CONTROLLER, STORAGE_PROVISIONER, volume_name};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Target};
use crate::pods::{annotation, is_deleting};
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use crate::scheduler::{
    BIND_COMPLETED, NO_PROVISIONER, allows, capacity_bytes, class_name, grants_access, is_of_class, refers_to,
    requested_bytes, same_attributes, same_mode, serves,
};
use crate::world::{Delta, Object, World};

const COMPONENT: &str = "persistentvolume-controller";

pub struct ClaimBinder;

impl Controller for ClaimBinder {
    fn name(&self) -> &'static str {
        "persistentvolumeclaim-binder"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::PersistentVolumeClaim(claim) => wake.now(Key::of(&claim.metadata)),
            Object::PersistentVolume(volume) => {
                if let Some(kept) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
                    wake.now(facts::key_of(kept));
                } else if !delta.gone {
                    wake_unbound(world, wake);
                }
            }
            Object::StorageClass(_) => wake_unbound(world, wake),
            Object::Pod(pod) if !delta.gone => facts::wake_claims(pod, wake),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        match world.persistent_volume_claims.by_key(key) {
            Some(claim) => reconcile(claim, world),
            None => Plan::none(),
        }
    }
}

/// Also those that name their volume, which may not have been there, or free.
fn wake_unbound(world: &World, wake: &mut Wake) {
    let is_unbound = |claim: &&Arc<PersistentVolumeClaim>| volume_name(claim).is_none() || !was_bound(claim);
    let unbound = world.persistent_volume_claims.iter().filter(is_unbound);
    wake.others(world, unbound.map(|claim| Key::of(&claim.metadata)));
}

pub fn reconcile(claim: &Arc<PersistentVolumeClaim>, world: &World) -> Plan {
    if claim.spec.is_none() || is_deleting(&claim.metadata) {
        return Plan::none();
    }
    if let Some(name) = volume_name(claim) {
        return keep(claim, world.persistent_volumes.get("", name));
    }
    if was_bound(claim) {
        let message = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
        return lose(claim, "ClaimLost", message);
    }
    if let Some(kept) = kept_for(claim, world) {
        return bind(claim, kept);
    }
    let Some(class) = class_name(claim) else {
        let Some(class) = facts::default_class(world) else {
            return find(claim, world).map_or_else(|| unserved(claim), |found| bind(claim, found));
        };
        let mut plan = Plan::none();
        let named = json!({ "spec": { "storageClassName": class.metadata.name } });
        plan.merge_patch(Target::exact(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata), named);
        return plan;
    };
    let stored = world.storage_classes.get("", class);
    if stored.is_some_and(|class| facts::waits_for_consumer(class)) && facts::chosen_node(claim, world).is_none() {
        let (reason, message) = match facts::users(claim, world).next() {
            None => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
            Some(pod) => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                ("WaitForPodScheduled", format!("waiting for pod {name} to be scheduled"))
            }
        };
        return waits(claim, NoteType::Normal, reason, message);
    }
    if let Some(found) = find(claim, world) {
        return bind(claim, found);
    }
    let Some(class) = stored else {
        if class.is_empty() {
            return unserved(claim);
        }
        let message = format!("storageclass.storage.k8s.io \"{class}\" not found");
        return waits(claim, NoteType::Warning, "ProvisioningFailed", message);
    };
    let provisioner = class.provisioner.as_str();
    if provisioner == NO_PROVISIONER {
        return unserved(claim);
    }
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly \
         registered."
    );
    let mut plan = waits(claim, NoteType::Normal, "ExternalProvisioning", message);
    if annotation(&claim.metadata, STORAGE_PROVISIONER) != Some(provisioner) {
        plan.merge_patch(
            Target::exact(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
            json!({ "metadata": { "annotations": {
                STORAGE_PROVISIONER: provisioner, "volume.beta.kubernetes.io/storage-provisioner": provisioner,
            } } }),
        );
    }
    plan
}

fn unserved(claim: &PersistentVolumeClaim) -> Plan {
    let message = "no persistent volumes available for this claim and no storage class is set";
    waits(claim, NoteType::Normal, "FailedBinding", message.into())
}

/// Says what the claim waits for, and that it is not bound.
fn waits(claim: &PersistentVolumeClaim, note_type: NoteType, reason: &'static str, message: String) -> Plan {
    let mut plan = pending(claim);
    plan.note(note(claim, note_type, reason, message));
    plan
}

/// A claim that says otherwise is not bound yet.
fn pending(claim: &PersistentVolumeClaim) -> Plan {
    unbound(claim, "Pending")
}

/// Lets the claim say that it is not bound, and how. One that says nothing is pending.
fn unbound(claim: &PersistentVolumeClaim, phase: &str) -> Plan {
    let mut plan = Plan::none();
    let mut status = claim.status.clone().unwrap_or_default();
    if status.phase.as_deref().unwrap_or("Pending") != phase {
        status.phase = Some(phase.into());
        (status.access_modes, status.capacity) = (None, None);
        plan.update_status(&PERSISTENT_VOLUME_CLAIMS, &PersistentVolumeClaim { status: Some(status), ..claim.clone() });
    }
    plan
}

/// Whether the claim has been bound once, for good.
fn was_bound(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, BIND_COMPLETED).is_some()
}

/// A volume that somebody has set aside for this claim, if it is what the claim asks for.
fn kept_for<'a>(claim: &PersistentVolumeClaim, world: &'a World) -> Option<&'a Arc<PersistentVolume>> {
    let is_kept = |volume: &PersistentVolume| volume.spec.as_ref().is_some_and(|spec| spec.claim_ref.is_some());
    world.persistent_volumes.iter().find(|volume| is_kept(volume) && serves(volume, claim))
}

/// What keeps a volume that the claim names from being its.
fn mismatch(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<String> {
    let (has, asks) = (volume.spec.as_ref()?, claim.spec.as_ref()?);
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    if is_deleting(&volume.metadata) {
        return Some(format!("the volume is marked for deletion {name:?}"));
    }
    let why = if capacity_bytes(volume) < requested_bytes(claim) {
        "requested PV is too small"
    } else if !is_of_class(volume, claim) {
        "storageClassName does not match"
    } else if !same_attributes(has, asks) {
        "volumeAttributesClassName does not match"
    } else if !same_mode(has, asks) {
        "incompatible volumeMode"
    } else if !grants_access(has, asks) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(why.into())
}

/// The smallest free volume that has what the claim asks for.
fn find<'a>(claim: &PersistentVolumeClaim, world: &'a World) -> Option<&'a Arc<PersistentVolume>> {
    let node = facts::chosen_node(claim, world);
    let free = world.persistent_volumes.iter().filter(|volume| serves(volume, claim));
    let reachable = free.filter(|volume| node.is_none_or(|node| allows(volume, node)));
    reachable.min_by_key(|volume| (capacity_bytes(volume), volume.metadata.name.clone()))
}

fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Plan {
    let mut plan = Plan::none();
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let target = Target::exact(&PERSISTENT_VOLUMES, &volume.metadata);
    if kept.and_then(|kept| kept.uid.as_ref()) != claim.metadata.uid.as_ref() {
        // Who set it aside keeps the say over it; what we chose we may let go.
        let annotations = if kept.is_none() { json!({ BOUND_BY_CONTROLLER: "yes" }) } else { json!({}) };
        plan.merge_patch(
            target,
            json!({
                "metadata": { "annotations": annotations },
                "spec": { "claimRef": plan::to_value(&facts::reference(claim)) },
            }),
        );
    }
    let annotations = match volume_name(claim) {
        // Its owner has chosen.
        Some(_) => json!({ BIND_COMPLETED: "yes" }),
        None => json!({ BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes" }),
    };
    plan.merge_patch(
        Target::exact(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
        json!({ "metadata": { "annotations": annotations }, "spec": { "volumeName": volume.metadata.name } }),
    );
    plan
}

/// Brings the status of a claim in step with the volume it names.
fn keep(claim: &PersistentVolumeClaim, volume: Option<&Arc<PersistentVolume>>) -> Plan {
    let was_bound = was_bound(claim);
    let without = |reason, message| if was_bound { lose(claim, reason, message) } else { pending(claim) };
    let Some(volume) = volume else {
        return without("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    match kept {
        Some(kept) if !refers_to(kept, claim) && !was_bound => {
            let message = format!("volume {name:?} already bound to a different claim.");
            return waits(claim, NoteType::Warning, "FailedBinding", message);
        }
        Some(kept) if !refers_to(kept, claim) => {
            let message = "Two claims are bound to the same volume, this one is bound incorrectly";
            return without("ClaimMisbound", message);
        }
        Some(kept) if kept.uid.is_some() && was_bound => {}
        None if !was_bound => {
            let Some(why) = mismatch(claim, volume) else { return bind(claim, volume) };
            let message = format!("Cannot bind to requested volume {name:?}: {why}");
            return waits(claim, NoteType::Warning, "VolumeMismatch", message);
        }
        _ => return bind(claim, volume),
    }
    let spec = volume.spec.clone().unwrap_or_default();
    let old = claim.status.clone().unwrap_or_default();
    let mut status = old.clone();
    status.access_modes = spec.access_modes;
    if status.phase.as_deref() != Some("Bound") {
        // From then on a difference is an expansion's, which is not over.
        status.capacity = spec.capacity;
    }
    status.phase = Some("Bound".into());
    let mut plan = Plan::none();
    if old != status {
        plan.update_status(&PERSISTENT_VOLUME_CLAIMS, &PersistentVolumeClaim { status: Some(status), ..claim.clone() });
    }
    plan
}

/// Says once that the claim has lost what it was bound to.
fn lose(claim: &PersistentVolumeClaim, reason: &'static str, message: &str) -> Plan {
    let mut plan = unbound(claim, "Lost");
    if !plan.steps.is_empty() {
        plan.note(note(claim, NoteType::Warning, reason, message.to_owned()));
    }
    plan
}

fn note(claim: &PersistentVolumeClaim, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}
