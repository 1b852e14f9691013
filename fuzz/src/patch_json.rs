//! JSON patches, against a naive model of RFC 6902.

use crate::input::object_and_rest;
use crate::models;
use k8w_apiserver::patch::Patch;
use serde_json::Value;

/// See the module.
pub fn check(input: &[u8]) {
    let Some((schema, original, patch)) = object_and_rest(input) else { return };
    let Ok(Some(read)) = Patch::read("application/json-patch+json", patch) else { return };
    let patched = read.apply(&schema, &original);
    // What is refused for its size is no mistake that the model would know.
    if patched.as_ref().is_err_and(|status| status.code == 413) {
        return;
    }
    let Ok(Value::Array(operations)) = serde_json::from_slice(patch) else { return };
    assert_eq!(patched.ok(), models::json_patch(original, &operations));
}
