//! Says what state a volume is in, and deletes it after its claim where its policy asks for that.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, PersistentVolumeStatus};
use serde_json::json;

use super::facts::{self, BOUND_BY_CONTROLLER, PROVISIONED_BY};
use super::local_path::PROVISIONER;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding, Target};
use crate::pods::{annotation, is_deleting};
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use crate::scheduler::same_mode;
use crate::time::stamp;
use crate::world::{Delta, Object, World};

pub struct VolumeReclaimer;

impl Controller for VolumeReclaimer {
    fn name(&self) -> &'static str {
        "persistentvolume-reclaimer"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::PersistentVolume(volume) => wake.now(Key::of(&volume.metadata)),
            Object::PersistentVolumeClaim(claim) => {
                let name = facts::volume_name(claim);
                name.into_iter().for_each(|name| wake.now(Key::new("", name)));
                let before = match &delta.before {
                    Some(Object::PersistentVolumeClaim(before)) => facts::volume_name(before),
                    _ => None,
                };
                // It may have gone before it was seen to name the volume that names it, or have another now.
                if delta.gone || name != before {
                    let meta = &claim.metadata;
                    let names_it = |volume: &&Arc<PersistentVolume>| {
                        let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
                        kept.is_some_and(|kept| kept.name == meta.name && kept.namespace == meta.namespace)
                    };
                    let volumes = world.persistent_volumes.iter().filter(names_it);
                    wake.others(world, volumes.map(|volume| Key::of(&volume.metadata)));
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.persistent_volumes.by_key(key) {
            Some(volume) => reconcile(volume, world, turn.now),
            None => Plan::none(),
        }
    }
}

/// What becomes of a volume that its claim has left.
enum Fate {
    Kept,
    Deleted,
    /// Reason and message of what the policy asks for and nobody can do.
    Failed(&'static str, String),
}

pub fn reconcile(volume: &PersistentVolume, world: &World, now: jiff::Timestamp) -> Plan {
    let mut plan = Plan::none();
    let spec = volume.spec.clone().unwrap_or_default();
    let claim = spec.claim_ref.as_ref().and_then(|kept| {
        let claim = world.persistent_volume_claims.by_key(&facts::key_of(kept));
        claim.filter(|claim| claim.metadata.uid == kept.uid)
    });
    let is_elsewhere = claim
        .and_then(|claim| facts::volume_name(claim))
        .is_some_and(|name| Some(name) != volume.metadata.name.as_deref());
    let phase = match &spec.claim_ref {
        None => "Available",
        // Set aside for a claim that has not come yet.
        Some(kept) if kept.uid.is_none() => "Available",
        Some(_) if is_elsewhere && !was_made_for_it(volume) => return unbind(volume),
        Some(_) => match claim {
            // It is the claim's turn.
            Some(claim) if facts::volume_name(claim).is_none() => return unasked(volume, claim),
            Some(_) if !is_elsewhere => "Bound",
            _ => "Released",
        },
    };
    let fate = if phase == "Released" { fate(volume) } else { Fate::Kept };
    let old = volume.status.clone().unwrap_or_default();
    let (phase, message) = match &fate {
        Fate::Failed(reason, message) => {
            if old.phase.as_deref() != Some("Failed") {
                plan.note(warning(volume, reason, message.clone()));
            }
            ("Failed", Some(message.clone()))
        }
        _ => (phase, None),
    };
    if old.phase.as_deref() != Some(phase) {
        let (phase, moved) = (Some(phase.into()), Some(stamp(now)));
        let status = PersistentVolumeStatus { phase, message, last_phase_transition_time: moved, ..old };
        plan.update_status(&PERSISTENT_VOLUMES, &PersistentVolume { status: Some(status), ..volume.clone() });
    } else if matches!(fate, Fate::Deleted) && !is_deleting(&volume.metadata) {
        if !is_elsewhere {
            plan.step(crate::plan::Step::CheckAbsent(claim_target(&spec)));
        }
        plan.delete(Target::new(&PERSISTENT_VOLUMES, &volume.metadata));
    }
    plan
}

/// A volume that is kept for a claim which does not name it, yet or ever.
fn unasked(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Plan {
    let mut plan = Plan::none();
    if let (Some(has), Some(asks)) = (&volume.spec, &claim.spec)
        && !same_mode(has, asks)
    {
        let message = format!(
            "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{}\" due to incompatible volumeMode.",
            claim.metadata.name.as_deref().unwrap_or_default()
        );
        plan.note(warning(volume, "VolumeMismatch", message));
    }
    plan
}

/// Whether the volume was made for its claim, and is to go with it.
fn was_made_for_it(volume: &PersistentVolume) -> bool {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    annotation(&volume.metadata, PROVISIONED_BY).is_some() && policy == Some("Delete")
}

/// Lets go of a claim that has another volume: what a user set aside stays set aside.
fn unbind(volume: &PersistentVolume) -> Plan {
    let mut plan = Plan::none();
    let patch = match annotation(&volume.metadata, BOUND_BY_CONTROLLER) {
        Some(_) => json!({
            "metadata": { "annotations": { BOUND_BY_CONTROLLER: null } },
            "spec": { "claimRef": null },
        }),
        None => json!({ "spec": { "claimRef": { "uid": null } } }),
    };
    plan.merge_patch(Target::exact(&PERSISTENT_VOLUMES, &volume.metadata), patch);
    plan
}

fn fate(volume: &PersistentVolume) -> Fate {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    match (policy, annotation(&volume.metadata, PROVISIONED_BY)) {
        (Some("Recycle"), _) => Fate::Failed("VolumeFailedRecycle", "No recycler plugin found for the volume!".into()),
        (Some("Delete"), Some(PROVISIONER)) => Fate::Deleted,
        (Some("Delete"), None) => {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let message = format!(
                "Error getting deleter volume plugin for volume \"{name}\": no deletable volume plugin matched"
            );
            Fate::Failed("VolumeFailedDelete", message)
        }
        // Whoever else made it deletes it.
        _ => Fate::Kept,
    }
}

/// The claim a volume was bound to: only when the API server says that it is gone may the volume go.
fn claim_target(spec: &k8s_openapi::api::core::v1::PersistentVolumeSpec) -> Target {
    let kept = spec.claim_ref.clone().unwrap_or_default();
    Target::named(&PERSISTENT_VOLUME_CLAIMS, facts::key_of(&kept), kept.uid)
}

fn warning(volume: &PersistentVolume, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&PERSISTENT_VOLUMES, &volume.metadata);
    let component = "persistentvolume-controller";
    Note { component, regarding, note_type: NoteType::Warning, reason, action: "", message }
}
