//! Objects inside of others (`x-kubernetes-embedded-resource`): they say what they are, and have metadata.

use serde_json::Value;

use super::super::shape::Node;
use super::visit::visit;
use crate::field::{FieldError, FieldPath};
use crate::metadata;

/// Checks every object that is embedded in a value, whether it changed or not.
pub(super) fn validate(node: &Node, value: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(node, value, path, &mut |node, value, path| {
        if value.is_object() && node.rules.as_ref().is_some_and(|rules| rules.embedded) {
            metadata::embedded(value, path, &mut errors);
        }
    });
    errors
}
