//! `fieldsV1`: the JSON form of a set of fields, and edits of it that do not decode it.
//!
//! An object whose keys are path elements. `{}` is a path in the set; `"."` says so where there is more below it.

use serde_json::{Map as JsonMap, Value};

use super::path::PathElement;
use super::set::FieldSet;

const SELF: &str = ".";

type Members = JsonMap<String, Value>;

impl FieldSet {
    /// Reads `fieldsV1`. Keys that no known version writes are dropped.
    pub fn from_fields_v1(fields: &Value) -> FieldSet {
        fields.as_object().map(FieldSet::from_members).unwrap_or_default()
    }

    pub(super) fn from_members(fields: &Members) -> FieldSet {
        let mut set = FieldSet::default();
        for (key, below) in fields {
            let Some(element) = PathElement::from_key(key) else { continue };
            let children = FieldSet::from_fields_v1(below);
            let member = children.is_empty() || below.get(SELF).is_some();
            set.put(&element, member, children);
        }
        set
    }

    /// Writes `fieldsV1`.
    pub fn to_fields_v1(&self) -> Value {
        Value::Object(self.to_members())
    }

    pub(super) fn to_members(&self) -> Members {
        let mut members = Members::new();
        add(&mut members, self);
        members
    }
}

/// Adds a set's paths to its JSON form.
pub(super) fn add(fields: &mut Members, set: &FieldSet) {
    for entry in &set.entries {
        let key = entry.element.to_key();
        match fields.get_mut(&key) {
            Some(Value::Object(below)) => {
                let member = entry.member || below.is_empty();
                add(below, &entry.children);
                mark(below, member);
            }
            _ => {
                let mut below = Members::new();
                add(&mut below, &entry.children);
                mark(&mut below, entry.member);
                fields.insert(key, Value::Object(below));
            }
        }
    }
}

fn mark(below: &mut Members, member: bool) {
    if member && !below.is_empty() && !below.contains_key(SELF) {
        below.insert(SELF.to_owned(), Value::Object(Members::new()));
    }
}

/// Removes a set's paths from its JSON form.
pub(super) fn subtract(fields: &mut Members, set: &FieldSet) {
    for entry in &set.entries {
        let key = entry.element.to_key();
        let Some(Value::Object(below)) = fields.get_mut(&key) else { continue };
        let mut member = below.is_empty() || below.contains_key(SELF);
        subtract(below, &entry.children);
        if entry.member {
            member = false;
            below.remove(SELF);
        }
        if below.keys().all(|key| key == SELF) {
            below.clear();
            if !member {
                fields.remove(&key);
            }
        }
    }
}
