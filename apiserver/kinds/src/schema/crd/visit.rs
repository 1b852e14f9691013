//! The way through a value and its schema at once.

use serde_json::Value;

use super::super::shape::{Node, Shape};
use crate::field::FieldPath;

/// Visits a value and all below it that the schema knows, each before what is in it.
pub(super) fn visit(node: &Node, value: &Value, path: &FieldPath, see: &mut impl FnMut(&Node, &Value, &FieldPath)) {
    see(node, value, path);
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(members)) => {
            for (name, member) in members {
                if let Some(field) = object.field(name) {
                    visit(&field.node, member, &path.child(name), see);
                }
            }
        }
        (Shape::Map(map), Value::Object(members)) => {
            members.iter().for_each(|(name, member)| visit(&map.value, member, &path.key(name), see));
        }
        (Shape::List(list), Value::Array(items)) => {
            items.iter().enumerate().for_each(|(i, item)| visit(&list.item, item, &path.index(i), see));
        }
        _ => {}
    }
}
