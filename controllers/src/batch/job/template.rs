//! The pods a Job makes.

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};

use super::failure_policy::{Judgement, judge};
use super::view::{View, number};
use super::{INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, TRACKING_FINALIZER};
use crate::pods;
use crate::resource::JOBS;

const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// What the API server leaves of `generateName` before it adds five random characters.
const GENERATE_NAME_MAX_BYTES: usize = 58;

/// A pod that counts for the Job, with its index if the Job is Indexed.
pub fn pod(view: &View, index: Option<i32>) -> Pod {
    let namespace = view.job.metadata.namespace.as_deref().unwrap_or_default();
    let owner = pods::controller_ref(&JOBS, &view.job.metadata);
    let mut pod = pods::from_template(&view.spec.template, namespace, owner);
    let finalizers = pod.metadata.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|finalizer| finalizer == TRACKING_FINALIZER) {
        finalizers.push(TRACKING_FINALIZER.into());
    }
    if let Some(index) = index {
        set_index(view, &mut pod, index);
    }
    pod
}

fn set_index(view: &View, pod: &mut Pod, index: i32) {
    let name = view.job.metadata.name.as_deref().unwrap_or_default();
    let suffix = format!("-{index}-");
    let room = GENERATE_NAME_MAX_BYTES.saturating_sub(suffix.len()).min(name.len());
    // Names are ASCII, as the API server has checked.
    pod.metadata.generate_name = Some(format!("{}{suffix}", name.get(..room).unwrap_or(name)));
    pod.metadata.labels.get_or_insert_default().insert(INDEX.into(), index.to_string());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.into(), index.to_string());
    if view.spec.backoff_limit_per_index.is_some() {
        let (failures, ignored) = carried_on(view, index);
        annotations.insert(INDEX_FAILURES.into(), failures.to_string());
        if ignored > 0 {
            annotations.insert(INDEX_IGNORED_FAILURES.into(), ignored.to_string());
        }
    }
    let Some(spec) = &mut pod.spec else { return };
    spec.hostname = Some(format!("{name}-{index}"));
    spec.init_containers.iter_mut().flatten().chain(&mut spec.containers).for_each(tell_index);
}

/// How often the index has failed, and how often that was ignored, with the pod that is replaced.
fn carried_on(view: &View, index: i32) -> (i32, i32) {
    let Some(last) = view.to_replace.get(&index) else { return (0, 0) };
    let (failures, ignored) = (number(last, INDEX_FAILURES), number(last, INDEX_IGNORED_FAILURES));
    match judge(view.spec.pod_failure_policy.as_ref(), last) {
        Judgement::Ignore => (failures, ignored.saturating_add(1)),
        _ => (failures.saturating_add(1), ignored),
    }
}

fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|variable| variable.name == INDEX_VARIABLE) {
        return;
    }
    let field_ref = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
    variables.push(EnvVar {
        name: INDEX_VARIABLE.into(),
        value: None,
        value_from: Some(EnvVarSource { field_ref: Some(field_ref), ..EnvVarSource::default() }),
    });
}
