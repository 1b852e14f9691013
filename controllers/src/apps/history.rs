//! What a DaemonSet's or StatefulSet's template was, revision by revision, as ControllerRevisions keep it.
//!
//! A revision holds the template as a strategic merge patch, which is what `kubectl rollout undo` applies.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::hash::template_hash;
use crate::plan::{self, PatchKind, Step, Target};
use crate::pods;
use crate::resource::{CONTROLLER_REVISIONS, Resource};
use crate::world::World;

/// Room for the hash in a revision's name.
const PREFIX_MAX_BYTES: usize = 223;

/// Whose history it is, and how its revisions are labelled.
pub struct Owner<'a> {
    pub resource: &'static Resource,
    pub meta: &'a ObjectMeta,
    pub template: &'a PodTemplateSpec,
    pub collisions: Option<i32>,
    /// The label that holds the revision's hash.
    pub hash_label: &'static str,
}

/// The revision of the template as it is now.
pub enum Current {
    Stored(Arc<ControllerRevision>),
    /// This write makes it so.
    Write(Box<Step>),
    /// Its name is another revision's: count that and try the next.
    Collision,
}

/// Oldest first.
pub fn sorted(mut revisions: Vec<Arc<ControllerRevision>>) -> Vec<Arc<ControllerRevision>> {
    revisions.sort_by_cached_key(|r| {
        (r.revision, r.metadata.creation_timestamp.as_ref().map(|t| t.0), r.metadata.name.clone())
    });
    revisions
}

pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

/// Finds the template's revision among `revisions` (oldest first); an earlier one becomes the newest again.
pub fn current(owner: &Owner, revisions: &[Arc<ControllerRevision>], world: &World) -> Current {
    let data = data(owner.template);
    let next = revisions.last().map_or(0, |newest| newest.revision) + 1;
    let same = revisions.iter().rev().find(|r| r.data.as_ref().is_some_and(|d| d.0 == data));
    match same {
        Some(same) if same.revision + 1 == next => Current::Stored(same.clone()),
        Some(earlier) => Current::Write(Box::new(Step::Patch {
            target: Target::exact(&CONTROLLER_REVISIONS, &earlier.metadata),
            subresource: "",
            kind: PatchKind::Merge,
            patch: json!({ "revision": next }),
            then: None,
        })),
        None => create(owner, data, next, world),
    }
}

fn create(owner: &Owner, data: Value, number: i64, world: &World) -> Current {
    let hash = template_hash(owner.template, owner.collisions);
    let prefix = owner.meta.name.as_deref().unwrap_or_default();
    let name = format!("{}-{hash}", prefix.get(..PREFIX_MAX_BYTES).unwrap_or(prefix));
    let namespace = owner.meta.namespace.as_deref().unwrap_or_default();
    match world.controller_revisions.get(namespace, &name) {
        // One that an earlier owner of this name has left: what it holds is what is wanted.
        Some(left) if left.data.as_ref().is_some_and(|d| d.0 == data) => return Current::Stored(left.clone()),
        Some(_) => return Current::Collision,
        None => {}
    }
    let mut labels = owner.template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(owner.hash_label.into(), hash);
    let revision = ControllerRevision {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: owner.meta.namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta.annotations.clone(),
            owner_references: Some(vec![pods::controller_ref(owner.resource, owner.meta)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: number,
    };
    Current::Write(Box::new(plan::create(&CONTROLLER_REVISIONS, namespace, &revision)))
}

/// The patch that brings this template back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = plan::to_value(template);
    template["$patch"] = json!("replace");
    json!({ "spec": { "template": template } })
}

/// The template a revision holds.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// Deletes the oldest revisions beyond `limit` that are not in use.
pub fn clean_up(limit: Option<i32>, revisions: &[Arc<ControllerRevision>], live: &BTreeSet<&str>) -> Vec<Step> {
    let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let unused: Vec<_> = revisions.iter().filter(|r| !live.contains(name(r))).collect();
    let excess = unused.len().saturating_sub(limit);
    let delete = |revision: &&Arc<ControllerRevision>| Step::Delete {
        target: Target::new(&CONTROLLER_REVISIONS, &revision.metadata),
        propagation: None,
        grace_seconds: None,
        then: None,
        or_else: None,
    };
    unused.iter().take(excess).map(delete).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, second: u32) -> Arc<ControllerRevision> {
        let yaml = format!(
            "metadata: {{name: {name}, creationTimestamp: 2024-01-01T00:00:{second:02}Z}}\nrevision: {number}\ndata: {{}}"
        );
        Arc::new(serde_saphyr::from_str(&yaml).unwrap())
    }

    #[test]
    fn revisions_are_in_the_order_of_their_numbers_then_of_their_age_then_of_their_names() {
        let order = |revisions: &[(&str, i64, u32)]| {
            let all = revisions.iter().map(|(name, number, second)| revision(name, *number, *second)).collect();
            sorted(all).iter().map(|revision| name(revision).to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(order(&[]), "");
        assert_eq!(order(&[("c", 3, 0), ("a", 1, 0), ("b", 2, 0)]), "a b c");
        assert_eq!(order(&[("c", 1, 3), ("a", 1, 2), ("b", 1, 1)]), "b a c");
        assert_eq!(order(&[("c", 1, 1), ("a", 1, 1), ("b", 1, 1)]), "a b c");
    }

    #[test]
    fn a_template_comes_back_from_the_patch_that_holds_it() {
        let template: PodTemplateSpec = serde_saphyr::from_str(
            "{metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: one, env: [{name: A, value: b}]}]}}",
        )
        .unwrap();
        let mut stored = ControllerRevision::clone(&revision("r", 1, 0));
        stored.data = Some(RawExtension(data(&template)));
        assert_eq!(super::template(&stored), Some(template));
        assert_eq!(super::template(&revision("r", 1, 0)), None);
    }

    #[test]
    fn of_the_revisions_that_nobody_uses_the_oldest_go() {
        let all: Vec<_> = ["a", "b", "c", "d"].into_iter().zip(1..).map(|(name, at)| revision(name, at, 0)).collect();
        let gone = |limit: Option<i32>, live: &[&str]| {
            let steps = clean_up(limit, &all, &live.iter().copied().collect());
            let names = steps.into_iter().map(|step| match step {
                Step::Delete { target, .. } => target.key.name.to_string(),
                _ => String::new(),
            });
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(gone(Some(1), &["d"]), "a b");
        assert_eq!(gone(Some(1), &["a", "d"]), "b");
        assert_eq!(gone(Some(0), &["b"]), "a c d");
        assert_eq!(gone(Some(10), &[]), "");
        assert_eq!(gone(None, &[]), "", "ten are kept");
    }
}
