//! Validating a custom object against its schema, in apiextensions' words.

use std::collections::HashMap;

use serde_json::Value;

use super::super::shape::{List, ListKind, Node, Scalar, Shape};
use super::rules::{Kind, Limit, Rules};
use crate::field::{FieldError, FieldPath};
use crate::metadata;

/// Everything that is wrong with a value, in the order of its members. What is as it was in `old` is let be.
pub(in crate::schema) fn validate(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    path: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(node, value, old, path, &mut errors);
    errors
}

fn walk(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath, errors: &mut Vec<FieldError>) {
    if old == Some(value) || value.is_null() && (node.nullable || matches!(node.shape, Shape::Any)) {
        return;
    }
    if let Some(expected) = expected_type(&node.shape, value) {
        let found = type_of(value);
        errors.push(FieldError::type_invalid(
            path,
            found,
            format!("{path} in body must be of type {expected}: {found:?}"),
        ));
        return;
    }
    if let Some(rules) = &node.rules {
        check(rules, value, path, errors);
        if rules.embedded {
            metadata::embedded(value, path, errors);
        }
    }
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(members)) => {
            for (name, member) in members {
                if let Some(field) = object.field(name) {
                    walk(&field.node, member, old.and_then(|old| old.get(name)), &path.child(name), errors);
                }
            }
        }
        (Shape::Map(map), Value::Object(members)) => {
            for (name, member) in members {
                walk(&map.value, member, old.and_then(|old| old.get(name)), &path.child(name), errors);
            }
        }
        (Shape::List(list), Value::Array(items)) => {
            for (i, item) in items.iter().enumerate() {
                walk(&list.item, item, counterpart(list, item, old), &path.index(i), errors);
            }
            identities(list, items, path, errors);
        }
        _ => {}
    }
}

/// The same item in the old list, where items have keys to be known by.
fn counterpart<'v>(list: &List, item: &Value, old: Option<&'v Value>) -> Option<&'v Value> {
    let ListKind::Map(keys) = &list.kind else { return None };
    let same = |other: &&Value| keys.iter().all(|key| other.get(&**key) == item.get(&**key));
    old?.as_array()?.iter().find(same)
}

/// The type a value should have; `None` when it has it.
fn expected_type(shape: &Shape, value: &Value) -> Option<&'static str> {
    let integer = value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0);
    let (fits, expected) = match shape {
        Shape::Scalar(Scalar::String) => (value.is_string(), "string"),
        Shape::Scalar(Scalar::Int64) => (integer, "integer"),
        Shape::Scalar(Scalar::Number) => (value.is_number(), "number"),
        Shape::Scalar(Scalar::Bool) => (value.is_boolean(), "boolean"),
        Shape::Scalar(Scalar::IntOrString) => (value.is_string() || integer, "integer,string"),
        Shape::List(_) => (value.is_array(), "array"),
        Shape::Map(_) | Shape::Object(_) => (value.is_object(), "object"),
        // What is built in was checked when it was decoded.
        Shape::Scalar(_) | Shape::Any | Shape::Named(_) => return None,
    };
    (!fits).then_some(expected)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Items of a set or map must differ; each repetition is told once, as an identity or as a value.
fn identities(list: &List, items: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
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

fn fits(rules: &Rules, value: &Value, path: &FieldPath) -> bool {
    let mut errors = Vec::new();
    check(rules, value, path, &mut errors);
    errors.is_empty()
}

/// Checks one value against the rules for it, and inside of combining keywords also what lies below.
fn check(rules: &Rules, value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let invalid = |detail: String| FieldError::invalid(path, value.clone(), format!("{path} in body {detail}"));
    if let Some(kind) = rules.kind {
        let (fits, expected) = match kind {
            Kind::Integer => (value.is_i64() || value.is_u64(), "integer"),
            Kind::String => (value.is_string(), "string"),
        };
        if !fits {
            let found = type_of(value);
            let detail = format!("{path} in body must be of type {expected}: {found:?}");
            return errors.push(FieldError::type_invalid(path, found, detail));
        }
    }
    match value {
        Value::String(text) => check_string(rules, text, path, errors),
        Value::Number(number) => check_number(rules, number.as_f64().unwrap_or_default(), invalid, errors),
        Value::Array(items) => check_list(rules, items, path, errors),
        Value::Object(_) => check_object(rules, value, path, errors),
        _ => {}
    }
    if !rules.enumeration.is_empty() && !rules.enumeration.contains(value) {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let supported: Vec<String> = rules.enumeration.iter().map(text).collect();
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        errors.push(FieldError::not_supported(path, value.clone(), &supported));
    }
    rules.all_of.iter().for_each(|rules| check(rules, value, path, errors));
    if !rules.any_of.is_empty() && !rules.any_of.iter().any(|rules| fits(rules, value, path)) {
        errors.push(combined(path, "must validate at least one schema (anyOf)"));
        explain(&rules.any_of, value, path, errors);
    }
    if !rules.one_of.is_empty() {
        match rules.one_of.iter().filter(|rules| fits(rules, value, path)).count() {
            1 => {}
            found => {
                let found = if found == 0 { "none valid".to_owned() } else { format!("{found} valid alternatives") };
                let message = format!("must validate one and only one schema (oneOf). Found {found}");
                errors.push(combined(path, &message));
                explain(&rules.one_of, value, path, errors);
            }
        }
    }
    if rules.not.as_ref().is_some_and(|rules| fits(rules, value, path)) {
        errors.push(combined(path, "must not validate the schema (not)"));
    }
}

/// Kubernetes tells these of the whole object, and names the place in the message.
fn combined(path: &FieldPath, message: &str) -> FieldError {
    let error = FieldError::invalid(path, "", format!("\"{path}\" {message}"));
    FieldError { field: "<nil>".into(), ..error }
}

/// Of several alternatives that all fail, the one that fails least is told.
fn explain(alternatives: &[Rules], value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let failures = alternatives.iter().map(|rules| {
        let mut errors = Vec::new();
        check(rules, value, path, &mut errors);
        errors
    });
    errors.extend(failures.filter(|errors| !errors.is_empty()).min_by_key(Vec::len).into_iter().flatten());
}

fn check_string(rules: &Rules, text: &str, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let invalid = |detail: String| FieldError::invalid(path, text, format!("{path} in body {detail}"));
    let length = text.chars().count() as u64;
    if let Some(max) = rules.max_length.filter(|max| length > *max) {
        errors.push(FieldError::too_long(path, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if let Some(min) = rules.min_length.filter(|min| length < *min) {
        errors.push(invalid(format!("should be at least {min} chars long")));
    }
    if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        errors.push(invalid(format!("should match '{}'", pattern.as_str())));
    }
    if let Some(format) = rules.format.filter(|format| !format.fits(text)) {
        let detail = format!("{path} in body must be of type {}: {text:?}", format.name());
        errors.push(FieldError::type_invalid(path, text, detail));
    }
}

fn check_number(rules: &Rules, number: f64, invalid: impl Fn(String) -> FieldError, errors: &mut Vec<FieldError>) {
    if let Some(factor) = rules.multiple_of.filter(|factor| *factor > 0.0 && (number / factor).fract() != 0.0) {
        errors.push(invalid(format!("should be a multiple of {factor}")));
    }
    if let Some(Limit { value, exclusive }) = rules.maximum
        && (number > value || (exclusive && number == value))
    {
        errors.push(invalid(format!("should be less than {}{value}", if exclusive { "" } else { "or equal to " })));
    }
    if let Some(Limit { value, exclusive }) = rules.minimum
        && (number < value || (exclusive && number == value))
    {
        errors.push(invalid(format!("should be greater than {}{value}", if exclusive { "" } else { "or equal to " })));
    }
}

fn check_list(rules: &Rules, items: &[Value], path: &FieldPath, errors: &mut Vec<FieldError>) {
    let count = items.len();
    let invalid = |detail: String| FieldError::invalid(path, count, format!("{path} in body {detail}"));
    if let Some(min) = rules.min_items.filter(|min| (count as u64) < *min) {
        errors.push(invalid(format!("should have at least {min} items")));
    }
    if let Some(max) = rules.max_items.filter(|max| count as u64 > *max) {
        errors.push(FieldError::too_many(path, count, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if rules.unique_items && (1..count).any(|i| items[..i].contains(&items[i])) {
        errors.push(FieldError::invalid(path, "", format!("{path} in body shouldn't contain duplicates")));
    }
    if let Some(rules) = &rules.items {
        items.iter().enumerate().for_each(|(i, item)| check(rules, item, &path.index(i), errors));
    }
}

fn check_object(rules: &Rules, value: &Value, path: &FieldPath, errors: &mut Vec<FieldError>) {
    let Some(members) = value.as_object() else { return };
    let count = members.len();
    if let Some(min) = rules.min_properties.filter(|min| (count as u64) < *min) {
        errors.push(FieldError::invalid(path, count, format!("{path} in body should have at least {min} properties")));
    }
    if let Some(max) = rules.max_properties.filter(|max| count as u64 > *max) {
        errors.push(FieldError::too_many(path, count, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    for name in rules.required.iter().filter(|name| !members.contains_key(&***name)) {
        errors.push(FieldError::required(&path.child(name), ""));
    }
    for (name, rules) in &rules.properties {
        if let Some(member) = members.get(&**name) {
            check(rules, member, &path.child(name), errors);
        }
    }
    if let Some(additional) = &rules.additional {
        for (name, member) in members {
            if rules.properties.iter().all(|(known, _)| **known != *name) {
                check(additional, member, &path.child(name), errors);
            }
        }
    }
}
