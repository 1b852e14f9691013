//! The value of one field, brought into the form that it has in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::default::is_zero;
use super::super::shape::{Object, Scalar, Shape};
use super::tags::{OrElse, Tags};
use super::wire::{Field, Reader, Wire};
use super::{Malformed, int_or_string as parts, message, timestamp};

/// Reads an occurrence of the field `name` into its object: sets it, or adds to a list or map.
///
/// Go writes every field that is no pointer, so a zero means absence unless the field is `optional`.
pub(super) fn field(
    shape: &Shape,
    name: &str,
    optional: bool,
    wire: Wire<'_>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Malformed> {
    match shape.resolve() {
        Shape::List(list) => {
            let item = single(&list.item.shape, name, wire, depth)?;
            match into.get_mut(name) {
                Some(Value::Array(items)) => items.push(item),
                _ => drop(into.insert(name.to_owned(), Value::Array(vec![item]))),
            }
        }
        Shape::Map(map) => {
            let (key, value) = entry(&map.value.shape, name, wire, depth)?;
            match into.get_mut(name) {
                Some(Value::Object(entries)) => drop(entries.insert(key, value)),
                _ => drop(into.insert(name.to_owned(), Value::Object(Map::from_iter([(key, value)])))),
            }
        }
        shape => {
            let value = single(shape, name, wire, depth)?;
            if !value.is_null() && (optional || !is_zero(&value)) {
                into.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// Reads a field that holds a schema (of the type `shape`, which it is a field of) or something else.
pub(super) fn alternatives(
    shape: &Object,
    name: &str,
    or_else: OrElse,
    wire: Wire<'_>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Malformed> {
    let Wire::Bytes(bytes) = wire else { return Err(Malformed::Type(name.to_owned())) };
    if or_else != OrElse::Strings {
        into.insert(name.to_owned(), alternative(shape, name, or_else, bytes, depth)?);
        return Ok(());
    }
    let (mut key, mut value) = (String::new(), Value::Array(Vec::new()));
    let mut reader = Reader::new(bytes);
    while let Some(Field { number, wire }) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes, name)?,
            (2, Wire::Bytes(bytes)) => value = alternative(shape, name, or_else, bytes, depth)?,
            _ => {}
        }
    }
    match into.get_mut(name) {
        Some(Value::Object(entries)) => drop(entries.insert(key, value)),
        _ => drop(into.insert(name.to_owned(), Value::Object(Map::from_iter([(key, value)])))),
    }
    Ok(())
}

fn alternative(shape: &Object, name: &str, or_else: OrElse, bytes: &[u8], depth: usize) -> Result<Value, Malformed> {
    let schema = |bytes: &[u8]| {
        let mut members = Map::new();
        message(shape, Tags::of(&shape.name), bytes, &mut members, depth + 1)?;
        Ok(Value::Object(members))
    };
    let (mut found, mut items, mut allows) = (None, Vec::new(), false);
    let mut reader = Reader::new(bytes);
    while let Some(Field { number, wire }) = reader.next()? {
        match (or_else, number, wire) {
            (OrElse::Bool, 1, Wire::Varint(value)) => allows = value != 0,
            (OrElse::Bool, 2, Wire::Bytes(bytes)) => found = Some(schema(bytes)?),
            (OrElse::Strings, 2, Wire::Bytes(bytes)) => items.push(text(bytes, name)?.into()),
            (OrElse::ListOfSchemas, 2, Wire::Bytes(bytes)) => items.push(schema(bytes)?),
            (_, 1, Wire::Bytes(bytes)) => found = Some(schema(bytes)?),
            (_, 1 | 2, _) => return Err(Malformed::Type(name.to_owned())),
            _ => {}
        }
    }
    Ok(match found {
        Some(schema) => schema,
        None if or_else == OrElse::Bool => allows.into(),
        None => items.into(),
    })
}

/// A value that is no list and no map by itself.
fn single(shape: &Shape, name: &str, wire: Wire<'_>, depth: usize) -> Result<Value, Malformed> {
    let bytes = || match wire {
        Wire::Bytes(bytes) => Ok(bytes),
        _ => Err(Malformed::Type(name.to_owned())),
    };
    match shape.resolve() {
        Shape::Scalar(scalar) => self::scalar(*scalar, name, wire),
        Shape::Object(object) => {
            let mut value = Map::new();
            message(object, Tags::of(&object.name), bytes()?, &mut value, depth + 1)?;
            Ok(Value::Object(value))
        }
        // A list within a list or map is a message of its own with the items as field 1.
        Shape::List(list) => {
            let mut items = Vec::new();
            let mut reader = Reader::new(bytes()?);
            while let Some(Field { number, wire }) = reader.next()? {
                if number == 1 {
                    items.push(single(&list.item.shape, name, wire, depth + 1)?);
                }
            }
            Ok(Value::Array(items))
        }
        Shape::Map(_) => Err(Malformed::Type(name.to_owned())),
        // Any JSON travels as it is, in field 1.
        Shape::Any | Shape::Named(_) => match first(bytes()?)? {
            Some(Wire::Bytes(raw)) if !raw.is_empty() => {
                serde_json::from_slice(raw).map_err(|_| Malformed::Json(name.to_owned()))
            }
            _ => Ok(Value::Null),
        },
    }
}

/// One entry of a map is a message of its key and value.
fn entry(shape: &Shape, name: &str, wire: Wire<'_>, depth: usize) -> Result<(String, Value), Malformed> {
    let Wire::Bytes(bytes) = wire else { return Err(Malformed::Type(name.to_owned())) };
    let (mut key, mut value) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some(Field { number, wire }) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes, name)?,
            (2, wire) => value = Some(single(shape, name, wire, depth)?),
            _ => {}
        }
    }
    let value = match value {
        Some(value) => value,
        None => single(shape, name, Wire::Bytes(&[]), depth)?,
    };
    Ok((key, value))
}

fn scalar(scalar: Scalar, name: &str, wire: Wire<'_>) -> Result<Value, Malformed> {
    Ok(match (scalar, wire) {
        (Scalar::String, Wire::Bytes(bytes)) => text(bytes, name)?.into(),
        (Scalar::Bytes, Wire::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Scalar::Bool, Wire::Varint(value)) => (value != 0).into(),
        // Negative numbers are written as 64 bits of two's complement.
        (Scalar::Int32, Wire::Varint(value)) => (value as i32).into(),
        (Scalar::Int64 | Scalar::Number, Wire::Varint(value)) => (value as i64).into(),
        (Scalar::Number, Wire::Fixed64(bits)) => f64::from_bits(bits).into(),
        (Scalar::Number, Wire::Fixed32(bits)) => f64::from(f32::from_bits(bits)).into(),
        (Scalar::Quantity, Wire::Bytes(bytes)) => match first(bytes)? {
            Some(Wire::Bytes(quantity)) => text(quantity, name)?.into(),
            _ => "".into(),
        },
        (Scalar::IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes, name)?,
        (Scalar::Time, Wire::Bytes(bytes)) => {
            time(bytes)?.map_or(Value::Null, |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into())
        }
        (Scalar::MicroTime, Wire::Bytes(bytes)) => {
            time(bytes)?.map_or(Value::Null, |time| time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string().into())
        }
        _ => return Err(Malformed::Type(name.to_owned())),
    })
}

/// `k8s.io/apimachinery/pkg/util/intstr` IntOrString.
fn int_or_string(bytes: &[u8], name: &str) -> Result<Value, Malformed> {
    let (mut kind, mut number, mut string) = (0, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some(Field { number: field, wire }) = reader.next()? {
        match (field, wire) {
            (parts::KIND, Wire::Varint(value)) => kind = value,
            (parts::INT, Wire::Varint(value)) => number = value as i32,
            (parts::STRING, Wire::Bytes(bytes)) => string = text(bytes, name)?,
            _ => {}
        }
    }
    Ok(if kind == parts::IS_STRING { string.into() } else { number.into() })
}

/// Seconds and nanoseconds; nothing at all is Go's zero time, which JSON writes as null.
fn time(bytes: &[u8]) -> Result<Option<Timestamp>, Malformed> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some(Field { number, wire }) = reader.next()? {
        match (number, wire) {
            (timestamp::SECONDS, Wire::Varint(value)) => seconds = value as i64,
            (timestamp::NANOSECONDS, Wire::Varint(value)) => nanoseconds = value as i32,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    Timestamp::new(seconds, nanoseconds).map(Some).map_err(|_| Malformed::Wire)
}

/// The last occurrence of field 1.
fn first(bytes: &[u8]) -> Result<Option<Wire<'_>>, Malformed> {
    let mut found = None;
    let mut reader = Reader::new(bytes);
    while let Some(Field { number, wire }) = reader.next()? {
        if number == 1 {
            found = Some(wire);
        }
    }
    Ok(found)
}

pub(super) fn text(bytes: &[u8], name: &str) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed::Type(name.to_owned()))
}
