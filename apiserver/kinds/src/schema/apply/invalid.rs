//! Whether an applied configuration fits its schema.

use serde_json::Value;

use super::path::PathElement;
use super::typed::{Parts, Typed, identity};

/// # Errors
/// All that does not fit, in the words of structured-merge-diff.
pub(super) fn check(typed: Typed<'_>, config: &Value, api_version: &str) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(typed, config, "", &mut errors);
    if errors.is_empty() {
        return Ok(());
    }
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let listed = match errors.as_slice() {
        [only] => only.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let slash = if api_version.contains('/') { "" } else { "/" };
    Err(format!(
        "failed to create typed patch object ({}/{}; {slash}{api_version}, Kind={}): {listed}",
        text("/metadata/namespace"),
        text("/metadata/name"),
        text("/kind"),
    ))
}

/// How structured-merge-diff shows a value of the wrong type, which depends on what it expected: as Go prints the type (`%T`),
/// what makes the value (`%#v`), or the value (`%v`).
fn got(expected: &str, value: &Value) -> String {
    match expected {
        "numeric (int or float)" => go_type(value).to_owned(),
        "string" => format!("&value.valueUnstructured{{Value:{}}}", go_syntax(value)),
        _ => format!("&{{{}}}", go_value(value)),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn go_syntax(value: &Value) -> String {
    let parts: Vec<String> = match value {
        Value::Null => return "interface {}(nil)".to_owned(),
        Value::Array(items) => items.iter().map(go_syntax).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| format!("{name:?}:{}", go_syntax(member))).collect()
        }
        Value::String(text) => return format!("{text:?}"),
        scalar => return scalar.to_string(),
    };
    format!("{}{{{}}}", go_type(value), parts.join(", "))
}

fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| format!("{name}:{}", go_value(member)));
            format!("map[{}]", members.collect::<Vec<_>>().join(" "))
        }
        Value::String(text) => text.clone(),
        scalar => scalar.to_string(),
    }
}

fn walk(typed: Typed<'_>, value: &Value, path: &str, errors: &mut Vec<String>) {
    if let Some(expected) = typed.misfit(value) {
        errors.push(format!("{path}: expected {expected}, got {}", got(expected, value)));
        return;
    }
    match (typed.parts(value), typed.list()) {
        (Parts::Object(members), _) => {
            for (name, member) in members {
                let path = format!("{path}.{name}");
                match typed.knows(name) {
                    true => walk(typed.member(name).0, member, &path, errors),
                    false => errors.push(format!("{path}: field not declared in schema")),
                }
            }
        }
        (Parts::List(items), Some(list)) => {
            let mut seen: Vec<PathElement> = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                match identity(list, item) {
                    Err(error) => errors.push(format!("{path}: element {i}: {error}")),
                    Ok(element) if seen.contains(&element) => {
                        errors.push(format!("{path}: duplicate entries for key {element}"));
                    }
                    Ok(element) => {
                        walk(Typed::new(&list.item.shape), item, &format!("{path}{element}"), errors);
                        seen.push(element);
                    }
                }
            }
        }
        _ => {}
    }
}
