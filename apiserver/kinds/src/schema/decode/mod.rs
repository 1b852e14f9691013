//! Decoding an object under its schema, in one pass: types are checked, unknown fields pruned and duplicates recorded.
//!
//! The same seed reads JSON, YAML and values that are already parsed, so all of them follow the same rules, which are
//! those of `sigs.k8s.io/json`: field names are case-sensitive, null stands for an absent field, and the last of
//! duplicates wins.

mod scalar;
mod seed;
mod syntax;

use serde::de::DeserializeSeed;
use serde_json::Value;

use super::shape::Node;
use super::{Schema, protobuf};
use seed::{Context, Place, Seed, Words};
pub use syntax::first_document;

/// Largest body that is decoded.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// Deepest nesting of lists and objects.
pub const MAX_DEPTH_LEVELS: usize = 120;
/// Deepest nesting in what is not kept, which is that of Go's decoder.
const MAX_UNKNOWN_DEPTH_LEVELS: usize = 10_000;
/// Deepest nesting in YAML, whose parser needs more stack for a level.
pub const MAX_YAML_DEPTH_LEVELS: usize = 64;
/// Unknown and duplicate fields recorded per object.
pub const MAX_ISSUES: usize = 100;

/// The encoding of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    /// Kubernetes' protobuf encoding, for built-in kinds.
    Protobuf,
}

/// A decoded object, and what strict decoding would have refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// In document order and in Kubernetes' words: `unknown field "spec.foo"`, `duplicate field "spec.replicas"`.
    pub issues: Vec<String>,
}

/// Why a body is not an object of the type. Display is what Go's decoder says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not well-formed.
    #[error("{0}")]
    Syntax(String),
    /// Well-formed, but a value does not have its field's type.
    #[error("{0}")]
    Type(String),
    #[error("body is larger than {MAX_BODY_BYTES} bytes")]
    TooLarge,
}

pub(super) fn decode(schema: &Schema, body: &[u8], format: Format) -> Result<Decoded, DecodeError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(DecodeError::TooLarge);
    }
    match format {
        Format::Json => decode_json(schema, body),
        // Most bodies sent as YAML are JSON, which is YAML too and read much faster.
        Format::Yaml if body.trim_ascii_start().starts_with(b"{") => match decode_json(schema, body) {
            Err(DecodeError::Syntax(_)) => decode_yaml(schema, body),
            result => result,
        },
        Format::Yaml => decode_yaml(schema, body),
        Format::Protobuf => protobuf::decode(schema, body),
    }
}

fn decode_json(schema: &Schema, body: &[u8]) -> Result<Decoded, DecodeError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let read = |seed: Seed<'_, '_, '_>| {
        let value = seed.deserialize(&mut deserializer)?;
        deserializer.end().map(|()| value)
    };
    let decoded = run(schema, Words::Decoder, read, |error| syntax::json(body, &error))?;
    // Unknown fields are passed over without counting their levels.
    if !decoded.issues.is_empty() && syntax::is_deeper_than(MAX_UNKNOWN_DEPTH_LEVELS, body) {
        return Err(DecodeError::Syntax("exceeded max depth".to_owned()));
    }
    Ok(decoded)
}

fn decode_yaml(schema: &Schema, body: &[u8]) -> Result<Decoded, DecodeError> {
    let (body, _) = first_document(body);
    let read = |seed: Seed<'_, '_, '_>| {
        serde_saphyr::with_deserializer_from_slice_with_options(body, yaml_options(), |d| seed.deserialize(d))
    };
    run(schema, Words::Decoder, read, |error| format!("error converting YAML to JSON: yaml: {}", syntax::yaml(&error)))
}

pub(super) fn check(schema: &Schema, value: Value) -> Result<Decoded, DecodeError> {
    run(schema, Words::Decoder, |seed| seed.deserialize(value), |error| error.to_string())
}

pub(super) fn restore(schema: &Schema, value: Value) -> Result<Decoded, DecodeError> {
    run(schema, Words::Converter, |seed| seed.deserialize(value), |error| error.to_string())
}

/// A custom object's value without what its schema does not know; as it is where that cannot be told.
pub(super) fn prune(node: &Node, value: Value) -> Value {
    let mut context = Context::default();
    let pruned = Seed::new(node, Place::root(), &mut context, true).deserialize(value.clone());
    pruned.unwrap_or(value)
}

fn run<E>(
    schema: &Schema,
    words: Words,
    read: impl FnOnce(Seed<'_, '_, '_>) -> Result<Value, E>,
    syntax: impl FnOnce(E) -> String,
) -> Result<Decoded, DecodeError> {
    let mut context = Context { words, ..Context::default() };
    let seed = Seed::new(&schema.0.node, Place::root(), &mut context, schema.0.lenient);
    match (read(seed), context.error) {
        (Ok(value), _) => Ok(Decoded { value, issues: context.issues }),
        (Err(_), Some(message)) => Err(DecodeError::Type(message)),
        (Err(error), None) => Err(DecodeError::Syntax(syntax(error))),
    }
}

/// The first key that a document of YAML or JSON has twice in one place, in the words of Go's YAML decoder.
pub fn repeated_key(body: &[u8]) -> Option<String> {
    syntax::repeated_key(first_document(body).0, yaml_options())
}

fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: MAX_YAML_DEPTH_LEVELS,
            flow_nesting_limit: MAX_YAML_DEPTH_LEVELS,
            max_documents: 1,
            max_nodes: 500_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
    }
}

#[cfg(test)]
mod tests;
