//! What the volume controllers ask of claims, volumes, classes and pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    Pod, PodSpec,
};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::pods;
use crate::quantity;
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS};
use crate::scheduler::matches_required;
use crate::world::World;

pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

pub fn annotation<'a>(
    meta: &'a k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    name: &str,
) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}

/// The class a claim names; `None` where none was chosen yet, empty where none is wanted.
pub fn class_name(spec: &PersistentVolumeClaimSpec) -> Option<&str> {
    spec.storage_class_name.as_deref()
}

pub fn class_of<'a>(claim: &PersistentVolumeClaim, world: &'a World) -> Option<&'a Arc<StorageClass>> {
    world.storage_classes.get("", class_name(claim.spec.as_ref()?)?)
}

/// The class for claims that name none: of several, the one made last.
pub fn default_class(world: &World) -> Option<&Arc<StorageClass>> {
    let is_default = |class: &&Arc<StorageClass>| annotation(&class.metadata, DEFAULT_CLASS) == Some("true");
    world
        .storage_classes
        .iter()
        .filter(is_default)
        .max_by_key(|class| (class.metadata.creation_timestamp.as_ref().map(|t| t.0), class.metadata.name.clone()))
}

pub fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The name of the claim that a pod's volume uses, if it uses one.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name)),
        (None, None) => None,
    })
}

/// Pods that use the claim.
pub fn users<'a>(claim: &PersistentVolumeClaim, world: &'a World) -> impl Iterator<Item = &'a Arc<Pod>> {
    let namespace = claim.metadata.namespace.clone().unwrap_or_default();
    let name = claim.metadata.name.clone().unwrap_or_default();
    let pods: Vec<_> = world.pods.in_namespace(&namespace).collect();
    pods.into_iter().filter(move |pod| claim_names(pod).any(|used| used == name))
}

/// The node that the claim's first consumer goes to: as the scheduler says, or where one already is.
pub fn chosen_node<'a>(claim: &PersistentVolumeClaim, world: &'a World) -> Option<&'a Arc<Node>> {
    let named = annotation(&claim.metadata, SELECTED_NODE).map(str::to_owned);
    let placed = || users(claim, world).find_map(|pod| pods::node_name(pod).map(str::to_owned));
    world.nodes.get("", &named.or_else(placed)?)
}

pub fn requested_bytes(claim: &PersistentVolumeClaim) -> i64 {
    let requests = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests.and_then(|requests| quantity::units(requests.get("storage")?)).unwrap_or(0)
}

pub fn capacity_bytes(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref());
    capacity.and_then(|capacity| quantity::units(capacity.get("storage")?)).unwrap_or(0)
}

/// Whether the volume can be mounted on the node.
pub fn is_reachable(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.clone());
    let affinity = NodeAffinity {
        required_during_scheduling_ignored_during_execution: required,
        preferred_during_scheduling_ignored_during_execution: None,
    };
    let affinity = Affinity { node_affinity: Some(affinity), ..Affinity::default() };
    let spec = PodSpec { affinity: Some(affinity), ..PodSpec::default() };
    matches_required(&Pod { spec: Some(spec), ..Pod::default() }, node)
}

/// Whether the reference is to this claim, or to any claim of its name.
pub fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (reference.uid.is_none() || reference.uid == claim.metadata.uid)
}

pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some(PERSISTENT_VOLUME_CLAIMS.api_version()),
        kind: Some(PERSISTENT_VOLUME_CLAIMS.kind.to_string()),
        namespace: claim.metadata.namespace.clone(),
        name: claim.metadata.name.clone(),
        uid: claim.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// The claim a volume is kept for.
pub fn key_of(reference: &ObjectReference) -> Key {
    Key::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default())
}
