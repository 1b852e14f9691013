//! Whether a CRD's schema is structural: every value's type is said once, outside of the combining keywords.

use std::collections::HashSet;

use serde_json::Value;

use super::pattern;
use super::{flag, members};
use crate::field::{FieldError, FieldPath};

/// Deepest nesting of a schema.
const MAX_SCHEMA_DEPTH_LEVELS: usize = 100;
/// Different patterns in one schema.
const MAX_PATTERNS: usize = 2_000;

/// Where a schema stands, which decides how the lack of a type is told.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// Everything that makes a schema not structural, sorted by message as Kubernetes does.
pub(super) fn check(schema: &Value, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(schema, Level::Root, path, 0, &mut errors);
    check_patterns(schema, path, 0, &mut HashSet::new(), &mut errors);
    errors.sort_by_key(ToString::to_string);
    errors
}

fn items<'v>(schema: &'v Value, name: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    schema.get(name).and_then(Value::as_array).into_iter().flatten().enumerate()
}

fn walk(schema: &Value, level: Level, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return errors.push(FieldError::forbidden(path, "must not be nested deeper"));
    }
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    if kind == "array" && schema.get("items").is_none() {
        errors.push(FieldError::required(&path.child("items"), "must be specified"));
    }
    if let Some(item) = schema.get("items") {
        walk(item, Level::Item, &path.child("items"), depth + 1, errors);
    }
    for (name, property) in members(schema, "properties") {
        walk(property, Level::Field, &path.child("properties").key(name), depth + 1, errors);
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|a| **a != Value::Bool(false)) {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.push(FieldError::forbidden(&path, "must not be used at the root"));
        }
        if flag(schema, "x-kubernetes-embedded-resource") {
            let detail = "must not be used if x-kubernetes-embedded-resource is set";
            errors.push(FieldError::forbidden(&path, detail));
        }
        if schema.get("properties").is_some() {
            errors.push(FieldError::forbidden(&path, "additionalProperties and properties are mutual exclusive"));
        }
        if additional.is_object() {
            walk(additional, Level::Field, &path, depth + 1, errors);
        }
    }
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    check_type(schema, kind, level, path, errors);
    check_keywords(schema, path, errors);
    check_extensions(schema, kind, path, errors);
    check_own_fields(schema, level, path, errors);
    combined(schema, path, depth, errors);
}

/// Keywords of JSON schema that CRDs do not have.
const UNSUPPORTED: [&str; 6] = ["$ref", "additionalItems", "definitions", "dependencies", "id", "patternProperties"];

fn check_keywords(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    for name in UNSUPPORTED.into_iter().filter(|name| schema.get(name).is_some()) {
        errors.push(FieldError::forbidden(&path.child(name), format!("{name} is not supported")));
    }
    if schema.get("items").is_some_and(Value::is_array) {
        errors.push(FieldError::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    for (i, rule) in items(schema, "x-kubernetes-validations") {
        if rule.get("rule").and_then(Value::as_str).is_none_or(|rule| rule.trim().is_empty()) {
            let path = path.child("x-kubernetes-validations");
            errors.push(FieldError::required(&path.index(i).child("rule"), "rule is not specified"));
        }
    }
}

fn check_type(schema: &Value, kind: &str, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let path = path.child("type");
    let known = ["", "array", "boolean", "integer", "number", "object", "string"];
    if !known.contains(&kind) {
        errors.push(FieldError::not_supported(&path, kind, &known[1..]));
    }
    let free = flag(schema, "x-kubernetes-int-or-string") || flag(schema, "x-kubernetes-preserve-unknown-fields");
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

fn check_extensions(schema: &Value, kind: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if flag(schema, "x-kubernetes-int-or-string") {
        for name in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
            if flag(schema, name) {
                let detail = "must be false if x-kubernetes-int-or-string is true";
                errors.push(FieldError::invalid(&path.child(name), true, detail));
            }
        }
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let detail = "must be true or undefined";
        errors.push(FieldError::invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, detail));
    }
    let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    let keys = items(schema, "x-kubernetes-list-map-keys").count();
    if list_type.is_some() && kind != "array" {
        let detail = "must be array if x-kubernetes-list-type is specified";
        errors.push(FieldError::invalid(&path.child("type"), kind, detail));
    }
    if matches!(list_type, Some("set" | "map")) {
        check_items(schema, list_type.unwrap_or_default(), path, errors);
    }
    match list_type {
        Some("map") if keys == 0 => {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&path.child("x-kubernetes-list-map-keys"), detail));
        }
        Some("map") => check_map_keys(schema, path, errors),
        Some("atomic" | "set") | None if keys > 0 => {
            let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
            let found = list_type.unwrap_or_default();
            errors.push(FieldError::invalid(&path.child("x-kubernetes-list-type"), found, detail));
        }
        Some("atomic" | "set") | None => {}
        Some(other) => {
            let supported = ["atomic", "set", "map"];
            errors.push(FieldError::not_supported(&path.child("x-kubernetes-list-type"), other, &supported));
        }
    }
    if let Some(map_type) = schema.get("x-kubernetes-map-type").and_then(Value::as_str) {
        if kind != "object" {
            let detail = "must be object if x-kubernetes-map-type is specified";
            errors.push(FieldError::invalid(&path.child("type"), kind, detail));
        }
        if !["atomic", "granular"].contains(&map_type) {
            let supported = ["atomic", "granular"];
            errors.push(FieldError::not_supported(&path.child("x-kubernetes-map-type"), map_type, &supported));
        }
    }
}

/// Items that are told apart by what they are cannot be null, and in a set not grow.
fn check_items(schema: &Value, list_type: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(item) = schema.get("items") else { return };
    let path = path.child("items");
    if flag(item, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    if list_type != "set" {
        return;
    }
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
    let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
    for (kind, name) in [("array", "x-kubernetes-list-type"), ("object", "x-kubernetes-map-type")] {
        let found = text(name);
        // A list is atomic where nothing is said, a map is not.
        if text("type") == kind && found != "atomic" && !(kind == "array" && found.is_empty()) {
            errors.push(FieldError::invalid(&path.child(name), found, detail));
        }
    }
}

/// Keys of a map must be scalar fields of its items that are always there.
fn check_map_keys(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(item) = schema.get("items") else { return };
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let items_path = path.child("items");
    if item.get("type").is_some_and(|kind| kind != "object") {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(FieldError::invalid(&items_path.child("type"), item["type"].clone(), detail));
    }
    for (i, key) in items(schema, "x-kubernetes-list-map-keys") {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = item.get("properties").and_then(|properties| properties.get(name)) else {
            let detail = "entries must all be names of item properties";
            errors.push(FieldError::invalid(&keys_path.index(i), name, detail));
            continue;
        };
        if property.get("type").is_some_and(|kind| kind == "object" || kind == "array") {
            let properties = items_path.child("properties");
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(FieldError::invalid(&properties.key(name).child("type"), property["type"].clone(), detail));
        }
        if flag(property, "nullable") {
            let properties = items_path.child("properties");
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&properties.key(name).child("nullable"), detail));
        }
        if property.get("default").is_none() && !items(item, "required").any(|(_, required)| required == name) {
            let properties = items_path.child("properties");
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&properties.key(name).child("default"), detail));
        }
    }
}

/// `apiVersion`, `kind` and `metadata` of a whole object.
fn check_own_fields(schema: &Value, level: Level, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if level != Level::Root && !embedded {
        return;
    }
    let properties = path.child("properties");
    let Some(own) = schema.get("properties") else {
        if embedded && !flag(schema, "x-kubernetes-preserve-unknown-fields") {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            errors.push(FieldError::required(&properties, detail));
        }
        return;
    };
    for name in ["apiVersion", "kind"] {
        if let Some(property) = own.get(name)
            && property.get("type").is_none_or(|kind| kind != "string")
        {
            let found = property.get("type").cloned().unwrap_or_else(|| "".into());
            errors.push(FieldError::invalid(&properties.key(name).child("type"), found, "must be string"));
        }
    }
    let Some(metadata) = own.get("metadata") else { return };
    let path = properties.key("metadata");
    if metadata.get("type").is_none_or(|kind| kind != "object") {
        let found = metadata.get("type").cloned().unwrap_or_else(|| "".into());
        errors.push(FieldError::invalid(&path.child("type"), found, "must be object"));
    }
    let extra = |name: &String| !["type", "properties", "description"].contains(&name.as_str());
    let foreign = members(metadata, "properties").any(|(name, _)| name != "name" && name != "generateName");
    if level == Level::Root && (foreign || metadata.as_object().is_some_and(|members| members.keys().any(extra))) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// Every pattern of a schema. Compiling takes time, so each is looked at once, and there may not be too many.
fn check_patterns<'s>(
    schema: &'s Value,
    path: &FieldPath,
    depth: usize,
    seen: &mut HashSet<&'s str>,
    errors: &mut Vec<FieldError>,
) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return;
    }
    let depth = depth + 1;
    if let Some(source) = schema.get("pattern").and_then(Value::as_str)
        && seen.insert(source)
    {
        let path = path.child("pattern");
        if seen.len() > MAX_PATTERNS {
            let detail = format!("a schema may have {MAX_PATTERNS} different patterns at most");
            return errors.push(FieldError::forbidden(&path, detail));
        }
        if let Err(error) = pattern::compile(source) {
            let detail = format!("must be a valid regular expression, but isn't: {error}");
            errors.push(FieldError::invalid(&path, source, detail));
        }
    }
    for name in ["items", "additionalProperties", "not"] {
        if let Some(schema) = schema.get(name).filter(|schema| schema.is_object()) {
            check_patterns(schema, &path.child(name), depth, seen, errors);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(name);
        items(schema, name).for_each(|(i, schema)| check_patterns(schema, &path.index(i), depth, seen, errors));
    }
    let path = path.child("properties");
    members(schema, "properties")
        .for_each(|(name, schema)| check_patterns(schema, &path.key(name), depth, seen, errors));
}

/// The combining keywords, whose schemas may only restrict values.
fn combined(schema: &Value, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    for name in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(name);
        let exempt = flag(schema, "x-kubernetes-int-or-string");
        for (i, alternative) in items(schema, name) {
            // The one pattern of types that says int-or-string.
            let types_allowed = exempt && (name == "anyOf" || (name == "allOf" && i == 0));
            nested(alternative, types_allowed, &path.index(i), depth + 1, errors);
        }
    }
    if let Some(not) = schema.get("not") {
        nested(not, false, &path.child("not"), depth + 1, errors);
    }
}

const FORBIDDEN_IN_COMBINED: [(&str, &str); 11] = [
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
];

/// What Go's zero values look like: as if nothing stood there.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn nested(schema: &Value, types_allowed: bool, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return errors.push(FieldError::forbidden(path, "must not be nested deeper"));
    }
    if !types_allowed && schema.get("type").is_some() {
        errors.push(FieldError::forbidden(&path.child("type"), "must be empty to be structural"));
    }
    for (name, detail) in FORBIDDEN_IN_COMBINED {
        if schema.get(name).is_some_and(|value| !is_zero(value)) {
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
    if let Some(item) = schema.get("items") {
        nested(item, false, &path.child("items"), depth + 1, errors);
    }
    if let Some(pattern) = schema.get("anyOf").filter(|_| types_allowed) {
        let path = path.child("anyOf");
        let alternatives = pattern.as_array().into_iter().flatten().enumerate();
        alternatives.for_each(|(i, alternative)| nested(alternative, true, &path.index(i), depth + 1, errors));
        return;
    }
    combined(schema, path, depth, errors);
}
