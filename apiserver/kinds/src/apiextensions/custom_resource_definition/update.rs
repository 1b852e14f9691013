//! Rules of a change of a definition.

use serde_json::Value;

use super::{status, validate};
use crate::field::{Field, FieldError};
use crate::rules::immutable;

/// What the objects' place in the store depends on cannot change once the definition is established.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (new_root, old_root) = (Field::root(new), Field::root(old));
    let (new_spec, old_spec) = (new_root.get("spec"), old_root.get("spec"));
    validate::spec(&new_spec, Some(old), &mut errors);
    let (new_names, old_names) = (new_spec.get("names"), old_spec.get("names"));
    if status::is_established(old) {
        immutable(&new_spec.get("scope"), &old_spec.get("scope"), &mut errors);
        immutable(&new_names.get("kind"), &old_names.get("kind"), &mut errors);
    }
    immutable(&new_spec.get("group"), &old_spec.get("group"), &mut errors);
    immutable(&new_names.get("plural"), &old_names.get("plural"), &mut errors);
    errors.extend(validate::accepted_names(new));
    validate::stored_versions(new, &mut errors);
    validate::approval(new, Some(old), &mut errors);
    validate::preserve_unknown_fields(new, Some(old), &mut errors);
    errors
}
