//! `pods/ephemeralcontainers`: containers that are added to a pod while it runs, to look into it (KEP-277).

use serde_json::Value;

use super::{mirror, spec};
use crate::difference;
use crate::field::{Field, FieldError, FieldPath};
use crate::object::{self, ensure, list, text};

/// The old pod with the new ephemeral containers.
pub fn prepare(new: &mut Value, old: &Value) {
    let wanted = new.get_mut("spec").and_then(|spec| spec.get_mut("ephemeralContainers")).map(Value::take);
    new.clone_from(old);
    let Some(spec) = ensure(new, &["spec"]) else { return };
    match wanted {
        Some(wanted) if !wanted.is_null() => spec.insert("ephemeralContainers".to_owned(), wanted),
        _ => spec.remove("ephemeralContainers"),
    };
}

/// Those that are there stay as they are.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    if mirror::mirrored(old).is_some() {
        return vec![FieldError::forbidden(&FieldPath::ROOT, "static pods do not support ephemeral containers")];
    }
    let mut errors = Vec::new();
    spec::validate_pod(new, &mut errors);
    let root = Field::root(new);
    let spec = root.get("spec");
    let containers = spec.get("ephemeralContainers");
    for before in list(old, &["spec", "ephemeralContainers"]) {
        let name = text(before, &["name"]);
        let now = list(new, &["spec", "ephemeralContainers"]).iter().find(|now| text(now, &["name"]) == name);
        match now {
            None => errors
                .push(containers.forbidden(format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(now) if !object::same(Some(now), Some(before)) => {
                let changes = difference::lines(Some(before), Some(now), &containers.path.key(name));
                let detail = format!("existing ephemeral containers {name:?} may not be changed\n{changes}");
                errors.push(containers.forbidden(detail));
            }
            Some(_) => {}
        }
    }
    errors
}
