//! The ReplicaSets of a Deployment as its history: which is the current template's, what revision each is, and which
//! are too many. `kubectl rollout history|undo|status` reads these annotations.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::bounds::Bounds;
use crate::pods::{self, annotation};
use crate::resource::DEPLOYMENTS;
use crate::selector::Labels;

pub const HASH_LABEL: &str = "pod-template-hash";
pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";
/// Annotations that say something about one object and must not travel to another.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    ROLLBACK_TO,
];
const MAX_HISTORY_BYTES: usize = 2000;

pub fn revision(set: &ReplicaSet) -> i64 {
    annotation(&set.metadata, REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// Whether an annotation says something about one object alone.
pub fn is_own(annotation: &str) -> bool {
    NOT_COPIED.contains(&annotation)
}

/// Equal but for the hash label that this controller adds.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    let bare = |template: &PodTemplateSpec| {
        let mut meta = template.metadata.clone().unwrap_or_default();
        if let Some(labels) = &mut meta.labels {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.filter(|l| !l.is_empty());
        meta.annotations = meta.annotations.filter(|a| !a.is_empty());
        meta.creation_timestamp = None;
        meta
    };
    a.spec == b.spec && bare(a) == bare(b)
}

/// Splits the sets into the one of the current template (the oldest, should there be several) and the others, oldest
/// first.
pub fn split(
    deployment: &Deployment,
    mut sets: Vec<Arc<ReplicaSet>>,
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    sets.sort_by(|a, b| age(a).cmp(&age(b)));
    let Some(spec) = &deployment.spec else { return (None, sets) };
    let current = sets.iter().position(|set| {
        let template = set.spec.as_ref().and_then(|s| s.template.as_ref());
        template.is_some_and(|template| same_template(template, &spec.template))
    });
    let new = current.map(|at| sets.remove(at));
    (new, sets)
}

fn age(set: &ReplicaSet) -> (Option<jiff::Timestamp>, Option<&str>) {
    (set.metadata.creation_timestamp.as_ref().map(|t| t.0), set.metadata.name.as_deref())
}

/// The ReplicaSet of the current template, not yet created.
pub fn new_set(deployment: &Deployment, hash: &str, replicas: i32, revision: i64) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let mut template = spec.template.clone();
    let meta = template.metadata.get_or_insert_default();
    meta.labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.into());
    let mut selector = spec.selector.clone();
    selector.match_labels.get_or_insert_default().insert(HASH_LABEL.into(), hash.into());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: meta.labels.clone(),
            owner_references: Some(vec![pods::controller_ref(&DEPLOYMENTS, &deployment.metadata)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(replicas),
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let mut annotations = annotations(deployment, &set, revision);
    annotations.extend(size_annotations(&Bounds::of(&spec)));
    set.metadata.annotations = Some(annotations);
    set
}

/// What the current set's annotations should be: its own, the Deployment's, and at least this revision.
pub fn annotations(deployment: &Deployment, set: &ReplicaSet, at_least: i64) -> Labels {
    let mut annotations = set.metadata.annotations.clone().unwrap_or_default();
    let copied = deployment.metadata.annotations.iter().flatten().filter(|(name, _)| !is_own(name));
    annotations.extend(copied.map(|(name, value)| (name.clone(), value.clone())));
    if revision(set) < at_least
        && let Some(old) = annotations.insert(REVISION.into(), at_least.to_string())
    {
        let history = annotations.entry(REVISION_HISTORY.into()).or_default();
        if !history.is_empty() {
            history.push(',');
        }
        history.push_str(&old);
        while history.len() > MAX_HISTORY_BYTES {
            match history.split_once(',') {
                Some((_, rest)) => *history = rest.to_owned(),
                None => history.clear(),
            }
        }
    }
    annotations
}

/// What proportional scaling must know of the size a set was last scaled for.
pub fn size_annotations(bounds: &Bounds) -> [(String, String); 2] {
    [(DESIRED_REPLICAS.into(), bounds.replicas.to_string()), (MAX_REPLICAS.into(), bounds.max_total().to_string())]
}

/// Old sets beyond the history limit that nothing runs on, lowest revision first.
pub fn surplus(limit: Option<i32>, old: &[Arc<ReplicaSet>]) -> Vec<&Arc<ReplicaSet>> {
    let limit = usize::try_from(limit.unwrap_or(i32::MAX)).unwrap_or(0);
    let mut alive: Vec<_> = old.iter().filter(|set| !pods::is_deleting(&set.metadata)).collect();
    let excess = alive.len().saturating_sub(limit);
    alive.sort_by_key(|set| revision(set));
    alive.truncate(excess);
    alive.retain(|set| {
        let status = set.status.clone().unwrap_or_default();
        let idle = status.replicas == 0 && set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1) == 0;
        idle && status.observed_generation >= set.metadata.generation
    });
    alive
}
