//! Mirror pods: what shows in the API that a node runs a pod of its own (a static pod).

use serde_json::Value;

use crate::field::{FieldError, FieldPath};
use crate::object::{get, text};

/// What a mirror pod is known by; its value is the hash of what the node runs.
pub const ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What the annotation says; `None` for every other pod.
pub fn mirrored(pod: &Value) -> Option<&str> {
    get(pod, &["metadata", "annotations", ANNOTATION]).and_then(Value::as_str)
}

/// A mirror pod is on its node from the beginning.
pub fn validate(pod: &Value, errors: &mut Vec<FieldError>) {
    if let Some(hash) = mirrored(pod).filter(|_| text(pod, &["spec", "nodeName"]).is_empty()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        error(errors, |path| FieldError::invalid(path, hash, why));
    }
}

/// A pod is a mirror for as long as it is there, or never.
pub fn validate_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    match (mirrored(old), mirrored(new)) {
        (None, Some(_)) => error(errors, |path| FieldError::forbidden(path, "may not add mirror pod annotation")),
        (Some(old), new) if new != Some(old) => {
            error(errors, |path| FieldError::forbidden(path, "may not remove or update mirror pod annotation"));
        }
        _ => {}
    }
    validate(new, errors);
}

fn error(errors: &mut Vec<FieldError>, at: impl Fn(&FieldPath<'_>) -> FieldError) {
    let metadata = FieldPath::new("metadata");
    errors.push(at(&metadata.child("annotations").key(ANNOTATION)));
}
