//! Makes volumes of directories of a node, for claims of a class whose provisioner is ours.
//!
//! A node says in an annotation where its directories lie, and [`class`] offers them; the volume is made there when a pod
//! first mounts it, and is of use on that node alone. When the volume is deleted, [`removal`] has the node remove the
//! directory.

pub mod class;
pub mod removal;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
    PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use self::removal::{FINALIZER, goes};
use super::facts::{self, PROVISIONED_BY, STORAGE_PROVISIONER};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Step, Target};
use crate::pods::{annotation, is_deleting, node_name};
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use crate::scheduler::SELECTED_NODE;
use crate::world::{Delta, Object, World};

pub const PROVISIONER: &str = "k8w.io/local-path";
/// On a Node: the directory beneath which it keeps volumes.
const DIRECTORY: &str = "k8w.io/local-path-directory";
const HOSTNAME: &str = "kubernetes.io/hostname";

pub struct LocalPath;

impl Controller for LocalPath {
    fn name(&self) -> &'static str {
        "local-path-provisioner"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::PersistentVolumeClaim(claim) => wake.now(Key::of(&claim.metadata)),
            // One that has a node now may be a claim's first consumer.
            Object::Pod(pod) if !delta.gone && node_name(pod).is_some() => facts::wake_claims(pod, wake),
            Object::Node(node) if delta.gone => {
                let chose_it = |claim: &&Arc<PersistentVolumeClaim>| {
                    annotation(&claim.metadata, SELECTED_NODE) == node.metadata.name.as_deref()
                };
                let claims = world.persistent_volume_claims.iter().filter(chose_it);
                claims.for_each(|claim| wake.now(Key::of(&claim.metadata)));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        world.persistent_volume_claims.by_key(key).and_then(|claim| reconcile(claim, world)).unwrap_or_default()
    }
}

pub fn reconcile(claim: &PersistentVolumeClaim, world: &World) -> Option<Plan> {
    claim.spec.as_ref().filter(|_| !is_deleting(&claim.metadata))?;
    if facts::volume_name(claim).is_some() || annotation(&claim.metadata, STORAGE_PROVISIONER) != Some(PROVISIONER) {
        return None;
    }
    let class = facts::class_of(claim, world)?;
    let name = format!("pvc-{}", claim.metadata.uid.as_deref()?);
    if world.persistent_volumes.get("", &name).is_some() {
        return None;
    }
    if let Some(gone) = annotation(&claim.metadata, SELECTED_NODE).filter(|name| world.nodes.get("", name).is_none()) {
        return Some(choose_again(claim, gone));
    }
    let node = match facts::chosen_node(claim, world) {
        Some(node) => node,
        None if facts::waits_for_consumer(class) => return None,
        None => world.nodes.iter().find(|node| directory(node).is_some())?,
    };
    let mut plan = Plan::none();
    let failed = match refusal(claim, node) {
        None => {
            plan.step(create(claim, class, node, name));
            return Some(plan);
        }
        Some(failed) => failed,
    };
    let message = format!("failed to provision volume with StorageClass \"{}\": {failed}", name_of(&class.metadata));
    plan.note(note(claim, NoteType::Warning, "ProvisioningFailed", message));
    Some(plan)
}

/// Lets the scheduler choose another node, as this one is gone.
fn choose_again(claim: &PersistentVolumeClaim, gone: &str) -> Plan {
    let mut plan = Plan::none();
    let message = format!("failed to get target node: node \"{gone}\" not found");
    plan.note(note(claim, NoteType::Warning, "ProvisioningFailed", message));
    plan.merge_patch(
        Target::exact(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata),
        json!({ "metadata": { "annotations": { SELECTED_NODE: null } } }),
    );
    plan
}

fn directory(node: &Node) -> Option<&str> {
    annotation(&node.metadata, DIRECTORY)
}

fn refusal(claim: &PersistentVolumeClaim, node: &Arc<Node>) -> Option<String> {
    let spec = claim.spec.clone().unwrap_or_default();
    let shared = spec.access_modes.iter().flatten().find(|mode| mode.contains("Many"));
    if let Some(mode) = shared {
        return Some(format!("access mode {mode} is not supported by {PROVISIONER}"));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some(format!("volume mode Block is not supported by {PROVISIONER}"));
    }
    // The API gives both fields the same value, but for kinds that only the second may name.
    let source = spec.data_source_ref.map(|source| (source.kind, source.name));
    if let Some((kind, name)) = source.or(spec.data_source.map(|source| (source.kind, source.name))) {
        return Some(format!("data source {kind} \"{name}\" is not supported by {PROVISIONER}"));
    }
    if let Some(class) = spec.volume_attributes_class_name.filter(|class| !class.is_empty()) {
        return Some(format!("volume attributes class {class} is not supported by {PROVISIONER}"));
    }
    if directory(node).is_none() {
        return Some(format!("node \"{}\" keeps no volumes", name_of(&node.metadata)));
    }
    None
}

fn create(claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node, name: String) -> Step {
    let spec = claim.spec.clone().unwrap_or_default();
    let path = format!("{}/{name}", directory(node).unwrap_or_default().trim_end_matches('/'));
    let host = node.metadata.labels.as_ref().and_then(|labels| labels.get(HOSTNAME));
    let here = NodeSelectorRequirement {
        key: HOSTNAME.into(),
        operator: "In".into(),
        values: Some(vec![host.cloned().unwrap_or_else(|| name_of(&node.metadata).to_owned())]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![here]), match_fields: None };
    let volume = PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some(BTreeMap::from([(PROVISIONED_BY.into(), PROVISIONER.into())])),
            finalizers: goes(class.reclaim_policy.as_deref()).then(|| vec![FINALIZER.into()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(facts::reference(claim)),
            host_path: Some(HostPathVolumeSource { path, type_: Some("DirectoryOrCreate".into()) }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: spec.volume_mode,
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    };
    let mut step = plan::create(&PERSISTENT_VOLUMES, "", &volume);
    if let Step::Create { then, or_else, .. } = &mut step {
        let message = format!("Successfully provisioned volume {name}");
        *then = Some(note(claim, NoteType::Normal, "ProvisioningSucceeded", message));
        let message = "failed to provision volume: {error}".into();
        *or_else = Some(note(claim, NoteType::Warning, "ProvisioningFailed", message));
    }
    step
}

/// The value of the label that says which node the volume is on.
fn host_name(volume: &PersistentVolume) -> Option<&str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let expressions = required.node_selector_terms.iter().flat_map(|term| term.match_expressions.iter().flatten());
    let mut named = expressions.filter(|expression| expression.key == HOSTNAME);
    named.next()?.values.as_ref()?.first().map(String::as_str)
}

fn name_of(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

fn note(claim: &PersistentVolumeClaim, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata);
    Note { component: PROVISIONER, regarding, note_type, reason, action: "", message }
}
