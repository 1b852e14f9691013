//! Moving from client-side to server-side apply (KEP-555): `kubectl apply --server-side` may take the fields that
//! `kubectl apply` set before, and keeps its annotation in step.

use serde_json::Value;

use super::compare::compare;
use super::of_value::field_set;
use super::set::FieldSet;
use super::typed::Typed;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The only manager this is for; others opt out by their name.
pub(super) const MANAGER: &str = "kubectl";

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

/// The fields that were last applied by the client and still have the value they were given.
pub(super) fn unchanged(typed: Typed<'_>, live: &Value, api_version: &str) -> FieldSet {
    let last: Option<Value> = annotation(live).and_then(|text| serde_json::from_str(text).ok());
    let Some(last) = last.filter(|last| last.get("apiVersion").is_some_and(|version| version == api_version)) else {
        return FieldSet::default();
    };
    let comparison = compare(typed, &last, live);
    field_set(typed, &last).difference(&comparison.changed()).difference(&comparison.removed)
}

/// Puts what was applied into the annotation, where there is one.
pub(super) fn sync(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut applied = config.clone();
    if let Some(annotations) = applied.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        annotations.remove(ANNOTATION);
    }
    object["metadata"]["annotations"][ANNOTATION] = format!("{applied}\n").into();
}
