//! The claims of a StatefulSet's pods, and what becomes of them (KEP-1847).

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::identity::{ordinal, pod_name};
use crate::pods::{controller_ref, is_deleting};
use crate::resource::{PODS, STATEFUL_SETS};
use crate::world::World;

/// A claim that a pod needs, as it should be.
pub struct Claim<'a> {
    pub name: String,
    pub template: &'a PersistentVolumeClaim,
}

fn templates(set: &StatefulSet) -> &[PersistentVolumeClaim] {
    set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default()
}

/// The claims of the pod of this ordinal.
pub fn claims(set: &StatefulSet, ordinal: i32) -> impl Iterator<Item = Claim<'_>> {
    let pod = pod_name(set, ordinal);
    templates(set).iter().map(move |template| {
        let name = template.metadata.name.as_deref().unwrap_or_default();
        Claim { name: format!("{name}-{pod}"), template }
    })
}

/// Whether a claim of this name is one of the set's.
pub fn is_claim(set: &StatefulSet, claim: &str) -> bool {
    templates(set).iter().any(|template| {
        let prefix = template.metadata.name.as_deref().unwrap_or_default();
        claim.strip_prefix(prefix).and_then(|rest| ordinal(set, rest.strip_prefix('-')?)).is_some()
    })
}

/// Replaces the volumes of the claims' names by the claims.
pub fn mount(set: &StatefulSet, ordinal: i32, spec: &mut PodSpec) {
    let claimed = claims(set, ordinal).map(|claim| Volume {
        name: claim.template.metadata.name.clone().unwrap_or_default(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource { claim_name: claim.name, read_only: None }),
        ..Volume::default()
    });
    let mut volumes: Vec<Volume> = claimed.collect();
    let others = spec.volumes.take().unwrap_or_default();
    volumes.extend(
        others.into_iter().filter(|other| templates(set).iter().all(|t| t.metadata.name.as_ref() != Some(&other.name))),
    );
    spec.volumes = Some(volumes).filter(|volumes| !volumes.is_empty());
}

/// A claim to be created for the pod of this ordinal.
pub fn new_claim(set: &StatefulSet, claim: &Claim) -> PersistentVolumeClaim {
    let mut new = claim.template.clone();
    new.status = None;
    new.metadata.name = Some(claim.name.clone());
    new.metadata.namespace = set.metadata.namespace.clone();
    let selected = set.spec.as_ref().and_then(|spec| spec.selector.match_labels.clone()).unwrap_or_default();
    new.metadata.labels.get_or_insert_default().extend(selected);
    new.metadata.owner_references = wanted_owners(set, None, &[]);
    new
}

/// Whether a claim is about to go: with its own deletion, or, where claims go with their pods, with an earlier pod of the
/// same name.
pub fn is_stale(set: &StatefulSet, ordinal: i32, world: &World) -> bool {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let pod = pod_name(set, ordinal);
    let goes_with_pods = retention(set).when_scaled.as_deref() == Some("Delete");
    claims(set, ordinal).filter_map(|claim| world.persistent_volume_claims.get(namespace, &claim.name)).any(|claim| {
        let owners = claim.metadata.owner_references.iter().flatten();
        let mut pods = owners.filter(|owner| owner.kind == PODS.kind && owner.name == pod);
        is_deleting(&claim.metadata) || (goes_with_pods && pods.next().is_some())
    })
}

/// The owners a claim should have by the set's retention policy, if they are not those it has. `condemned`: the claim's
/// pod, if that is to go for good.
pub fn owners_to_set(
    set: &StatefulSet,
    claim: &PersistentVolumeClaim,
    condemned: Option<&Pod>,
) -> Option<Vec<OwnerReference>> {
    let owners = claim.metadata.owner_references.as_deref().unwrap_or_default();
    let foreign = |owner: &&OwnerReference| owner.kind != PODS.kind && Some(&owner.uid) != set.metadata.uid.as_ref();
    let others: Vec<OwnerReference> = owners.iter().filter(foreign).cloned().collect();
    if others.iter().any(|owner| owner.controller == Some(true)) {
        return None;
    }
    let wanted = wanted_owners(set, condemned, &others).unwrap_or_default();
    let uids = |owners: &[OwnerReference]| owners.iter().map(|owner| owner.uid.clone()).collect::<Vec<_>>();
    (uids(&wanted) != uids(owners)).then_some(wanted)
}

fn retention(set: &StatefulSet) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone()).unwrap_or_default()
}

fn wanted_owners(set: &StatefulSet, condemned: Option<&Pod>, others: &[OwnerReference]) -> Option<Vec<OwnerReference>> {
    let policy = retention(set);
    let goes = |when: &Option<String>| when.as_deref() == Some("Delete");
    let owner = match condemned.filter(|_| goes(&policy.when_scaled)) {
        Some(pod) => Some(controller_ref(&PODS, &pod.metadata)),
        None if goes(&policy.when_deleted) => Some(controller_ref(&STATEFUL_SETS, &set.metadata)),
        None => None,
    };
    let owners: Vec<OwnerReference> = others.iter().cloned().chain(owner).collect();
    Some(owners).filter(|owners| !owners.is_empty())
}
