//! Makes the claims of pods' generic ephemeral volumes (KEP-1698): they belong to their pod and go with it.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Step};
use crate::pods;
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PODS};
use crate::scheduler::{ephemeral_claim, is_made_for, not_made_for};
use crate::world::{Delta, Object, World};

pub struct EphemeralVolumes;

impl Controller for EphemeralVolumes {
    fn name(&self) -> &'static str {
        "ephemeral-volume"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Pod(pod) if !delta.gone && has_ephemeral(pod) => wake.now(Key::of(&pod.metadata)),
            // It may have been in the way of one.
            Object::PersistentVolumeClaim(claim) if delta.gone => {
                facts::users(claim, world).for_each(|pod| wake.now(Key::of(&pod.metadata)));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        match world.pods.by_key(key) {
            Some(pod) => reconcile(pod, world),
            None => Plan::none(),
        }
    }
}

fn has_ephemeral(pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|volume| volume.ephemeral.is_some())
}

pub fn reconcile(pod: &Pod, world: &World) -> Plan {
    let mut plan = Plan::none();
    if !pods::is_active(pod) {
        return plan;
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.as_ref());
        let Some(template) = template else { continue };
        let name = ephemeral_claim(pod, &volume.name);
        if let Some(claim) = world.persistent_volume_claims.get(namespace, &name) {
            if !is_made_for(claim, pod) {
                plan.note(note(pod, format!("ephemeral volume {}: {}", volume.name, not_made_for(claim, pod))));
            }
            continue;
        }
        let meta = template.metadata.clone().unwrap_or_default();
        let claim = PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.into()),
                labels: meta.labels,
                annotations: meta.annotations,
                owner_references: Some(vec![pods::controller_ref(&PODS, &pod.metadata)]),
                ..ObjectMeta::default()
            },
            spec: Some(template.spec.clone()),
            status: None,
        };
        let mut step = plan::create(&PERSISTENT_VOLUME_CLAIMS, namespace, &claim);
        if let Step::Create { or_else, .. } = &mut step {
            let message = format!("ephemeral volume {}: create PVC {name}: {{error}}", volume.name);
            *or_else = Some(note(pod, message));
        }
        plan.step(step);
    }
    plan
}

fn note(pod: &Pod, message: String) -> Note {
    let regarding = Regarding::new(&PODS, &pod.metadata);
    let (component, note_type) = ("ephemeral_volume", NoteType::Warning);
    Note { component, regarding, note_type, reason: "FailedBinding", action: "", message }
}
