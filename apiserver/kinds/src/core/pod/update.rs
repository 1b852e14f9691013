//! What an update of a pod may change.

use serde_json::{Map, Value};

use super::{mirror, spec};
use crate::field::{Field, FieldError, FieldPath};
use crate::object;

const REFUSED: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Changes that are listed when an update is refused; the rest is left out.
const MAX_SHOWN_CHANGES: usize = 10;

/// Rules of an update of a pod itself.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (new_root, old_root) = (Field::root(new), Field::root(old));
    let (new_spec, old_spec) = (new_root.get("spec"), old_root.get("spec"));
    spec::validate(&new_spec, spec::Owner::Pod, &mut errors);
    for list in ["containers", "initContainers"] {
        let (new, old) = (new_spec.get(list), old_spec.get(list));
        if new.len() != old.len() {
            errors.push(new.forbidden("pod updates may not add or remove containers"));
            return errors;
        }
    }
    mirror::validate_update(new, old, &mut errors);
    deadline(&new_spec, &old_spec, &mut errors);
    tolerations(&new_spec, &old_spec, &mut errors);
    gates(&new_spec, &old_spec, &mut errors);
    if let (Some(Value::Object(new)), Some(Value::Object(old))) = (new_spec.value(), old_spec.value()) {
        let allowed = with_allowed_changes(new, old);
        if !object::same(Some(&allowed), old_spec.value()) {
            let mut shown = Vec::new();
            changes(old_spec.value(), Some(&allowed), "spec", &mut shown);
            shown.truncate(MAX_SHOWN_CHANGES);
            errors.push(new_spec.forbidden(format!("{REFUSED}\n{}\n", shown.join("\n"))));
        }
    }
    errors
}

fn deadline(new: &Field, old: &Field, errors: &mut Vec<FieldError>) {
    let (new, old) = (new.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"));
    match (new.int(), old.int()) {
        (Some(new_seconds), Some(old_seconds)) if new_seconds > old_seconds => {
            errors.push(new.invalid("must be less than or equal to previous value"));
        }
        (None, Some(_)) => {
            let shown = FieldError::invalid(&new.path, 0, "must not update from a positive integer to nil value");
            errors.push(FieldError { bad_value: None, ..shown });
        }
        _ => {}
    }
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
            errors.push(gate.forbidden(detail));
        }
    }
}

/// The new spec with everything that may change set back to what it was.
fn with_allowed_changes(new: &Map<String, Value>, old: &Map<String, Value>) -> Value {
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
    // A pod that still waits for its gates may narrow down where it can run.
    if old.get("schedulingGates").and_then(Value::as_array).is_some_and(|g| !g.is_empty()) {
        for field in ["nodeSelector", "affinity"] {
            restore(&mut allowed, old, field);
        }
    }
    Value::Object(allowed)
}

fn restore(new: &mut Map<String, Value>, old: &Map<String, Value>, field: &str) {
    match old.get(field) {
        Some(value) => new.insert(field.to_owned(), value.clone()),
        None => new.remove(field),
    };
}

/// Lists the leaves that differ, a line for what was and one for what would be.
fn changes(old: Option<&Value>, new: Option<&Value>, path: &str, shown: &mut Vec<String>) {
    if object::same(old, new) || shown.len() > MAX_SHOWN_CHANGES {
        return;
    }
    match (old, new) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let added = new.keys().filter(|k| !old.contains_key(*k));
            for key in old.keys().chain(added) {
                changes(old.get(key), new.get(key), &format!("{path}.{key}"), shown);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for i in 0..old.len().max(new.len()) {
                changes(old.get(i), new.get(i), &format!("{path}[{i}]"), shown);
            }
        }
        _ => {
            shown.extend(old.map(|value| format!("- {path}: {value}")));
            shown.extend(new.map(|value| format!("+ {path}: {value}")));
        }
    }
}

/// Rules of a status: its phase and conditions, and the node that was nominated.
pub fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    mirror::validate_update(new, old, &mut errors);
    let root = Field::root(new);
    let status = root.get("status");
    crate::rules::maybe_form(&status.get("nominatedNodeName"), crate::names::dns_subdomain, &mut errors);
    for address in status.get("podIPs").items() {
        crate::rules::ip(&address.get("ip"), &mut errors);
    }
    let (first, ip) = (object::list(new, &["status", "podIPs"]).first(), status.get("podIP"));
    if let Some(first) = first
        && object::text(first, &["ip"]) != ip.text()
    {
        let path = FieldPath::new("status");
        let shown = object::text(first, &["ip"]);
        errors.push(FieldError::invalid(&path.child("podIPs").index(0).child("ip"), shown, "must be equal to `podIP`"));
    }
    errors
}
