//! Which part of an old object a part of a new one is compared with, and whether it is as it was (KEP-4008;
//! `k8s.io/apiserver/pkg/cel/common`).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::shape::{List, ListKind, Node, Shape};

/// Whether a value is as it was. Of what its schema does not describe nobody knows: members beside the properties, and what
/// every whole object has. Items that have keys may have changed places.
pub(super) fn same(node: &Node, new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(members), Value::Object(before)) => {
            let same = |(name, member): (&String, &Value)| {
                let described = described(node, name).zip(before.get(name));
                described.is_some_and(|(node, old)| same(node, member, old))
            };
            members.len() == before.len() && members.iter().all(same)
        }
        (Value::Array(items), Value::Array(before)) => match &node.shape {
            Shape::List(list) if matches!(list.kind, ListKind::Map(_)) => {
                let old = Items::of(list, Some(old));
                let same = |item: &Value| old.get(item).is_some_and(|old| same(&list.item, item, old));
                items.len() == before.len() && items.iter().all(same)
            }
            _ => new == old,
        },
        _ => new == old,
    }
}

fn described<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.shape {
        Shape::Object(object) => object.field(name).filter(|field| !field.implied).map(|field| &field.node),
        Shape::Map(map) => Some(&map.value),
        _ => None,
    }
}

/// The items of an old list, by their keys; none where they have no keys.
pub(super) struct Items<'v> {
    keys: &'v [Arc<str>],
    by_key: HashMap<Vec<&'v Value>, &'v Value>,
}

impl<'v> Items<'v> {
    pub fn of(list: &'v List, old: Option<&'v Value>) -> Items<'v> {
        let keys: &[_] = if let ListKind::Map(keys) = &list.kind { keys } else { &[] };
        let mut items = Items { keys, by_key: HashMap::new() };
        let old = old.and_then(Value::as_array).filter(|_| !keys.is_empty());
        for item in old.into_iter().flatten() {
            if let Some(key) = items.key(item) {
                items.by_key.entry(key).or_insert(item);
            }
        }
        items
    }

    /// The old item with the same keys.
    pub fn get(&self, item: &Value) -> Option<&'v Value> {
        if self.by_key.is_empty() { None } else { self.by_key.get(&self.key(item)?).copied() }
    }

    fn key<'i>(&self, item: &'i Value) -> Option<Vec<&'i Value>> {
        let part = |key: &Arc<str>| {
            item.get(&**key).filter(|part| !matches!(part, Value::Null | Value::Array(_) | Value::Object(_)))
        };
        self.keys.iter().map(part).collect()
    }
}
