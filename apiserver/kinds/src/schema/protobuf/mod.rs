//! Kubernetes' protobuf encoding, read and written under a schema: what Go clients speak for built-in kinds.
//!
//! A body is `k8s\0` and a message `runtime.Unknown`, which holds the type's name and the object's own message
//! ("Protobuf encoding" in the API concepts). Types come from the schema; the only other facts needed are field numbers
//! ([`tags`]). Unknown field numbers are skipped, as Go skips them.
//!
//! An object's own message is worth keeping: [`envelope`], [`list`] and [`watch_frame`] take it as it is.

mod encode;
mod tags;
mod value;
mod wire;

use serde_json::{Map, Value};

use super::decode::{self, DecodeError, Decoded};
use super::{Schema, shape::Object};
use tags::{OrElse, Tag, Tags};
pub use wire::Writer;
use wire::{Field, Reader, Wire};

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Deepest nesting of messages.
const MAX_DEPTH_LEVELS: usize = 100;

/// Fields of `k8s.io/apimachinery/pkg/util/intstr` IntOrString.
mod int_or_string {
    pub const KIND: u32 = 1;
    pub const INT: u32 = 2;
    pub const STRING: u32 = 3;
    /// The kind of a string.
    pub const IS_STRING: u64 = 1;
}

/// Fields of `k8s.io/apimachinery/pkg/apis/meta/v1` Timestamp.
mod timestamp {
    pub const SECONDS: u32 = 1;
    pub const NANOSECONDS: u32 = 2;
}

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

/// The fields of a type that are no pointers in Go, by the type's published name.
pub(super) fn plain_fields(type_name: &str) -> Vec<&'static str> {
    Tags::of(type_name).plain()
}

/// Whether the type has a protobuf form.
pub(super) fn has_form(schema: &Schema) -> bool {
    schema.0.node.shape.object().is_some_and(|shape| !Tags::of(&shape.name).is_empty())
}

/// An object's own message, without the envelope; `None` for types that have no protobuf form, such as custom ones.
pub(super) fn encode(schema: &Schema, value: &Value) -> Option<Vec<u8>> {
    let shape = schema.0.node.shape.object()?;
    let tags = Tags::of(&shape.name);
    if tags.is_empty() {
        return None;
    }
    let mut out = Writer::default();
    encode::message(shape, tags, value.as_object()?, &mut out);
    Some(out.into_bytes())
}

/// A whole body: an object's own message in `k8s.io/apimachinery/pkg/runtime` Unknown.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(message.len() + api_version.len() + kind.len() + 32);
    out.raw(MAGIC);
    out.message(1, |out| {
        out.bytes(1, api_version.as_bytes());
        out.bytes(2, kind.as_bytes());
    });
    out.bytes(2, message);
    // The encoding and the type of what the message holds, which Go writes though they are empty.
    out.bytes(3, b"");
    out.bytes(4, b"");
    out.into_bytes()
}

/// The message of any kind's list, of its `metadata` and its objects' own messages.
pub fn list<'m>(metadata: &Value, items: impl Iterator<Item = &'m [u8]> + Clone) -> Vec<u8> {
    list_with((1, 2), metadata, items)
}

/// The same as `meta.k8s.io/v1beta1` PartialObjectMetadataList, which numbers its fields the other way round.
pub fn list_v1beta1<'m>(metadata: &Value, items: impl Iterator<Item = &'m [u8]> + Clone) -> Vec<u8> {
    list_with((2, 1), metadata, items)
}

fn list_with<'m>(
    (metadata_number, item_number): (u32, u32),
    metadata: &Value,
    items: impl Iterator<Item = &'m [u8]> + Clone,
) -> Vec<u8> {
    const BYTES_AROUND_AN_ITEM: usize = 6;
    let size: usize = items.clone().map(|item| item.len() + BYTES_AROUND_AN_ITEM).sum();
    let mut out = Writer::with_capacity(size + 128);
    let metadata = Schema::builtin(LIST_META).and_then(|schema| encode(&schema, metadata));
    out.bytes(metadata_number, &metadata.unwrap_or_default());
    items.for_each(|item| out.bytes(item_number, item));
    out.into_bytes()
}

/// The message of a PartialObjectMetadata: all kinds have their metadata in the same place.
pub fn metadata_only(metadata: &Value) -> Vec<u8> {
    let metadata = Schema::builtin(OBJECT_META).and_then(|schema| encode(&schema, metadata));
    let mut out = Writer::default();
    out.bytes(1, &metadata.unwrap_or_default());
    out.into_bytes()
}

/// One event of a watch: a `meta.k8s.io/v1` WatchEvent after its length in four bytes. `body` is the object in its
/// envelope.
pub fn watch_frame(event: &str, body: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(body.len() + event.len() + 24);
    out.raw(&[0; 4]);
    out.bytes(1, event.as_bytes());
    out.message(2, |out| out.bytes(1, body));
    let mut frame = out.into_bytes();
    // An object is never near 4 GiB.
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
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
            Some(Tag::Inline(part)) => {
                let Wire::Bytes(bytes) = wire else { return Err(Malformed::Type(part.to_string())) };
                message(shape, Tags::of(part), bytes, into, depth + 1)?;
            }
            Some(Tag::Field { name, optional, or_else }) => {
                let Some(field) = shape.field(name) else { continue };
                match or_else {
                    OrElse::Nothing => value::field(&field.node.shape, name, *optional, wire, into, depth)?,
                    or_else => value::alternatives(shape, name, *or_else, wire, into, depth)?,
                }
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
