//! Lists whose items are told apart (`x-kubernetes-list-type`): no two items of a set or map are the same.

use std::collections::HashMap;

use serde_json::Value;

use super::super::shape::{List, ListKind, Node, Shape};
use super::visit::visit;
use crate::field::{FieldError, FieldPath};

/// Repetitions in a value's lists; nothing where the old value had some.
pub(super) fn validate(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath) -> Vec<FieldError> {
    let errors = all(node, value, path);
    match old {
        Some(old) if !errors.is_empty() && !all(node, old, path).is_empty() => Vec::new(),
        _ => errors,
    }
}

fn all(node: &Node, value: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    visit(node, value, path, &mut |node, value, path| {
        if let (Shape::List(list), Value::Array(items)) = (&node.shape, value) {
            repetitions(list, items, path, &mut errors);
        }
    });
    errors
}

/// Each repetition is told once, as an identity or as a value.
fn repetitions(list: &List, items: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    if matches!(list.kind, ListKind::Map(_))
        && let Some(i) = items.iter().position(|item| !item.is_object() && !item.is_null())
    {
        let detail = "must be an object for an array of list-type map";
        return errors.push(FieldError::invalid(&path.index(i), items[i].clone(), detail));
    }
    let identity = |item: &Value| match &list.kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(item.clone()),
        ListKind::Map(keys) => {
            Some(keys.iter().filter_map(|key| Some(((**key).to_owned(), item.get(&**key)?.clone()))).collect())
        }
    };
    let mut seen: HashMap<Value, usize> = HashMap::new();
    for (i, identity) in items.iter().map_while(identity).enumerate() {
        let times = seen.entry(identity.clone()).or_default();
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(&path.index(i), identity));
        }
    }
}
