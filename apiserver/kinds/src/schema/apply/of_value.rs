//! The set of all fields that a value has.

use serde_json::Value;

use super::path::PathElement;
use super::set::FieldSet;
use super::typed::{Parts, Typed, identity, member_element};

/// The fields of an object: leaves, list items, map entries, and objects without fields.
pub(super) fn field_set(typed: Typed<'_>, value: &Value) -> FieldSet {
    below(typed, value).1
}

/// Whether the value itself is owned as a whole, and what below it is owned.
fn below(typed: Typed<'_>, value: &Value) -> (bool, FieldSet) {
    let mut set = FieldSet::default();
    match typed.parts(value) {
        Parts::Leaf => return (true, set),
        Parts::Object(members) => {
            for (name, member) in members {
                let (place, field) = typed.member(name);
                let (whole, children) = below(place, member);
                let empty = member.as_object().is_some_and(serde_json::Map::is_empty);
                set.put(&member_element(name, field), whole || empty || field.is_none(), children);
            }
        }
        Parts::List(items) => {
            let Some(list) = typed.list() else { return (true, set) };
            let identities: Vec<Option<PathElement>> = items.iter().map(|item| identity(list, item).ok()).collect();
            for (item, element) in items.iter().zip(&identities) {
                let Some(element) = element else { continue };
                // Items that are there twice are owned together, as a whole.
                let twice = identities.iter().filter(|other| other.as_ref() == Some(element)).count() > 1;
                let children = if twice { FieldSet::default() } else { below(Typed::new(&list.item.shape), item).1 };
                set.put(element, true, children);
            }
        }
    }
    (false, set)
}

/// Adds the named fields that lead to what is in the set: `a.b.c` also stands for `a` and `a.b` where these are fields
/// of a type, but not where they are entries of a map.
pub(super) fn with_named_fields(typed: Typed<'_>, set: &FieldSet) -> FieldSet {
    let mut named_too = FieldSet::default();
    for entry in &set.entries {
        let (place, named) = typed.step(&entry.element);
        let member = entry.member || (named && !entry.children.is_empty());
        named_too.put(&entry.element, member, with_named_fields(place, &entry.children));
    }
    named_too
}
