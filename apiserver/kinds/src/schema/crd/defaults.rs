//! Defaults in a CRD's schema: each must be a value that its own schema lets be, and nothing in it may be unknown.

use std::sync::Arc;

use serde_json::Value;

use super::super::decode;
use super::super::{Root, Schema};
use super::{Broken, flag, members, node, validate};
use crate::field::{FieldError, FieldPath};

/// Checks every default of a schema that is known to be structural. What a whole object says of itself has none, which is
/// told elsewhere; those within `additionalProperties` are not looked at.
pub(super) fn check(schema: &Value, let_be: Broken, is_root: bool, path: &FieldPath, errors: &mut Vec<FieldError>) {
    own(schema, let_be, path, errors);
    if let Some(items) = schema.get("items") {
        check(items, let_be, false, &path.child("items"), errors);
    }
    let properties = path.child("properties");
    for (name, property) in members(schema, "properties") {
        if !is_root || !matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
            check(property, let_be, false, &properties.key(name), errors);
        }
    }
}

fn own(schema: &Value, let_be: Broken, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(default) = schema.get("default").filter(|default| !default.is_null()) else { return };
    let path = path.child("default");
    let own = Schema(Arc::new(Root::new(node(schema, flag(schema, "x-kubernetes-embedded-resource")), true)));
    match decode::check(&own, default.clone()) {
        Ok(decoded) => {
            if !decoded.issues.is_empty() && !let_be.defaults {
                errors.push(FieldError::invalid(&path, default.clone(), "must not have unknown fields"));
            }
            errors.extend(validate(&own.0.node, default, None, &path));
        }
        Err(error) => errors.push(FieldError::invalid(&path, default.clone(), error.to_string())),
    }
}
