//! Removes the directory of a volume that is deleted: its node does, and a finalizer keeps the volume until it has.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume};

use super::super::facts::PROVISIONED_BY;
use super::{PROVISIONER, host_name};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Note, NoteType, Plan, Regarding, Step, Target, with_finalizer, without_finalizer};
use crate::pods::{annotation, has_finalizer, is_deleting};
use crate::resource::{Key, NODES, PERSISTENT_VOLUMES};
use crate::scheduler::allows;
use crate::world::{Delta, Object, World};

/// On a volume whose directory has to go with it.
pub const FINALIZER: &str = "k8w.io/local-path";

pub struct LocalPathRemoval;

impl Controller for LocalPathRemoval {
    fn name(&self) -> &'static str {
        "local-path-removal"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::PersistentVolume(volume) if is_ours(volume) => wake.now(Key::of(&volume.metadata)),
            // Nobody can remove what was on it.
            Object::Node(_) if delta.gone => {
                let waiting = world.persistent_volumes.iter().filter(|v| is_ours(v) && is_deleting(&v.metadata));
                waiting.for_each(|volume| wake.now(Key::of(&volume.metadata)));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        match world.persistent_volumes.by_key(key) {
            Some(volume) if is_ours(volume) => reconcile(volume, world),
            _ => Plan::none(),
        }
    }
}

fn is_ours(volume: &PersistentVolume) -> bool {
    annotation(&volume.metadata, PROVISIONED_BY) == Some(PROVISIONER)
}

/// Whether the directory goes with the volume.
pub fn goes(reclaim_policy: Option<&str>) -> bool {
    reclaim_policy == Some("Delete")
}

pub fn reconcile(volume: &PersistentVolume, world: &World) -> Plan {
    let mut plan = Plan::none();
    let meta = &volume.metadata;
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let is_bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    match (goes(policy), has_finalizer(meta, FINALIZER)) {
        (true, false) if !is_deleting(meta) => plan.step(with_finalizer(&PERSISTENT_VOLUMES, meta, FINALIZER)),
        (false, true) => plan.step(without_finalizer(&PERSISTENT_VOLUMES, meta, FINALIZER)),
        (true, true) if is_deleting(meta) && !is_bound => {
            plan.step(remove(volume, world));
            plan.step(without_finalizer(&PERSISTENT_VOLUMES, meta, FINALIZER));
        }
        _ => {}
    }
    plan
}

/// Has the node remove the directory, or makes sure that there is no such node any more.
fn remove(volume: &PersistentVolume, world: &World) -> Step {
    let node: Option<&Arc<Node>> = world.nodes.iter().find(|node| allows(volume, node));
    let Some(node) = node else {
        let key = Key::new("", host_name(volume).unwrap_or_default());
        return Step::CheckAbsent(Target::named(&NODES, key, None));
    };
    let regarding = Regarding::new(&PERSISTENT_VOLUMES, &volume.metadata);
    let (note_type, reason) = (NoteType::Warning, "VolumeFailedDelete");
    let or_else = Note { component: PROVISIONER, regarding, note_type, reason, action: "", message: "{error}".into() };
    Step::RemoveDirectory {
        node: node.metadata.name.clone().unwrap_or_default(),
        volume: volume.metadata.name.clone().unwrap_or_default(),
        or_else: Some(or_else),
    }
}
