//! Strategic merge patches: the empty one changes nothing, and what can be merged twice is as merged once.

use crate::input::object_and_rest;
use serde_json::{Value, json};

/// See the module.
pub fn check(input: &[u8]) {
    let Some((schema, original, patch)) = object_and_rest(input) else {
        return;
    };
    assert_eq!(schema.strategic_merge(&original, &json!({})), Ok(original.clone()));
    let Ok(patch) = serde_json::from_slice::<Value>(patch) else {
        return;
    };
    let Ok(patched) = schema.strategic_merge(&original, &patch) else {
        return;
    };
    // What does not fit the type is refused later, and need not merge again; what a directive does depends on what is there.
    let has = |directive: &str| patch.to_string().contains(directive);
    let is_plain = !has("$patch") && !has("$retainKeys");
    if is_plain
        && schema.check(patched.clone()).is_ok_and(|checked| checked.value == patched && checked.issues.is_empty())
    {
        // Keys and directives are looked at where there is something to merge with, so that the second merge may be refused.
        if let Ok(again) = schema.strategic_merge(&patched, &patch) {
            assert_eq!(again, patched);
        }
    }
}
