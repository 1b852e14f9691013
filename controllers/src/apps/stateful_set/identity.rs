//! What makes a pod the one of its ordinal: name, host name, labels and volumes.

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};

use super::storage;
use crate::apps::history;
use crate::pods;
use crate::resource::STATEFUL_SETS;

pub const REVISION_LABEL: &str = "controller-revision-hash";
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal in a pod's name, if that is one the set gives.
pub fn ordinal(set: &StatefulSet, pod: &str) -> Option<i32> {
    let digits = pod.strip_prefix(set.metadata.name.as_deref()?)?.strip_prefix('-')?;
    let ordinal: i32 = digits.parse().ok()?;
    (ordinal >= 0 && ordinal.to_string() == digits).then_some(ordinal)
}

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.metadata.name.as_deref().unwrap_or_default())
}

/// The revision a pod was made from, by name.
pub fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(REVISION_LABEL)).map(String::as_str).unwrap_or_default()
}

/// A pod of this ordinal from the template of this revision.
pub fn pod(set: &StatefulSet, template: &PodTemplateSpec, from: &ControllerRevision, ordinal: i32) -> Pod {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let owner = pods::controller_ref(&STATEFUL_SETS, &set.metadata);
    let mut pod = pods::from_template(template, namespace, owner);
    let name = pod_name(set, ordinal);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.into(), history::name(from).into());
    labels.extend(identity_labels(&name, ordinal));
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(name);
        spec.subdomain = set.spec.as_ref().and_then(|s| s.service_name.clone()).filter(|name| !name.is_empty());
        storage::mount(set, ordinal, spec);
    }
    pod
}

fn identity_labels(name: &str, ordinal: i32) -> [(String, String); 2] {
    [(NAME_LABEL.into(), name.into()), (INDEX_LABEL.into(), ordinal.to_string())]
}

/// The labels of its identity that a pod lacks: it was adopted, or somebody took them away.
pub fn missing_labels(pod: &Pod, ordinal: i32) -> Vec<(String, String)> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let has = |key: &str| pod.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    identity_labels(name, ordinal).into_iter().filter(|(key, value)| has(key) != Some(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_set_gives_have_an_ordinal() {
        let set: StatefulSet = serde_saphyr::from_str("metadata: {name: web}").unwrap();
        for (name, expected) in [
            ("web-0", Some(0)),
            ("web-12", Some(12)),
            ("web-2147483647", Some(i32::MAX)),
            ("web-2147483648", None),
            ("web-01", None),
            ("web--1", None),
            ("web-", None),
            ("web", None),
            ("web-a-1", None),
            ("other-1", None),
        ] {
            assert_eq!(ordinal(&set, name), expected, "{name}");
        }
    }
}
