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
    new.metadata.owner_references = wanted_owner(set, None).map(|owner| vec![owner]);
    new
}

/// Whether a claim is about to go with an earlier pod of the same name, where claims go with their pods.
pub fn is_stale(set: &StatefulSet, ordinal: i32, world: &World) -> bool {
    let pod = pod_name(set, ordinal);
    let is_of_pod = |owner: &OwnerReference| owner.kind == PODS.kind && owner.name == pod;
    goes(retention(set).when_scaled.as_ref())
        && stored(set, ordinal, world).any(|claim| claim.metadata.owner_references.iter().flatten().any(is_of_pod))
}

/// The claims of this ordinal that are being deleted: their pod waits until they are gone.
pub fn leaving<'a>(set: &'a StatefulSet, ordinal: i32, world: &'a World) -> impl Iterator<Item = &'a str> {
    let leaving = stored(set, ordinal, world).filter(|claim| is_deleting(&claim.metadata));
    leaving.filter_map(|claim| claim.metadata.name.as_deref())
}

/// The claims of this ordinal that exist.
pub fn stored<'a>(
    set: &'a StatefulSet,
    ordinal: i32,
    world: &'a World,
) -> impl Iterator<Item = &'a PersistentVolumeClaim> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    claims(set, ordinal)
        .filter_map(move |claim| world.persistent_volume_claims.get(namespace, &claim.name).map(|claim| &**claim))
}

/// What is to be changed about whose a claim is.
#[derive(Debug)]
pub struct Ownership {
    pub owners: Vec<OwnerReference>,
    /// Someone else manages the claim, so that the policy cannot be followed.
    pub is_conflict: bool,
}

/// Whose a claim should be by the set's retention policy, if that is not what it says. A claim that an earlier set or pod
/// of the same name has left is for the garbage collector. `is_condemned`: the claim's pod is to go for good.
pub fn ownership(set: &StatefulSet, claim: &PersistentVolumeClaim, pod: &Pod, is_condemned: bool) -> Option<Ownership> {
    let refs = [controller_ref(&STATEFUL_SETS, &set.metadata), controller_ref(&PODS, &pod.metadata)];
    let name = |owner: &OwnerReference| (owner.api_version.clone(), owner.kind.clone(), owner.name.clone());
    let owners = claim.metadata.owner_references.iter().flatten();
    let (ours, others): (Vec<_>, Vec<_>) =
        owners.cloned().partition(|owner| refs.iter().any(|own| name(own) == name(owner)));
    if ours.iter().any(|owner| refs.iter().all(|own| own.uid != owner.uid)) {
        return None;
    }
    let wanted = wanted_owner(set, Some(pod).filter(|_| is_condemned));
    let is_conflict = !retains(set) && others.iter().any(|owner| owner.controller == Some(true));
    let wanted = wanted.filter(|_| !is_conflict);
    let is_right = match (&wanted, ours.as_slice()) {
        (None, ours) => ours.is_empty(),
        (Some(wanted), [only]) => only.uid == wanted.uid && only.controller == Some(true),
        (Some(_), _) => false,
    };
    (!is_right).then(|| Ownership { owners: others.into_iter().chain(wanted).collect(), is_conflict })
}

fn retention(set: &StatefulSet) -> StatefulSetPersistentVolumeClaimRetentionPolicy {
    set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone()).unwrap_or_default()
}

fn goes(when: Option<&String>) -> bool {
    when.is_some_and(|when| when == "Delete")
}

/// Whether claims stay whatever happens.
fn retains(set: &StatefulSet) -> bool {
    let policy = retention(set);
    !goes(policy.when_scaled.as_ref()) && !goes(policy.when_deleted.as_ref())
}

/// What a claim is to go with.
fn wanted_owner(set: &StatefulSet, condemned: Option<&Pod>) -> Option<OwnerReference> {
    let policy = retention(set);
    match condemned.filter(|_| goes(policy.when_scaled.as_ref())) {
        Some(pod) => Some(controller_ref(&PODS, &pod.metadata)),
        None => goes(policy.when_deleted.as_ref()).then(|| controller_ref(&STATEFUL_SETS, &set.metadata)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(policy: &str) -> StatefulSet {
        let policy = format!("persistentVolumeClaimRetentionPolicy: {policy}");
        let template =
            "selector: {}, template: {}, volumeClaimTemplates: [{metadata: {name: data}}, {metadata: {name: logs}}]";
        let yaml = format!("metadata: {{name: web, uid: set}}\nspec: {{{template}, {policy}}}");
        serde_saphyr::from_str(&yaml).unwrap()
    }

    /// An owner as a word: whose it is, `!` behind those that manage.
    fn owner(word: &str) -> OwnerReference {
        let (api_version, kind, name, uid) = match word.trim_end_matches('!') {
            "set" => ("apps/v1", "StatefulSet", "web", "set"),
            "earlier-set" => ("apps/v1", "StatefulSet", "web", "earlier"),
            "pod" => ("v1", "Pod", "web-0", "pod"),
            "earlier-pod" => ("v1", "Pod", "web-0", "earlier"),
            other => ("v1", "ConfigMap", other, other),
        };
        OwnerReference {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            controller: word.ends_with('!').then_some(true),
            block_owner_deletion: None,
        }
    }

    /// The owners a claim gets by a policy for scaling and one for deletion, as words; `-` where it keeps what it has.
    fn changed(scaled: &str, deleted: &str, owners: &str, is_condemned: bool) -> String {
        let set = set(&format!("{{whenScaled: {scaled}, whenDeleted: {deleted}}}"));
        let pod: Pod = serde_saphyr::from_str("metadata: {name: web-0, uid: pod}").unwrap();
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.owner_references = Some(owners.split_whitespace().map(owner).collect());
        let Some(change) = ownership(&set, &claim, &pod, is_condemned) else { return "-".into() };
        let words = change.owners.iter().map(|owner| {
            let manages = if owner.controller == Some(true) { "!" } else { "" };
            format!("{}{manages}", owner.uid)
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_claim_belongs_to_what_it_is_to_go_with() {
        for (scaled, deleted, condemned, wanted) in [
            ("Retain", "Retain", false, ""),
            ("Retain", "Retain", true, ""),
            ("Retain", "Delete", false, "set!"),
            ("Retain", "Delete", true, "set!"),
            ("Delete", "Retain", false, ""),
            ("Delete", "Retain", true, "pod!"),
            ("Delete", "Delete", false, "set!"),
            ("Delete", "Delete", true, "pod!"),
        ] {
            for owners in ["", "set!", "pod!", "set! pod!", "set", "pod", "config", "config set!", "pod! config"] {
                let is_other = |word: &&str| *word == "config";
                let ours: Vec<_> = owners.split_whitespace().filter(|word| !is_other(word)).collect();
                let others = owners.split_whitespace().filter(is_other);
                let expected = if ours.join(" ") == wanted {
                    "-".to_owned()
                } else {
                    others.chain([wanted]).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
                };
                let case = format!("{scaled} {deleted} {owners:?} condemned: {condemned}");
                assert_eq!(changed(scaled, deleted, owners, condemned), expected, "{case}");
            }
        }
    }

    #[test]
    fn what_an_earlier_namesake_left_is_not_touched() {
        for owners in ["earlier-set!", "earlier-set", "earlier-pod!", "config earlier-pod"] {
            assert_eq!(changed("Delete", "Delete", owners, true), "-", "{owners}");
            assert_eq!(changed("Retain", "Retain", owners, false), "-", "{owners}");
        }
    }

    #[test]
    fn a_claim_that_somebody_else_manages_gets_no_owner_and_loses_ours() {
        assert_eq!(changed("Delete", "Delete", "config!", false), "-");
        assert_eq!(changed("Retain", "Retain", "config!", false), "-");
        assert_eq!(changed("Delete", "Delete", "config! set", false), "config!");
        assert_eq!(changed("Retain", "Delete", "set! config!", true), "config!");
        assert_eq!(changed("Retain", "Retain", "config! set", false), "config!");
    }

    #[test]
    fn claims_take_the_place_of_volumes_of_their_names() {
        let volumes = "[{name: data, emptyDir: {}}, {name: other, emptyDir: {}}]";
        let mut spec: PodSpec = serde_saphyr::from_str(&format!("containers: []\nvolumes: {volumes}")).unwrap();
        mount(&set("{}"), 3, &mut spec);
        let claimed = |volume: &Volume| volume.persistent_volume_claim.as_ref().map(|claim| claim.claim_name.clone());
        let names: Vec<_> = spec.volumes.iter().flatten().map(|v| (v.name.clone(), claimed(v))).collect();
        let claim = |name: &str| (name.to_owned(), Some(format!("{name}-web-3")));
        assert_eq!(names, [claim("data"), claim("logs"), ("other".into(), None)]);
    }
}
