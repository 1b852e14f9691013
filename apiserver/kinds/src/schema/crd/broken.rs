//! Rules that are younger than the definitions that break them: one that did before may go on.

use serde_json::Value;

use super::super::decode;
use super::{flag, keywords, members, node, structural};

/// What a schema breaks of the rules that came later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// Being structural.
    pub structure: bool,
    /// Types that are none.
    pub types: bool,
    /// Unknown fields in defaults.
    pub defaults: bool,
    /// Sets of items that grow.
    pub sets: bool,
    /// Items of sets and maps that may be null, and keys of maps that may be null or missing.
    pub keys: bool,
}

impl Broken {
    pub fn or(self, other: Broken) -> Broken {
        Broken {
            structure: self.structure || other.structure,
            types: self.types || other.types,
            defaults: self.defaults || other.defaults,
            sets: self.sets || other.sets,
            keys: self.keys || other.keys,
        }
    }
}

pub(in crate::schema) fn of(source: &Value) -> Broken {
    let structure = !structural::is_structural(source);
    Broken {
        structure,
        types: has(source, &keywords::has_unknown_type),
        defaults: !structure && has_unknown_in_defaults(source, true),
        sets: has(source, &keywords::is_set_of_growing_items),
        keys: has(source, &keywords::has_loose_identities),
    }
}

/// Whether this can be said of a schema, or of one below.
pub(super) fn has(schema: &Value, said: &dyn Fn(&Value) -> bool) -> bool {
    has_below(schema, said, 0)
}

fn has_below(schema: &Value, said: &dyn Fn(&Value) -> bool, depth: usize) -> bool {
    if depth > structural::MAX_SCHEMA_DEPTH_LEVELS || !schema.is_object() {
        return false;
    }
    let single = ["items", "not", "additionalProperties", "additionalItems"].into_iter().filter_map(|n| schema.get(n));
    let lists = ["items", "allOf", "anyOf", "oneOf"].into_iter();
    let lists = lists.flat_map(|name| structural::items(schema, name).map(|(_, schema)| schema));
    let maps = ["properties", "patternProperties", "definitions", "dependencies"].into_iter();
    let maps = maps.flat_map(|name| members(schema, name).map(|(_, schema)| schema));
    said(schema) || single.chain(lists).chain(maps).any(|schema| has_below(schema, said, depth + 1))
}

fn has_unknown_in_defaults(schema: &Value, is_object: bool) -> bool {
    let own = schema.get("default").filter(|default| !default.is_null());
    let is_object = is_object || flag(schema, "x-kubernetes-embedded-resource");
    if own.is_some_and(|default| decode::prune(&node(schema, is_object), default.clone()) != *default) {
        return true;
    }
    let single = ["items", "additionalProperties"].into_iter().filter_map(|name| schema.get(name));
    let mut below = single.chain(members(schema, "properties").map(|(_, schema)| schema));
    below.any(|schema| schema.is_object() && has_unknown_in_defaults(schema, false))
}
