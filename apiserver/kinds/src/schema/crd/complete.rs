//! Whether a schema is complete: what the combining keywords at its root restrict must be described outside of them.

use serde_json::Value;

use super::members;
use super::structural::{MAX_SCHEMA_DEPTH_LEVELS, items};
use crate::field::{FieldError, FieldPath};

/// Checks what the keywords of `values` say about the values of `schema`. `path` is where the schema stands, `values_path`
/// where the keywords do.
pub(super) fn check(
    values: &Value,
    schema: &Value,
    path: &FieldPath,
    values_path: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if let Some(not) = values.get("not").filter(|not| not.is_object()) {
        nested(not, Some(schema), path, &values_path.child("not"), depth + 1, errors);
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let values_path = values_path.child(name);
        for (i, alternative) in items(values, name) {
            nested(alternative, Some(schema), path, &values_path.index(i), depth + 1, errors);
        }
    }
}

fn nested(
    values: &Value,
    schema: Option<&Value>,
    path: &FieldPath,
    values_path: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return;
    }
    let Some(schema) = schema else {
        return errors.push(FieldError::required(path, format!("because it is defined in {values_path}")));
    };
    check(values, schema, path, values_path, depth, errors);
    if let Some(item) = values.get("items").filter(|item| item.is_object()) {
        let own = schema.get("items").filter(|item| item.is_object());
        nested(item, own, &path.child("items"), &values_path.child("items"), depth + 1, errors);
    }
    let (path, values_path) = (path.child("properties"), values_path.child("properties"));
    for (name, property) in members(values, "properties") {
        let own = schema.get("properties").and_then(|own| own.get(name));
        nested(property, own, &path.key(name), &values_path.key(name), depth + 1, errors);
    }
}
