//! Which objects a controller manages: adoption of orphans that match its selector, release of those that no longer do.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use crate::plan::{Step, Target, owners_patch};
use crate::pods::{controller_ref, is_deleting};
use crate::resource::Resource;
use crate::selector;
use crate::world::{Meta, Store};

/// The managed objects, and the writes that are needed before the set can be acted on.
pub struct Claimed<K> {
    pub mine: Vec<Arc<K>>,
    pub steps: Vec<Step>,
}

/// Compares `store` with what `owner` selects. While `steps` is not empty the set is still to change, so nothing else
/// should be planned from it.
pub fn claim<K: Meta>(
    owner_resource: &Resource,
    owner: &ObjectMeta,
    wanted: &LabelSelector,
    resource: &Resource,
    store: &Store<K>,
) -> Claimed<K> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let selected = |object: &Arc<K>| selector::matches(wanted, object.meta().labels.as_ref());
    let (mine, strangers): (Vec<_>, Vec<_>) = store.controlled_by(uid).cloned().partition(selected);
    let mut steps = Vec::new();
    if is_deleting(owner) {
        return Claimed { mine, steps };
    }
    for object in strangers {
        let rest: Vec<_> = object.meta().owner_references.iter().flatten().filter(|o| o.uid != uid).cloned().collect();
        steps.push(set_owners(resource, object.meta(), &rest));
    }
    let namespace = owner.namespace.as_deref().unwrap_or_default();
    let orphans = store.unmanaged(namespace).filter(|object| !is_deleting(object.meta()) && selected(object));
    for (index, object) in orphans.enumerate() {
        if index == 0 {
            // The owner may be gone already: adopting for a dead owner would get the orphan collected.
            steps.push(Step::CheckAlive(Target::new(owner_resource, owner)));
        }
        let mut owners = object.meta().owner_references.clone().unwrap_or_default();
        owners.push(controller_ref(owner_resource, owner));
        steps.push(set_owners(resource, object.meta(), &owners));
    }
    Claimed { mine, steps }
}

fn set_owners(resource: &Resource, meta: &ObjectMeta, owners: &[crate::world::Owner]) -> Step {
    Step::Patch {
        target: Target::exact(resource, meta),
        subresource: "",
        kind: crate::plan::PatchKind::Merge,
        patch: owners_patch(owners),
        then: None,
    }
}
