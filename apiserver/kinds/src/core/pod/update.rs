//! What an update of a pod may change.

use serde_json::{Map, Value, json};

use super::{annotations, scheduling, spec};
use crate::field::{Field, FieldError};
use crate::{difference, object, rules};

const REFUSED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Rules of an update of a pod itself.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (new_root, old_root) = (Field::root(new), Field::root(old));
    let (new_spec, old_spec) = (new_root.get("spec"), old_root.get("spec"));
    let (new_meta, old_meta) = (new_root.get("metadata"), old_root.get("metadata"));
    spec::validate_pod(new, &mut errors);
    annotations::validate_update(&new_meta.get("annotations"), &old_meta.get("annotations"), &mut errors);
    for list in ["containers", "initContainers"] {
        let (new, old) = (new_spec.get(list), old_spec.get(list));
        if new.len() != old.len() {
            errors.push(new.forbidden("pod updates may not add or remove containers"));
            return errors;
        }
    }
    if !deadline(&new_spec, &old_spec, &mut errors) {
        return errors;
    }
    tolerations(&new_spec, &old_spec, &mut errors);
    gates(&new_spec, &old_spec, &mut errors);
    if is_gated(&old_spec) {
        scheduling::narrowed(&new_spec, &old_spec, &mut errors);
    }
    if let (Some(Value::Object(new)), Some(Value::Object(old))) = (new_spec.value(), old_spec.value()) {
        let allowed = with_allowed_changes(new, old, is_gated(&old_spec));
        if !object::same(Some(&allowed), old_spec.value()) {
            let changes = difference::lines(old_spec.value(), Some(&allowed), &new_spec.path);
            errors.push(new_spec.forbidden(format!("{REFUSED}\n{changes}")));
        }
    }
    errors
}

/// Whether the rest is worth looking at.
fn deadline(new: &Field, old: &Field, errors: &mut Vec<FieldError>) -> bool {
    let (new, old) = (new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"));
    match (new.int(), old.int()) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            rules::between(&new, 0, i64::from(i32::MAX), errors);
            return false;
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errors.push(new.invalid("must be less than or equal to previous value"));
            return false;
        }
        (None, Some(_)) => {
            let shown = FieldError::invalid(&new.path, 0, "must not update from a positive integer to nil value");
            errors.push(FieldError { bad_value: None, ..shown });
        }
        _ => {}
    }
    true
}

fn tolerations(new: &Field, old: &Field, errors: &mut Vec<FieldError>) {
    let (new, old) = (new.get("tolerations"), old.get("tolerations"));
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        object::remove(&mut toleration, "tolerationSeconds");
        toleration
    };
    let kept = old.items().all(|t| {
        let wanted = t.value().map(without_seconds);
        new.items().any(|n| n.value().map(without_seconds) == wanted)
    });
    if !kept {
        errors.push(new.forbidden("existing toleration can not be modified except its tolerationSeconds"));
    }
}

fn gates(new: &Field, old: &Field, errors: &mut Vec<FieldError>) {
    let (new, old) = (new.get("schedulingGates"), old.get("schedulingGates"));
    for gate in new.items() {
        let name = gate.get("name");
        if !old.items().any(|o| o.get("name").text() == name.text()) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{}'", name.text());
            errors.push(name.forbidden(detail));
        }
    }
}

/// The new spec with everything that may change set back to what it was.
fn with_allowed_changes(new: &Map<String, Value>, old: &Map<String, Value>, gated: bool) -> Value {
    let mut allowed = new.clone();
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        restore(&mut allowed, old, field);
    }
    let was_negative = old.get("terminationGracePeriodSeconds").and_then(Value::as_i64).is_some_and(|s| s < 0);
    if was_negative && allowed.get("terminationGracePeriodSeconds").and_then(Value::as_i64) == Some(1) {
        restore(&mut allowed, old, "terminationGracePeriodSeconds");
    }
    for list in ["containers", "initContainers"] {
        let (Some(Value::Array(new)), Some(Value::Array(old))) = (allowed.get_mut(list), old.get(list)) else {
            continue;
        };
        for (new, old) in new.iter_mut().zip(old) {
            if let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) {
                restore(new, old, "image");
            }
        }
    }
    // How far these may change was looked at; what a pod wants to be near to stays.
    if gated {
        restore(&mut allowed, old, "nodeSelector");
        let before = old.get("affinity").and_then(|affinity| affinity.get("nodeAffinity")).cloned();
        let affinity = allowed.entry("affinity").or_insert(Value::Null);
        match (affinity.as_object_mut(), before) {
            (Some(affinity), Some(before)) => _ = affinity.insert("nodeAffinity".to_owned(), before),
            (Some(affinity), None) => _ = affinity.remove("nodeAffinity"),
            (None, Some(before)) => *affinity = json!({"nodeAffinity": before}),
            (None, None) => {}
        }
    }
    Value::Object(allowed)
}

fn is_gated(pod: &Field) -> bool {
    !pod.get("schedulingGates").is_empty()
}

fn restore(new: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    match old.get(field) {
        Some(value) => new.insert(field.to_owned(), value.clone()),
        None => new.remove(field),
    };
}
