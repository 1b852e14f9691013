//! Which keywords a CRD's schema may use, and how they go together (`ValidateCustomResourceDefinitionOpenAPISchema` of
//! `k8s.io/apiextensions-apiserver`).

use serde_json::Value;

use super::structural::{MAX_SCHEMA_DEPTH_LEVELS, is_zero, items, unsupported};
use super::{Broken, field_path, flag, members};
use crate::field::{FieldError, FieldPath};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// What holds where a schema stands.
#[derive(Clone, Copy, Default)]
struct Place<'r> {
    /// Within `apiVersion`, `kind` or `metadata` of a whole object.
    in_metadata: bool,
    /// Why there are no defaults here.
    no_default: Option<&'r str>,
    /// What is let be.
    let_be: Broken,
}

/// Checks a schema and all below it.
pub(super) fn check(schema: &Value, let_be: Broken, path: &FieldPath, errors: &mut Vec<FieldError>) {
    walk(schema, Place { let_be, ..Place::default() }, true, path, 0, errors);
}

fn kind(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn has_unknown_type(schema: &Value) -> bool {
    !kind(schema).is_empty() && !TYPES.contains(&kind(schema))
}

/// Items of a set do not grow: a list is atomic where nothing is said, a map is not.
pub(super) fn is_set_of_growing_items(schema: &Value) -> bool {
    let is_set = schema.get("x-kubernetes-list-type").is_some_and(|kind| kind == "set");
    is_set && schema.get("items").is_some_and(|item| growing(item).is_some())
}

/// Whether what tells items of a set or map apart may be missing.
pub(super) fn has_loose_identities(schema: &Value) -> bool {
    let mut errors = Vec::new();
    identified_items(schema, &FieldPath::ROOT, &mut errors);
    !errors.is_empty()
}

pub(super) fn has_extensions(schema: &Value) -> bool {
    let extensions = [
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-validations",
    ];
    let preserve = schema.get("x-kubernetes-preserve-unknown-fields");
    let is_set = |name: &str| schema.get(name).is_some_and(|value| !is_zero(value));
    preserve.is_some_and(Value::is_boolean) || extensions.into_iter().any(is_set)
}

fn walk(schema: &Value, place: Place, is_root: bool, path: &FieldPath, depth: usize, errors: &mut Vec<FieldError>) {
    if depth > MAX_SCHEMA_DEPTH_LEVELS {
        return;
    }
    let depth = depth + 1;
    own(schema, place, path, errors);
    if flag(schema, "uniqueItems") {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|additional| !additional.is_null()) {
        let path = path.child("additionalProperties");
        if *additional != Value::Bool(true) && members(schema, "properties").next().is_some() {
            errors.push(FieldError::forbidden(&path, "additionalProperties and properties are mutual exclusive"));
        }
        let inside = Some("inside additionalProperties applying to object metadata");
        let place = if place.in_metadata { Place { no_default: inside, ..place } } else { place };
        if additional.is_object() {
            walk(additional, place, false, &path, depth, errors);
        }
    }
    let whole = is_root || flag(schema, "x-kubernetes-embedded-resource");
    for (name, property) in members(schema, "properties") {
        let is_meta = whole && matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        let top_level = format!("in top-level {name}");
        let place = Place {
            in_metadata: place.in_metadata || is_meta,
            no_default: if is_meta && is_root { Some(&top_level) } else { place.no_default },
            ..place
        };
        walk(property, place, false, &path.child("properties").key(name), depth, errors);
    }
    if let Some(not) = schema.get("not").filter(|not| not.is_object()) {
        walk(not, place, false, &path.child("not"), depth, errors);
    }
    for name in ["allOf", "oneOf", "anyOf"] {
        let path = path.child(name);
        items(schema, name).for_each(|(i, schema)| walk(schema, place, false, &path.index(i), depth, errors));
    }
    match schema.get("items") {
        Some(item @ Value::Object(_)) => walk(item, place, false, &path.child("items"), depth, errors),
        Some(Value::Array(_)) => {
            let path = path.child("items");
            items(schema, "items").for_each(|(i, item)| walk(item, place, false, &path.index(i), depth, errors));
        }
        _ => {}
    }
    extensions(schema, place.let_be, path, errors);
    for (i, rule) in items(schema, "x-kubernetes-validations") {
        self::rule(schema, rule, &path.child("x-kubernetes-validations").index(i), errors);
    }
}

/// Keywords of JSON schema that CRDs do not have.
fn own(schema: &Value, place: Place, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let kind = kind(schema);
    if has_unknown_type(schema) && !place.let_be.types {
        errors.push(FieldError::not_supported(&path.child("type"), kind, &TYPES));
    }
    if let Some(reason) = place.no_default.filter(|_| schema.get("default").is_some_and(|default| !default.is_null())) {
        errors.push(FieldError::forbidden(&path.child("default"), format!("must not be set {reason}")));
    }
    for name in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        // Of these, Go tells what is false from what is not there.
        let is_set = |value: &Value| !is_zero(value) || (name == "additionalItems" && value.is_boolean());
        if schema.get(name).is_some_and(is_set) {
            errors.push(FieldError::forbidden(&path.child(name), format!("{name} is not supported")));
        }
    }
    if kind == "null" {
        let detail = "type cannot be set to null, use nullable as an alternative";
        errors.push(FieldError::forbidden(&path.child("type"), detail));
    }
    if schema.get("items").and_then(Value::as_array).is_some_and(|items| !items.is_empty()) {
        errors.push(FieldError::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        let path = path.child("x-kubernetes-embedded-resource");
        errors.push(FieldError::forbidden(&path, "must not be used inside of resource meta"));
    }
}

/// A schema that must be of one type because of an extension.
fn must_be(wanted: &str, extension: &str, kind: &str, path: &FieldPath) -> FieldError {
    let detail = format!("must be {wanted} if {extension} is specified");
    let path = path.child("type");
    if kind.is_empty() { FieldError::required(&path, detail) } else { FieldError::invalid(&path, kind, detail) }
}

fn extensions(schema: &Value, let_be: Broken, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    let kind = kind(schema);
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let detail = "must be true or undefined";
        errors.push(FieldError::invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, detail));
    }
    if let Some(map_type) = text("x-kubernetes-map-type") {
        if kind != "object" {
            errors.push(must_be("object", "x-kubernetes-map-type", kind, path));
        }
        let supported = ["atomic", "granular"];
        if !supported.contains(&map_type) {
            errors.push(FieldError::not_supported(&path.child("x-kubernetes-map-type"), map_type, &supported));
        }
    }
    let list_type = text("x-kubernetes-list-type");
    if list_type.is_some() && kind != "array" {
        errors.push(must_be("array", "x-kubernetes-list-type", kind, path));
    } else if let Some(item) = schema.get("items").filter(|_| is_set_of_growing_items(schema) && !let_be.sets) {
        // Also of a map Kubernetes shows what kind of list it is.
        let shown = item.get("x-kubernetes-list-type").cloned().unwrap_or_default();
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        errors.push(FieldError::invalid(&path.child("items").child(growing(item).unwrap_or_default()), shown, detail));
    }
    let type_path = path.child("x-kubernetes-list-type");
    let supported = ["atomic", "set", "map"];
    if let Some(list_type) = list_type.filter(|list_type| !supported.contains(list_type)) {
        errors.push(FieldError::not_supported(&type_path, list_type, &supported));
    }
    if items(schema, "x-kubernetes-list-map-keys").next().is_some() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list_type {
            None => errors.push(FieldError::required(&type_path, detail)),
            Some("map") => {}
            Some(other) => errors.push(FieldError::invalid(&type_path, other, detail)),
        }
    }
    if list_type == Some("map") {
        map_keys(schema, path, errors);
    }
    if !let_be.keys {
        identified_items(schema, path, errors);
    }
}

/// The keyword by which values of a schema are not atomic.
fn growing(schema: &Value) -> Option<&'static str> {
    let text = |name: &str| schema.get(name).and_then(Value::as_str);
    match kind(schema) {
        "array" if text("x-kubernetes-list-type").is_some_and(|kind| kind != "atomic") => {
            Some("x-kubernetes-list-type")
        }
        "object" if text("x-kubernetes-map-type") != Some("atomic") => Some("x-kubernetes-map-type"),
        _ => None,
    }
}

/// Keys of a map are scalar fields of its items.
fn map_keys(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let keys_path = path.child("x-kubernetes-list-map-keys");
    let keys = schema.get("x-kubernetes-list-map-keys").cloned().unwrap_or_default();
    if is_zero(&keys) {
        errors.push(FieldError::required(&keys_path, "must not be empty if x-kubernetes-list-type is map"));
    }
    let Some(item) = schema.get("items").filter(|item| item.is_object()) else {
        if schema.get("items").is_none() {
            let detail = "must have a schema if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&path.child("items"), detail));
        }
        return;
    };
    let path = path.child("items");
    let kind = kind(item);
    if kind != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        return errors.push(FieldError::invalid(&path.child("type"), kind, detail));
    }
    let mut seen = Vec::new();
    for (_, key) in items(schema, "x-kubernetes-list-map-keys") {
        let name = key.as_str().unwrap_or_default();
        match item.get("properties").and_then(|properties| properties.get(name)) {
            Some(property) if property.get("type").is_some_and(|kind| kind == "object" || kind == "array") => {
                let properties = path.child("properties");
                let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&properties.key(name).child("type"), kind, detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(&keys_path, keys.clone(), detail));
            }
        }
        if seen.contains(&name) {
            errors.push(FieldError::invalid(&keys_path, keys.clone(), "must not contain duplicate entries"));
        }
        seen.push(name);
    }
}

/// Items that are told apart by what they are cannot be null, and those of a map always have their keys.
fn identified_items(schema: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(item) = schema.get("items").filter(|item| item.is_object()) else { return };
    let Some(list_type @ ("set" | "map")) = schema.get("x-kubernetes-list-type").and_then(Value::as_str) else {
        return;
    };
    let path = path.child("items");
    if flag(item, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {list_type}");
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    if list_type != "map" {
        return;
    }
    let path = path.child("properties");
    for (_, key) in items(schema, "x-kubernetes-list-map-keys") {
        let name = key.as_str().unwrap_or_default();
        let Some(property) = item.get("properties").and_then(|properties| properties.get(name)) else { continue };
        let is_required = items(item, "required").any(|(_, required)| required == name);
        if !is_required && property.get("default").is_none_or(Value::is_null) {
            let detail =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&path.key(name).child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&path.key(name).child("nullable"), detail));
        }
    }
}

/// One of `x-kubernetes-validations`, but for what its expressions mean.
fn rule(schema: &Value, rule: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let text = |name: &str| rule.get(name).and_then(Value::as_str).unwrap_or_default();
    let (message, field_path) = (text("message"), text("fieldPath"));
    let has_line_breaks = |text: &str| text.contains(['\n', '\r']);
    let message_path = path.child("message");
    if text("rule").trim().is_empty() {
        errors.push(FieldError::required(&path.child("rule"), "rule is not specified"));
    } else if !message.is_empty() && message.trim().is_empty() {
        errors.push(FieldError::invalid(&message_path, message, "must be non-empty if specified"));
    } else if has_line_breaks(message.trim()) {
        errors.push(FieldError::invalid(&message_path, message, "must not contain line breaks"));
    } else if has_line_breaks(text("rule").trim()) && message.trim().is_empty() {
        errors.push(FieldError::required(&message_path, "message must be specified if rule contains line breaks"));
    }
    let expression = text("messageExpression");
    if !expression.is_empty() && expression.trim().is_empty() {
        let detail = "messageExpression must be non-empty if specified";
        errors.push(FieldError::required(&path.child("messageExpression"), detail));
    }
    if let Some(reason) = rule.get("reason").and_then(Value::as_str).filter(|reason| !REASONS.contains(reason)) {
        errors.push(FieldError::not_supported(&path.child("reason"), reason, &REASONS));
    }
    let path = path.child("fieldPath");
    if !field_path.is_empty() && field_path.trim().is_empty() {
        errors.push(FieldError::invalid(&path, field_path, "must be non-empty if specified"));
    }
    if has_line_breaks(field_path) {
        errors.push(FieldError::invalid(&path, field_path, "must not contain line breaks"));
    }
    if !field_path.is_empty() && unsupported(schema).is_none() && field_path::find(field_path, schema, true).is_err() {
        errors.push(FieldError::invalid(&path, field_path, "must be a valid path"));
    }
}
