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
    if world.controller_revisions.get(namespace, &name).is_some() {
        return Current::Collision;
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
