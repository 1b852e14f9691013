//! Which objects a controller manages: adoption of orphans that match its selector, release of those that no longer do.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::Value;

use crate::plan::{PatchKind, Step, Target, owners_patch};
use crate::pods::{controller_ref, is_active, is_deleting};
use crate::resource::{PODS, Resource};
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
    claim_with(owner_resource, owner, wanted, resource, store, &Rules::plain())
}

/// Like [`claim`] for pods, of which those that no longer run stay whose they are.
pub fn claim_active(
    owner_resource: &Resource,
    owner: &ObjectMeta,
    wanted: &LabelSelector,
    store: &Store<Pod>,
) -> Claimed<Pod> {
    claim_with(owner_resource, owner, wanted, &PODS, store, &Rules { may_change: &is_active, ..Rules::plain() })
}

/// Like [`claim`] for pods, which get a finalizer when they are adopted.
pub fn claim_tracked(
    owner_resource: &Resource,
    owner: &ObjectMeta,
    wanted: &LabelSelector,
    store: &Store<Pod>,
    finalizer: &str,
) -> Claimed<Pod> {
    let rules = Rules { finalizer: Some(finalizer), ..Rules::plain() };
    claim_with(owner_resource, owner, wanted, &PODS, store, &rules)
}

/// Like [`claim`] for pods, of which only the members can be the owner's.
pub fn claim_members(
    owner_resource: &Resource,
    owner: &ObjectMeta,
    wanted: &LabelSelector,
    store: &Store<Pod>,
    is_member: impl Fn(&Pod) -> bool,
) -> Claimed<Pod> {
    claim_with(owner_resource, owner, wanted, &PODS, store, &Rules { is_member: &is_member, ..Rules::plain() })
}

struct Rules<'a, K> {
    /// What is adopted gets it.
    finalizer: Option<&'a str>,
    /// Whether it can be the owner's at all.
    is_member: &'a dyn Fn(&K) -> bool,
    /// Whether it may be adopted or released.
    may_change: &'a dyn Fn(&K) -> bool,
}

impl<K> Rules<'_, K> {
    fn plain() -> Self {
        Self { finalizer: None, is_member: &|_| true, may_change: &|_| true }
    }
}

fn claim_with<K: Meta>(
    owner_resource: &Resource,
    owner: &ObjectMeta,
    wanted: &LabelSelector,
    resource: &Resource,
    store: &Store<K>,
    rules: &Rules<'_, K>,
) -> Claimed<K> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let selected =
        |object: &Arc<K>| selector::matches(wanted, object.meta().labels.as_ref()) && (rules.is_member)(object);
    let (mine, strangers): (Vec<_>, Vec<_>) = store.controlled_by(uid).cloned().partition(selected);
    let mut steps = Vec::new();
    if is_deleting(owner) {
        return Claimed { mine, steps };
    }
    for object in strangers.iter().filter(|object| (rules.may_change)(object)) {
        let rest: Vec<_> = object.meta().owner_references.iter().flatten().filter(|o| o.uid != uid).cloned().collect();
        steps.push(merge(resource, object.meta(), owners_patch(&rest)));
    }
    let namespace = owner.namespace.as_deref().unwrap_or_default();
    let orphans = store.unmanaged(namespace).filter(|object| !is_deleting(object.meta()) && selected(object));
    let orphans = orphans.filter(|object| (rules.may_change)(object));
    for (index, object) in orphans.enumerate() {
        if index == 0 {
            // The owner may be gone already: adopting for a dead owner would get the orphan collected.
            steps.push(Step::CheckAlive(Target::new(owner_resource, owner)));
        }
        let mut owners = object.meta().owner_references.clone().unwrap_or_default();
        owners.push(controller_ref(owner_resource, owner));
        let mut patch = owners_patch(&owners);
        if let Some(finalizer) = rules.finalizer {
            let finalizers = object.meta().finalizers.iter().flatten().map(String::as_str);
            let rest = finalizers.filter(|name| *name != finalizer);
            patch["metadata"]["finalizers"] = rest.chain([finalizer]).collect();
        }
        steps.push(merge(resource, object.meta(), patch));
    }
    Claimed { mine, steps }
}

fn merge(resource: &Resource, meta: &ObjectMeta, patch: Value) -> Step {
    Step::Patch { target: Target::exact(resource, meta), subresource: "", kind: PatchKind::Merge, patch, then: None }
}
