//! Objects inside of others (`x-kubernetes-embedded-resource`): they say what they are, and have metadata.

use serde_json::Value;

use super::super::shape::{Node, Shape};
use crate::field::{FieldError, FieldPath};
use crate::metadata;

/// Checks every object that is embedded in a value, whether it changed or not.
pub(super) fn validate(node: &Node, value: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(node, value, path, &mut errors);
    errors
}

fn walk(node: &Node, value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if value.is_object() && node.rules.as_ref().is_some_and(|rules| rules.embedded) {
        metadata::embedded(value, path, errors);
    }
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(members)) => {
            for (name, member) in members {
                if let Some(field) = object.field(name) {
                    walk(&field.node, member, &path.child(name), errors);
                }
            }
        }
        (Shape::Map(map), Value::Object(members)) => {
            members.iter().for_each(|(name, member)| walk(&map.value, member, &path.key(name), errors));
        }
        (Shape::List(list), Value::Array(items)) => {
            items.iter().enumerate().for_each(|(i, item)| walk(&list.item, item, &path.index(i), errors));
        }
        _ => {}
    }
}
