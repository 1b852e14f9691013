//! Brings an earlier template back where the annotation asks for it that `rollbackTo` of old APIs became.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::note;
use super::revisions::{self, ROLLBACK_TO};
use crate::plan::{NoteType, Plan};
use crate::pods::annotation;
use crate::resource::DEPLOYMENTS;

/// The revision that is asked for; 0 is the one before the current.
pub fn wanted(deployment: &Deployment) -> Option<i64> {
    annotation(&deployment.metadata, ROLLBACK_TO)?.parse().ok()
}

/// `sets`: all of the Deployment's. Whatever comes of it, the wish is taken away.
pub fn plan(deployment: &Deployment, sets: &[&Arc<ReplicaSet>], wanted: i64) -> Plan {
    let mut updated = deployment.clone();
    updated.metadata.annotations.get_or_insert_default().remove(ROLLBACK_TO);
    let (note_type, reason, message) = match find(sets, wanted) {
        None => {
            let message = match wanted {
                0 => "Unable to find last revision.",
                _ => "Unable to find the revision to rollback to.",
            };
            (NoteType::Warning, "RollbackRevisionNotFound", message.to_owned())
        }
        Some(set) => apply(&mut updated, set),
    };
    let mut plan = Plan::none();
    plan.update(&DEPLOYMENTS, &updated, Some(note(deployment, note_type, reason, message)));
    plan
}

fn find<'a>(sets: &[&'a Arc<ReplicaSet>], wanted: i64) -> Option<&'a Arc<ReplicaSet>> {
    let mut sets = sets.to_vec();
    sets.sort_by_key(|set| revisions::revision(set));
    match wanted {
        0 => sets.into_iter().rev().nth(1),
        revision => sets.into_iter().find(|set| revisions::revision(set) == revision),
    }
}

/// Takes the set's template over, and the annotations that the set has from the Deployment as it was then.
fn apply(deployment: &mut Deployment, set: &ReplicaSet) -> (NoteType, &'static str, String) {
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let mut template = set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
    let spec = deployment.spec.get_or_insert_default();
    if revisions::same_template(&template, &spec.template) {
        let message = format!("The rollback revision contains the same template as current deployment \"{name}\"");
        return (NoteType::Warning, "RollbackTemplateUnchanged", message);
    }
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(revisions::HASH_LABEL);
    }
    spec.template = template;
    let annotations = deployment.metadata.annotations.get_or_insert_default();
    annotations.retain(|name, _| revisions::is_own(name));
    let of_set = set.metadata.annotations.iter().flatten().filter(|(name, _)| !revisions::is_own(name));
    annotations.extend(of_set.map(|(name, value)| (name.clone(), value.clone())));
    let message = format!("Rolled back deployment \"{name}\" to revision {}", revisions::revision(set));
    (NoteType::Normal, "DeploymentRollback", message)
}
