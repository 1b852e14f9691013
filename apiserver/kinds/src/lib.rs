//! What a kind is: the schema core, and one table of every resource with its defaulting, validation and columns.
//!
//! Pure: no runtime, no sockets, no client and no clock. Objects are [`serde_json::Value`]; time comes in from the
//! caller.

pub mod field;
pub mod schema;

pub use field::{Field, FieldError, FieldErrorKind, FieldPath};
