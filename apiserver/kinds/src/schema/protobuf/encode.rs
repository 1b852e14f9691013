//! Objects as messages.
//!
//! What is written is what the object has, in the order of the field numbers, as Go writes it. The values are of their
//! types, because whatever is stored was checked before; one that is not is left out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::shape::{Object, Scalar, Shape};
use super::tags::{OrElse, Tag, Tags};
use super::wire::Writer;
use super::{int_or_string as parts, timestamp};
use crate::json;

/// Writes the members of an object of the type `shape`. `tags` are those of the type, or of a part that its JSON form has
/// inlined.
pub(super) fn message(shape: &Object, tags: &Tags, members: &Map<String, Value>, out: &mut Writer) {
    for (number, tag) in tags.iter() {
        match tag {
            Tag::Inline(part) => out.message(number, |out| message(shape, Tags::of(part), members, out)),
            Tag::Field { name, or_else, .. } => {
                let Some(value) = members.get(*name).filter(|value| !value.is_null()) else { continue };
                match shape.field(name) {
                    Some(field) if *or_else == OrElse::Nothing => self::field(&field.node.shape, number, value, out),
                    Some(_) => alternatives(shape, number, *or_else, value, out),
                    None => {}
                }
            }
        }
    }
}

fn field(shape: &Shape, number: u32, value: &Value, out: &mut Writer) {
    match (shape.resolve(), value) {
        (Shape::List(list), Value::Array(items)) => {
            items.iter().for_each(|item| single(&list.item.shape, number, item, out));
        }
        (Shape::Map(map), Value::Object(entries)) => {
            for (key, value) in entries {
                entry(number, key, out, |out| single(&map.value.shape, 2, value, out));
            }
        }
        (shape, value) => single(shape, number, value, out),
    }
}

/// One entry of a map is a message of its key and value.
fn entry(number: u32, key: &str, out: &mut Writer, value: impl FnOnce(&mut Writer)) {
    out.message(number, |out| {
        out.bytes(1, key.as_bytes());
        value(out);
    });
}

/// A value that is no list and no map by itself.
fn single(shape: &Shape, number: u32, value: &Value, out: &mut Writer) {
    match (shape.resolve(), value) {
        (Shape::Scalar(scalar), value) => self::scalar(*scalar, number, value, out),
        (Shape::Object(object), Value::Object(members)) => {
            out.message(number, |out| message(object, Tags::of(&object.name), members, out));
        }
        // A list within a list or map is a message of its own with the items as field 1.
        (Shape::List(list), Value::Array(items)) => {
            out.message(number, |out| items.iter().for_each(|item| single(&list.item.shape, 1, item, out)));
        }
        // Any JSON travels as it is, in field 1.
        (Shape::Any | Shape::Named(_), value) => {
            out.message(number, |out| out.bytes(1, &json::to_vec(value)));
        }
        _ => {}
    }
}

fn scalar(scalar: Scalar, number: u32, value: &Value, out: &mut Writer) {
    match (scalar, value) {
        (Scalar::String, Value::String(text)) => out.bytes(number, text.as_bytes()),
        (Scalar::Bytes, Value::String(text)) => {
            if let Ok(bytes) = STANDARD.decode(text) {
                out.bytes(number, &bytes);
            }
        }
        (Scalar::Bool, Value::Bool(value)) => out.varint(number, u64::from(*value)),
        // Negative numbers are written as 64 bits of two's complement.
        (Scalar::Int32 | Scalar::Int64, Value::Number(value)) => {
            if let Some(value) = value.as_i64() {
                out.varint(number, value as u64);
            }
        }
        (Scalar::Number, Value::Number(value)) => {
            if let Some(value) = value.as_f64() {
                out.fixed64(number, value.to_bits());
            }
        }
        (Scalar::Quantity, Value::String(text)) => out.message(number, |out| out.bytes(1, text.as_bytes())),
        (Scalar::IntOrString, value) => out.message(number, |out| self::int_or_string(value, out)),
        (Scalar::Time | Scalar::MicroTime, Value::String(text)) => {
            if let Ok(time) = text.parse::<Timestamp>() {
                out.message(number, |out| {
                    out.varint(timestamp::SECONDS, time.as_second() as u64);
                    // A Time is of whole seconds in JSON, and so it is here.
                    let nanoseconds = if scalar == Scalar::MicroTime { time.subsec_nanosecond() } else { 0 };
                    out.varint(timestamp::NANOSECONDS, i64::from(nanoseconds) as u64);
                });
            }
        }
        // The zero time, which is null in JSON, as a map's value.
        (Scalar::Time | Scalar::MicroTime, Value::Null) => out.message(number, |_| {}),
        _ => {}
    }
}

fn int_or_string(value: &Value, out: &mut Writer) {
    let text = value.as_str();
    out.varint(parts::KIND, if text.is_some() { parts::IS_STRING } else { 0 });
    out.varint(parts::INT, value.as_i64().unwrap_or_default() as u64);
    out.bytes(parts::STRING, text.unwrap_or_default().as_bytes());
}

/// A field that holds a schema (of the type `shape`, which it is a field of) or something else.
fn alternatives(shape: &Object, number: u32, or_else: OrElse, value: &Value, out: &mut Writer) {
    if or_else == OrElse::Strings {
        for (key, value) in value.as_object().into_iter().flatten() {
            entry(number, key, out, |out| out.message(2, |out| alternative(shape, or_else, value, out)));
        }
    } else {
        out.message(number, |out| alternative(shape, or_else, value, out));
    }
}

fn alternative(shape: &Object, or_else: OrElse, value: &Value, out: &mut Writer) {
    let schema = |number: u32, members: &Map<String, Value>, out: &mut Writer| {
        out.message(number, |out| message(shape, Tags::of(&shape.name), members, out));
    };
    match (or_else, value) {
        (OrElse::Bool, Value::Bool(allows)) => out.varint(1, u64::from(*allows)),
        (OrElse::Bool, Value::Object(members)) => {
            out.varint(1, 1);
            schema(2, members, out);
        }
        (_, Value::Object(members)) => schema(1, members, out),
        (_, Value::Array(items)) => {
            for item in items {
                match item {
                    Value::Object(members) => schema(2, members, out),
                    Value::String(text) => out.bytes(2, text.as_bytes()),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}
