//! Whether an applied configuration fits its schema.

use serde_json::Value;

use super::path::PathElement;
use super::typed::{Parts, Typed, identity};
use crate::schema::go::{go, go_syntax, go_type};

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
        _ => format!("&{{{}}}", go(value)),
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
