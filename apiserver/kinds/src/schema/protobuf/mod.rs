//! Kubernetes' protobuf encoding, read under a schema: what Go clients send for built-in kinds.
//!
//! A body is `k8s\0` and a message `runtime.Unknown`, which holds the type's name and the object's own message
//! ("Protobuf encoding" in the API concepts). Types come from the schema; the only other facts needed are field numbers
//! ([`tags`]). Unknown field numbers are skipped, as Go skips them.

mod tags;
mod value;
mod wire;

use serde_json::{Map, Value};

use super::decode::{self, DecodeError, Decoded};
use super::{Schema, shape::Object};
use tags::Tags;
use wire::{Field, Reader, Wire};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages.
const MAX_DEPTH_LEVELS: usize = 100;

/// Not a message of the expected type. Display is worded for the user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
enum Malformed {
    #[error("the body does not begin like Kubernetes' protobuf encoding")]
    Magic,
    #[error("the body is compressed in an unknown way")]
    Encoding,
    #[error("proto: unexpected end of the body")]
    Truncated,
    #[error("proto: illegal field or wire type")]
    Wire,
    #[error("proto: wrong wire type for field {0}")]
    Type(String),
    #[error("proto: messages are nested too deeply")]
    Depth,
    #[error("proto: field {0} holds no valid JSON")]
    Json(String),
}

/// Decodes an object and brings it into the form that the same object has in JSON.
pub(super) fn decode(schema: &Schema, body: &[u8]) -> Result<Decoded, DecodeError> {
    let malformed = |error: Malformed| DecodeError::Syntax(error.to_string());
    let envelope = Envelope::read(body).map_err(malformed)?;
    let mut object = Map::new();
    for (name, text) in [("apiVersion", envelope.api_version), ("kind", envelope.kind)] {
        if !text.is_empty() {
            object.insert(name.to_owned(), text.into());
        }
    }
    if let Some(shape) = schema.0.node.shape.object() {
        message(shape, Tags::of(&shape.name), envelope.raw, &mut object, 0).map_err(malformed)?;
    }
    decode::check(schema, Value::Object(object))
}

/// `k8s.io/apimachinery/pkg/runtime` Unknown.
#[derive(Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Envelope<'a>, Malformed> {
        let mut envelope = Envelope::default();
        let mut reader = Reader::new(body.strip_prefix(MAGIC).ok_or(Malformed::Magic)?);
        while let Some(Field { number, wire }) = reader.next()? {
            match (number, wire) {
                (1, Wire::Bytes(type_meta)) => {
                    let mut reader = Reader::new(type_meta);
                    while let Some(Field { number, wire }) = reader.next()? {
                        match (number, wire) {
                            (1, Wire::Bytes(text)) => envelope.api_version = value::text(text, "apiVersion")?,
                            (2, Wire::Bytes(text)) => envelope.kind = value::text(text, "kind")?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(encoding)) if !encoding.is_empty() => return Err(Malformed::Encoding),
                _ => {}
            }
        }
        Ok(envelope)
    }
}

/// Reads a message of the type `shape` into `into`. `tags` are those of the type, or of a part that its JSON form has
/// inlined.
fn message(
    shape: &Object,
    tags: &Tags,
    bytes: &[u8],
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > MAX_DEPTH_LEVELS {
        return Err(Malformed::Depth);
    }
    let mut reader = Reader::new(bytes);
    while let Some(Field { number, wire }) = reader.next()? {
        match tags.get(number) {
            Some(tags::Tag::Inline(part)) => {
                let Wire::Bytes(bytes) = wire else { return Err(Malformed::Type(part.to_string())) };
                message(shape, Tags::of(part), bytes, into, depth + 1)?;
            }
            Some(tags::Tag::Field { name, optional }) => {
                let Some(field) = shape.field(name) else { continue };
                value::field(&field.node.shape, name, *optional, wire, into, depth)?;
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
