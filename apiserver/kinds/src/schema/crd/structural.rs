//! Whether a CRD's schema is structural: every value's type is said once, outside of the combining keywords
//! (`k8s.io/apiextensions-apiserver/pkg/apiserver/schema`).

use std::collections::HashSet;

use serde_json::Value;

use super::pattern::Pattern;
use super::{complete, flag, members};
use crate::field::{FieldError, FieldPath};

/// Deepest nesting of a schema.
pub(super) const MAX_SCHEMA_DEPTH_LEVELS: usize = 100;
/// Different patterns in one schema.
const MAX_PATTERNS: usize = 2_000;

/// Where a schema stands, which decides how the lack of a type is told.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that makes a schema not structural, sorted by message as Kubernetes does. Its large patterns
/// are added to those that its definition has so far.
pub(super) fn check(schema: &Value, path: &FieldPath, large: &mut Vec<Pattern>) -> Vec<FieldError> {
    let mut errors = untyped(schema, path);
    check_patterns(schema, path, 0, &mut Patterns { seen: HashSet::new(), large }, &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

/// Whether a schema says every value's type once, whatever its patterns are.
pub(super) fn is_structural(schema: &Value) -> bool {
    untyped(schema, &FieldPath::ROOT).is_empty() && unsupported(schema).is_none()
}

/// Where a schema does not say a value's type, or not once.
fn untyped(schema: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, Level::Root, path, 0, &mut errors);
    complete::check(schema, schema, path, path, 0, &mut errors);
    errors
}

pub(super) fn items<'v>(schema: &'v Value, name: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

/// What a structural schema has no place for.
const UNSUPPORTED: [&str; 7] =
    ["id", "$schema", "$ref", "patternProperties", "dependencies", "additionalItems", "definitions"];

/// A keyword that makes a schema not structural; most have a rule of their own, too.
pub(super) fn unsupported(schema: &Value) -> Option<String> {
    unsupported_below(schema, 0)
}

fn unsupported_below(schema: &Value, depth: usize) -> Option<String> {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return None;
    }
    if let Some(name) = UNSUPPORTED.iter().find(|name| schema.get(**name).is_some_and(|value| !is_zero(value))) {
        return Some(format!("OpenAPIV3Schema '{}' is not supported", name.replace("$schema", "schema")));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        return Some("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined".to_owned());
    }
    if schema.get("items").is_some_and(Value::is_array) {
        return Some("OpenAPIV3Schema 'items' must be a schema, but is an array".to_owned());
    }
    let single = ["not", "items", "additionalProperties"].into_iter().filter_map(|name| schema.get(name));
    let lists = ["allOf", "anyOf", "oneOf"].into_iter().flat_map(|name| items(schema, name).map(|(_, schema)| schema));
    let properties = members(schema, "properties").map(|(_, schema)| schema);
    let mut below = single.chain(lists).chain(properties).filter(|schema| schema.is_object());
    below.find_map(|schema| unsupported_below(schema, depth + 1))
}

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn walk(schema: &Value, level: Level, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return errors.push(FieldError::forbidden(path, "must not be nested deeper"));
    }
    let item = schema.get("items").filter(|item| item.is_object());
    if kind(schema) == "array" && item.is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(item) = item {
        walk(item, Level::Item, &path.child("items"), depth + 1, errors);
    }
    for (name, property) in members(schema, "properties") {
        walk(property, Level::Field, &path.child("properties").key(name), depth + 1, errors);
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|additional| !additional.is_null()) {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if flag(schema, "x-kubernetes-embedded-resource") {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if additional.is_object() {
            walk(additional, Level::Field, &path, depth + 1, errors);
        }
    }
    if flag(schema, "x-kubernetes-int-or-string") {
        for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if flag(schema, name) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&path.child(name), true, detail));
            }
        }
    }
    check_type(schema, level, path, errors);
    check_own_fields(schema, level, path, errors);
    // The two patterns of types that say int-or-string.
    let first = items(schema, "allOf").next();
    let skip_first = first.is_some_and(|(_, first)| is_int_or_string(first));
    combined(schema, is_int_or_string(schema), skip_first, path, depth, errors);
}

fn check_type(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("type");
    let free = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
    let kind = kind(schema);
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match kind {
            "" => FieldError::required(&path, detail),
            kind => FieldError::invalid(&path, kind, detail),
        });
    } else if kind.is_empty() && !free {
        errors.push(FieldError::required(
            &path,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&path, kind, "must be object at the root"));
    }
}

/// `apiVersion`, `kind` and `metadata` of a whole object.
fn check_own_fields(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if level != Level::Root && !embedded {
        return;
    }
    let properties = path.child("properties");
    let own = |name: &str| schema.get("properties").and_then(|properties| properties.get(name));
    if members(schema, "properties").next().is_none() {
        if embedded && !flag(schema, "x-kubernetes-preserve-unknown-fields") {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            errors.push(FieldError::required(&properties, detail));
        }
        return;
    }
    for (name, wanted) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
        if let Some(found) = own(name).map(kind).filter(|found| *found != wanted) {
            let detail = format!("must be {wanted}");
            errors.push(FieldError::invalid(&properties.key(name).child("type"), found, detail));
        }
    }
    let Some(metadata) = own("metadata").filter(|_| level == Level::Root) else { return };
    let extra = |(name, value): (&String, &Value)| match name.as_str() {
        "type" | "default" => false,
        "properties" => members(metadata, "properties").any(|(name, _)| name != "name" && name != "generateName"),
        _ => !is_zero(value),
    };
    if metadata.as_object().is_some_and(|members| members.iter().any(extra)) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&properties.key("metadata"), detail));
    }
}

/// The patterns of a schema, as far as they were looked at, and the large ones of its definition.
struct Patterns<'s, 'l> {
    seen: HashSet<&'s str>,
    large: &'l mut Vec<Pattern>,
}

/// Every pattern of a schema. Compiling takes time, so each is looked at once, and there may not be too many.
fn check_patterns<'s>(
    schema: &'s Value,
    path: &FieldPath,
    depth: usize,
    patterns: &mut Patterns<'s, '_>,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return;
    }
    let depth = depth + 1;
    if let Some(source) = schema.get("pattern").and_then(Value::as_str)
        && patterns.seen.insert(source)
    {
        let path = path.child("pattern");
        if patterns.seen.len() > MAX_PATTERNS {
            let detail = format!("a schema may have {MAX_PATTERNS} different patterns at most");
            return errors.push(FieldError::forbidden(&path, detail));
        }
        if let Err(why) = Pattern::new(source).check(patterns.large) {
            let detail = format!("must be a valid regular expression, but isn't: {why}");
            errors.push(FieldError::invalid(&path, source, detail));
        }
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(schema) = schema.get(name).filter(|schema| schema.is_object()) {
            check_patterns(schema, &path.child(name), depth, patterns, errors);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(name);
        items(schema, name).for_each(|(i, schema)| check_patterns(schema, &path.index(i), depth, patterns, errors));
    }
    let path = path.child("properties");
    members(schema, "properties")
        .for_each(|(name, schema)| check_patterns(schema, &path.key(name), depth, patterns, errors));
}

/// Whether `anyOf` says integer or string, and nothing else.
fn is_int_or_string(schema: &Value) -> bool {
    let says = |(schema, wanted): (&Value, &str)| {
        schema.as_object().is_some_and(|members| {
            kind(schema) == wanted && members.iter().all(|(name, value)| name == "type" || is_zero(value))
        })
    };
    let alternatives = schema.get("anyOf").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    alternatives.len() == 2 && alternatives.iter().zip(["integer", "string"]).all(says)
}

/// The combining keywords, whose schemas may only restrict values.
fn combined(
    schema: &Value,
    skip_any_of: bool,
    skip_first: bool,
    path: &FieldPath,
    depth: usize,
    errors: &mut Vec<FieldError>,
) {
    for name in ["anyOf", "allOf", "oneOf"] {
        if name == "anyOf" && skip_any_of {
            continue;
        }
        let path = path.child(name);
        for (i, alternative) in items(schema, name) {
            nested(alternative, name == "allOf" && i == 0 && skip_first, &path.index(i), depth + 1, errors);
        }
    }
    if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
        nested(not, false, &path.child("not"), depth + 1, errors);
    }
}

const FORBIDDEN_IN_COMBINED: [(&str, &str); 13] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("title", "must be empty to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// What Go's zero values look like: as if nothing stood there.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn nested(schema: &Value, skip_any_of: bool, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return errors.push(FieldError::forbidden(path, "must not be nested deeper"));
    }
    for (name, detail) in FORBIDDEN_IN_COMBINED {
        let is_set = |value: &Value| if name == "default" { !value.is_null() } else { !is_zero(value) };
        if schema.get(name).is_some_and(is_set) {
            errors.push(FieldError::forbidden(&path.child(name), detail));
        }
    }
    let properties = path.child("properties");
    for (name, property) in members(schema, "properties") {
        if name == "metadata" {
            let detail = "must not be specified in a nested context";
            errors.push(FieldError::forbidden(&properties.key(name), detail));
        }
        nested(property, false, &properties.key(name), depth + 1, errors);
    }
    if let Some(item) = schema.get("items").filter(|item| item.is_object()) {
        nested(item, false, &path.child("items"), depth + 1, errors);
    }
    combined(schema, skip_any_of, false, path, depth, errors);
}
