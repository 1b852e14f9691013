//! JSON merge patches, against RFC 7396 word for word; merging twice is merging once.

use crate::input::object_and_rest;
use crate::models;
use k8w_kinds::schema::merge_patch::merge_patch;
use serde_json::Value;

/// See the module.
pub fn check(input: &[u8]) {
    let Some((_, original, patch)) = object_and_rest(input) else {
        return;
    };
    let Ok(patch) = serde_json::from_slice::<Value>(patch) else {
        return;
    };
    let mut patched = original.clone();
    merge_patch(&mut patched, patch.clone());
    assert_eq!(patched, models::merge_patch(original, &patch));
    let mut again = patched.clone();
    merge_patch(&mut again, patch);
    assert_eq!(again, patched);
}
