//! Scalars: which JSON each accepts, its stored form, and Go's words for what does not fit.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::super::shape::{Scalar, Shape};
use crate::quantity::Quantity;

/// Why a value is not a scalar of its type.
pub(super) enum Misfit {
    /// Another type of JSON, in Go's words.
    Type(String),
    /// The right type with content that cannot be read; the whole message.
    Content(String),
}

/// Checks a JSON scalar and brings it into its stored form. `lenient` lets anything pass that lacks its type.
pub(super) fn read(kind: Scalar, value: Value, lenient: bool) -> Result<Value, Misfit> {
    let fits = match kind {
        Scalar::String => value.is_string(),
        Scalar::Bool => value.is_boolean(),
        Scalar::Number => value.is_number(),
        Scalar::Int64 => value.is_i64(),
        Scalar::Int32 => value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Scalar::IntOrString => value.is_string() || value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        Scalar::Quantity => value.is_string() || value.is_number(),
        Scalar::Bytes | Scalar::Time | Scalar::MicroTime => value.is_string(),
    };
    if !fits {
        return if lenient { Ok(value) } else { Err(Misfit::Type(go_kind_for(kind, &value).into_owned())) };
    }
    match (kind, value) {
        (Scalar::Quantity, value) => quantity(&value).map_err(Misfit::Content),
        (Scalar::Bytes, Value::String(text)) => bytes(text).map_err(Misfit::Content),
        (Scalar::Time, Value::String(text)) => time(text, 0).map_err(Misfit::Content),
        (Scalar::MicroTime, Value::String(text)) => time(text, 6).map_err(Misfit::Content),
        (_, value) => Ok(value),
    }
}

fn quantity(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => Cow::Borrowed(text.trim()),
        other => Cow::Owned(other.to_string()),
    };
    Ok(Value::String(text.parse::<Quantity>().map_err(|e| e.to_string())?.to_string()))
}

/// Go ignores line breaks in base64; the stored form has none.
fn bytes(mut text: String) -> Result<Value, String> {
    if text.contains(['\n', '\r']) {
        text.retain(|c| c != '\n' && c != '\r');
    }
    match BASE64.decode(&text) {
        Ok(_) => Ok(Value::String(text)),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len() / 4 * 4)),
    }
}

/// RFC 3339 in UTC with a fixed number of decimals.
fn time(text: String, decimals: usize) -> Result<Value, String> {
    let bad = || {
        format!(
            "parsing time {:?} as \"2006-01-02T15:04:05{}Z07:00\": cannot parse {text:?} as \"2006\"",
            format!("\"{text}\""),
            if decimals == 0 { "" } else { ".000000" },
        )
    };
    if text.as_bytes().get(10) != Some(&b'T') {
        return Err(bad());
    }
    let timestamp: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    let precise = if decimals == 0 {
        jiff::Timestamp::from_second(timestamp.as_second().saturating_sub(i64::from(timestamp.subsec_nanosecond() < 0)))
            .map_err(|_| bad())?
    } else {
        timestamp
    };
    Ok(Value::String(if decimals == 0 { format!("{precise:.0}") } else { format!("{precise:.6}") }))
}

/// A JSON value's kind in Go's error messages.
pub(super) fn go_kind(value: &Value) -> Cow<'static, str> {
    Cow::Borrowed(match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    })
}

/// A number that does not fit into an integer is named with its digits.
fn go_kind_for(kind: Scalar, value: &Value) -> Cow<'static, str> {
    match (kind, value) {
        (Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString, Value::Number(n)) => Cow::Owned(format!("number {n}")),
        _ => go_kind(value),
    }
}

/// What Kubernetes' converter says of a value that lacks its type; `None` for types that read themselves from JSON.
pub(super) fn not_restored(shape: &Shape, found: &str) -> Option<String> {
    let kind = match found.split(' ').next().unwrap_or_default() {
        "array" => "slice",
        "object" => "map",
        "number" if found.contains(['.', 'e']) => "float64",
        "number" => "int64",
        other => other,
    };
    match shape.resolve() {
        Shape::Map(_) => Some(format!("cannot restore map from {kind}")),
        Shape::List(_) => Some(format!("cannot restore slice from {kind}")),
        Shape::Object(_) => Some(format!("cannot restore struct from: {kind}")),
        Shape::Scalar(scalar @ (Scalar::String | Scalar::Bool | Scalar::Int32 | Scalar::Int64 | Scalar::Number)) => {
            let target = go_scalar(*scalar);
            let numeric =
                kind == "int64" && target != "bool" || kind == "float64" && !matches!(target, "string" | "bool");
            Some(if numeric {
                format!("cannot convert {kind} to {target}")
            } else {
                format!("unrecognized type: {target}")
            })
        }
        Shape::Scalar(_) | Shape::Any | Shape::Named(_) => None,
    }
}

/// What a value was meant for, in Go's words: a field of a struct, or a bare type.
pub(super) fn go_target(shape: &Shape, field: Option<String>) -> String {
    match (shape.resolve(), field) {
        // These read themselves, so Go does not know of a field.
        (Shape::Scalar(Scalar::Time | Scalar::MicroTime | Scalar::IntOrString), _) | (_, None) => {
            format!("value of type {}", go_type(shape))
        }
        (_, Some(field)) => format!("struct field {field} of type {}", go_type(shape)),
    }
}

fn go_type(shape: &Shape) -> String {
    match shape.resolve() {
        Shape::Named(_) | Shape::Any => "interface {}".to_owned(),
        Shape::Scalar(scalar) => go_scalar(*scalar).to_owned(),
        Shape::List(list) => format!("[]{}", go_type(&list.item.shape)),
        Shape::Map(map) => format!("map[string]{}", go_type(&map.value.shape)),
        Shape::Object(object) => object.go_name().to_owned(),
    }
}

fn go_scalar(scalar: Scalar) -> &'static str {
    match scalar {
        Scalar::String | Scalar::Time | Scalar::MicroTime | Scalar::Quantity => "string",
        Scalar::Bytes => "[]uint8",
        Scalar::Int32 | Scalar::IntOrString => "int32",
        Scalar::Int64 => "int64",
        Scalar::Number => "float64",
        Scalar::Bool => "bool",
    }
}

/// Go's zero value of a type.
pub(super) fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Scalar(scalar) => match scalar {
            Scalar::String | Scalar::Bytes => "".into(),
            Scalar::Int32 | Scalar::Int64 | Scalar::Number | Scalar::IntOrString => 0.into(),
            Scalar::Bool => false.into(),
            Scalar::Quantity => "0".into(),
            Scalar::Time | Scalar::MicroTime => Value::Null,
        },
        Shape::Object(_) => Value::Object(serde_json::Map::new()),
        Shape::List(_) | Shape::Map(_) | Shape::Any | Shape::Named(_) => Value::Null,
    }
}
