//! Enlarges volumes whose claims ask for more (API concepts: Persistent Volumes, "Expanding Persistent Volumes Claims").
//!
//! A directory needs nothing done to it, so a `local-path` volume has its new size at once; others are for whoever made them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::json;

use super::facts::{self, PROVISIONED_BY};
use super::local_path::PROVISIONER;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Target};
use crate::pods::{annotation, is_deleting};
use crate::quantity;
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use crate::scheduler::{capacity_bytes, refers_to};
use crate::time::stamp;
use crate::world::{Delta, Object, World};

const STORAGE: &str = "storage";
const RESIZING: &str = "Resizing";

pub struct VolumeExpansion;

impl Controller for VolumeExpansion {
    fn name(&self) -> &'static str {
        "persistentvolume-expander"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::PersistentVolumeClaim(claim) if !delta.gone => wake.now(Key::of(&claim.metadata)),
            Object::PersistentVolume(volume) if !delta.gone => {
                if let Some(kept) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) {
                    wake.now(facts::key_of(kept));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let claim = world.persistent_volume_claims.by_key(key);
        claim.and_then(|claim| reconcile(claim, world, turn.now)).unwrap_or_default()
    }
}

pub fn reconcile(claim: &PersistentVolumeClaim, world: &World, now: Timestamp) -> Option<Plan> {
    let status = claim.status.as_ref().filter(|status| status.phase.as_deref() == Some("Bound"))?;
    let wanted = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get(STORAGE)?;
    let has = status.capacity.as_ref()?.get(STORAGE)?;
    if quantity::units(wanted)? <= quantity::units(has)? || is_deleting(&claim.metadata) {
        return None;
    }
    let volume = world.persistent_volumes.get("", claim.spec.as_ref()?.volume_name.as_deref()?)?;
    if !refers_to(volume.spec.as_ref()?.claim_ref.as_ref()?, claim) {
        return None;
    }
    if annotation(&volume.metadata, PROVISIONED_BY) != Some(PROVISIONER) {
        let mut plan = Plan::none();
        let message = "waiting for an external controller to expand this PVC";
        plan.note(note("volume_expand", claim, "ExternalExpanding", message.into()));
        return Some(plan);
    }
    let is_resizing = status.conditions.iter().flatten().any(|c| c.type_ == RESIZING && c.status == "True");
    let target = status.allocated_resources.as_ref().and_then(|allocated| allocated.get(STORAGE));
    match target.filter(|_| is_resizing) {
        Some(target) => Some(finish(claim, volume, target)),
        None => Some(begin(claim, volume, wanted, now)),
    }
}

/// Says what is about to happen, so that whoever looks knows whose turn it is.
fn begin(claim: &PersistentVolumeClaim, volume: &PersistentVolume, wanted: &Quantity, now: Timestamp) -> Plan {
    let mut updated = claim.clone();
    let status = updated.status.get_or_insert_default();
    status.allocated_resources.get_or_insert_default().insert(STORAGE.into(), wanted.clone());
    let in_progress = "ControllerResizeInProgress".to_owned();
    status.allocated_resource_statuses.get_or_insert_default().insert(STORAGE.into(), in_progress);
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|condition| condition.type_ != RESIZING);
    conditions.push(PersistentVolumeClaimCondition {
        type_: RESIZING.into(),
        status: "True".into(),
        last_transition_time: Some(stamp(now)),
        ..PersistentVolumeClaimCondition::default()
    });
    let name = volume.metadata.name.as_deref().unwrap_or_default();
    let mut plan = Plan::none();
    plan.note(note(PROVISIONER, claim, "Resizing", format!("External resizer is resizing volume {name}")));
    plan.update_status(&PERSISTENT_VOLUME_CLAIMS, &updated);
    plan
}

/// The volume first: the claim never says more than its volume has.
fn finish(claim: &PersistentVolumeClaim, volume: &PersistentVolume, target: &Quantity) -> Plan {
    let mut plan = Plan::none();
    if Some(capacity_bytes(volume)) < quantity::units(target) {
        plan.merge_patch(
            Target::exact(&PERSISTENT_VOLUMES, &volume.metadata),
            json!({ "spec": { "capacity": { STORAGE: target } } }),
        );
    }
    let mut updated = claim.clone();
    let status = updated.status.get_or_insert_default();
    status.capacity.get_or_insert_default().insert(STORAGE.into(), target.clone());
    status.allocated_resource_statuses = None;
    status.conditions.get_or_insert_default().retain(|condition| condition.type_ != RESIZING);
    status.conditions = status.conditions.take().filter(|conditions| !conditions.is_empty());
    let done = note(PROVISIONER, claim, "VolumeResizeSuccessful", "Resize volume succeeded".into());
    plan.step(plan::update(&PERSISTENT_VOLUME_CLAIMS, &updated, "status", Some(done)));
    plan
}

fn note(component: &'static str, claim: &PersistentVolumeClaim, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
    Note { component, regarding, note_type: NoteType::Normal, reason, action: "", message }
}
