//! Decoding an object from its bytes under a schema.

use serde_json::Value;

use super::Schema;

/// The encoding of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
}

/// A decoded object, and what strict decoding would have refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// In document order and in Kubernetes' words: `unknown field "spec.foo"`, `duplicate field "spec.replicas"`.
    pub issues: Vec<String>,
}

/// Why a body is not an object of the type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not well-formed.
    #[error("{0}")]
    Syntax(String),
    /// Well-formed, but a value does not have its field's type.
    #[error("{0}")]
    Type(String),
}

pub(super) fn decode(_schema: &Schema, body: &[u8], format: Format) -> Result<Decoded, DecodeError> {
    let value = match format {
        Format::Json => serde_json::from_slice(body).map_err(|e| DecodeError::Syntax(e.to_string()))?,
        Format::Yaml => serde_saphyr::from_slice(body).map_err(|e| DecodeError::Syntax(e.to_string()))?,
    };
    Ok(Decoded { value, issues: Vec::new() })
}
