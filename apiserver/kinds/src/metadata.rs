//! Rules of `metadata`, the same for every kind.

use serde_json::Value;

use crate::field::{Field, FieldError, FieldPath};
use crate::kind::KindDef;
use crate::names;
use crate::object;

/// All annotations of an object together, in bytes.
pub const ANNOTATIONS_MAX_BYTES: usize = 256 * 1024;

/// Checks the metadata of a new object; its name is decided by then.
pub fn validate(kind: &KindDef, object: &Value) -> Vec<FieldError> {
    let root = Field::root(object);
    let metadata = root.get("metadata");
    let mut errors = Vec::new();
    let name = metadata.get("name");
    if name.is_empty() {
        errors.push(name.required("name or generateName is required"));
    } else {
        errors.extend(kind.strategy.validate_name(name.text()).into_iter().map(|wrong| name.invalid(wrong)));
    }
    let namespace = metadata.get("namespace");
    if kind.namespaced {
        if namespace.is_empty() {
            errors.push(namespace.required(""));
        } else {
            errors.extend(names::dns_label(namespace.text()).into_iter().map(|wrong| namespace.invalid(wrong)));
        }
    } else if !namespace.is_empty() {
        errors.push(namespace.forbidden("not allowed on this type"));
    }
    validate_parts(&metadata, &mut errors);
    errors
}

/// Checks the metadata of an update against what is stored.
pub fn validate_update(kind: &KindDef, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(kind, new);
    let metadata = FieldPath::new("metadata");
    let (new, old) = (new.get("metadata").unwrap_or(&Value::Null), old.get("metadata").unwrap_or(&Value::Null));
    let path = |name: &'static str| -> (Option<&Value>, Option<&Value>, &'static str) {
        (object::get(new, &[name]), object::get(old, &[name]), name)
    };
    for (new, old, name) in ["name", "namespace", "uid", "creationTimestamp"].map(path) {
        if !object::same(new, old) {
            let shown = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&metadata.child(name), shown, "field is immutable"));
        }
    }
    errors
}

/// Labels, annotations, finalizers and owners: what templates' metadata has, too.
fn validate_parts(metadata: &Field, errors: &mut Vec<FieldError>) {
    labels(&metadata.get("labels"), errors);
    annotations(&metadata.get("annotations"), errors);
}

/// Checks a map of labels.
pub fn labels(labels: &Field, errors: &mut Vec<FieldError>) {
    for (key, value) in labels.entries() {
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid(&labels.path, key, wrong));
        }
        for wrong in names::label_value(value.text()) {
            errors.push(FieldError::invalid(&labels.path, value.text(), wrong));
        }
    }
}

/// Checks a map of annotations.
pub fn annotations(annotations: &Field, errors: &mut Vec<FieldError>) {
    let mut total = 0;
    for (key, value) in annotations.entries() {
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&annotations.path, key, wrong));
        }
        total += key.len() + value.text().len();
    }
    if total > ANNOTATIONS_MAX_BYTES {
        errors.push(FieldError::too_long(&annotations.path, ANNOTATIONS_MAX_BYTES));
    }
}
