//! JSON values as Go prints them, which Kubernetes' error messages show.

use serde_json::Value;

/// A value's Go type (`%T`).
pub fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value (`%v`).
pub fn go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => go_list(items),
        Value::Object(members) => {
            let members: Vec<String> = members.iter().map(|(k, v)| format!("{k}:{}", go(v))).collect();
            format!("map[{}]", members.join(" "))
        }
        Value::Number(number) if number.is_f64() => go_float(number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A `float64` (`%v`): with an exponent from a million on, and below a ten-thousandth.
pub fn go_float(number: f64) -> String {
    let digits = format!("{number:e}");
    let Some((mantissa, exponent)) = digits.split_once('e') else { return digits };
    match exponent.parse::<i32>() {
        Ok(exponent) if exponent < -4 => format!("{mantissa}e-{:02}", -exponent),
        Ok(exponent) if exponent >= 6 => format!("{mantissa}e+{exponent:02}"),
        _ => number.to_string(),
    }
}

/// The values of a list (`%v`).
pub(super) fn go_list(items: &[Value]) -> String {
    let items: Vec<String> = items.iter().map(go).collect();
    format!("[{}]", items.join(" "))
}

/// What makes a value, in Go's syntax (`%#v`).
pub(super) fn go_syntax(value: &Value) -> String {
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
