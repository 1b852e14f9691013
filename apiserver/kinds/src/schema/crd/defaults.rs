//! Defaults in a CRD's schema: each must be a value that its own schema lets be, and nothing in it may be unknown.

use serde_json::Value;

use super::super::decode;
use super::super::{Root, Schema};
use super::{flag, members, node, validate};
use crate::field::{FieldError, FieldPath};
use std::sync::Arc;

/// Checks every default of a schema that is known to be structural.
pub(super) fn check(schema: &Value, is_root: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    own(schema, path, errors);
    if let Some(items) = schema.get("items") {
        check(items, false, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in members(schema, "properties") {
        let path = properties.key(name);
        if is_root && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
            forbidden(property, &format!("must not be set in top-level {name}"), &path, errors);
        } else {
            check(property, false, &path, errors);
        }
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|additional| additional.is_object()) {
        check(additional, false, &path.child("additionalProperties"), errors);
    }
}

fn own(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(default) = schema.get("default").filter(|default| !default.is_null()) else { return };
    let path = path.child("default");
    let own = Schema(Arc::new(Root::new(node(schema, flag(schema, "x-kubernetes-embedded-resource")), true)));
    match decode::check(&own, default.clone()) {
        Ok(decoded) if decoded.issues.is_empty() => errors.extend(validate(&own.0.node, default, None, &path)),
        Ok(_) => errors.push(FieldError::invalid(&path, default.clone(), "must not have unknown fields")),
        Err(error) => errors.push(FieldError::invalid(&path, default.clone(), error.to_string())),
    }
}

/// What clients must say themselves has no defaults anywhere.
fn forbidden(schema: &Value, detail: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if schema.get("default").is_some() {
        errors.push(FieldError::forbidden(&path.child("default"), detail));
    }
    for (name, property) in members(schema, "properties") {
        forbidden(property, detail, &path.child("properties").key(name), errors);
    }
}
