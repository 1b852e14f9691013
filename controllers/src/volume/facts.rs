//! What the volume controllers ask of claims, volumes, classes and pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ObjectReference, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use crate::engine::Wake;
use crate::pods::{self, annotation};
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS};
use crate::scheduler::{SELECTED_NODE, claim_names, class_name};
use crate::world::World;

pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// `volumeBindingMode` of classes whose claims are bound when somebody uses them.
pub const WAITS_FOR_CONSUMER: &str = "WaitForFirstConsumer";

pub fn class_of<'a>(claim: &PersistentVolumeClaim, world: &'a World) -> Option<&'a Arc<StorageClass>> {
    world.storage_classes.get("", class_name(claim)?)
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
    class.volume_binding_mode.as_deref() == Some(WAITS_FOR_CONSUMER)
}

/// The volume that a claim is bound to, or asks for.
pub fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

/// Wakes the claims that a pod uses.
pub fn wake_claims(pod: &Pod, wake: &mut Wake) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    claim_names(pod).for_each(|name| wake.now(Key::new(namespace, &name)));
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

/// What refers to the claim, in whatever version.
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference { resource_version: None, ..PERSISTENT_VOLUME_CLAIMS.reference(&claim.metadata) }
}

/// The claim a volume is kept for.
pub fn key_of(reference: &ObjectReference) -> Key {
    Key::new(reference.namespace.as_deref().unwrap_or_default(), reference.name.as_deref().unwrap_or_default())
}
