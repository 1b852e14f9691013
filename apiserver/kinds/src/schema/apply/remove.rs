//! Taking fields out of an object.

use serde_json::{Map as JsonMap, Value};

use super::path::PathElement;
use super::set::FieldSet;
use super::typed::{Parts, Typed, identity};

/// The value without the fields of a set. What that leaves nothing of is `emptied`, or goes as well.
pub(super) fn remove(typed: Typed<'_>, value: &Value, fields: &FieldSet, emptied: Option<&Value>) -> Option<Value> {
    match (typed.parts(value), typed.list()) {
        (Parts::Object(members), _) => {
            let mut kept = JsonMap::new();
            for (name, member) in members {
                let value = match fields.get(&PathElement::Field(name.as_str().into())) {
                    None => Some(member.clone()),
                    Some(entry) if entry.member => None,
                    Some(entry) => remove(typed.member(name).0, member, &entry.children, emptied),
                };
                kept.extend(value.map(|value| (name.clone(), value)));
            }
            if kept.is_empty() { emptied.cloned() } else { Some(Value::Object(kept)) }
        }
        (Parts::List(items), Some(list)) => {
            let keep = |item: &Value| match identity(list, item).ok().and_then(|element| fields.get(&element)) {
                None => Some(item.clone()),
                Some(entry) if entry.member => None,
                Some(entry) => remove(Typed::new(&list.item.shape), item, &entry.children, emptied),
            };
            let kept: Vec<Value> = items.iter().filter_map(keep).collect();
            if kept.is_empty() { emptied.cloned() } else { Some(Value::Array(kept)) }
        }
        (Parts::Leaf | Parts::List(_), _) if value.is_array() || value.is_object() => emptied.cloned(),
        _ => Some(value.clone()),
    }
}
