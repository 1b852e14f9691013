//! What every codec keeps of an object.

use k8w_kinds::object::text;
use k8w_kinds::schema::{Decoded, Format, Schema, protobuf};
use serde_json::Value;

/// Asserts that what was decoded is decoded again from JSON, with nothing to complain of.
pub fn keeps_json(schema: &Schema, value: &Value) {
    let json = serde_json::to_vec(value).expect("a value is JSON");
    let expected = Decoded { value: value.clone(), issues: Vec::new() };
    assert_eq!(schema.decode(&json, Format::Json), Ok(expected));
}

/// Reads an object from its own message, and asserts that it is then read the same from that of what was read. Empty
/// texts and zeros that are not meant go the first time.
pub fn keeps_protobuf(schema: &Schema, value: &Value) -> Option<Value> {
    let first = through_protobuf(schema, value)?;
    assert_eq!(through_protobuf(schema, &first).as_ref(), Some(&first));
    Some(first)
}

fn through_protobuf(schema: &Schema, value: &Value) -> Option<Value> {
    let message = schema.to_protobuf(value)?;
    let body = protobuf::envelope(text(value, &["apiVersion"]), text(value, &["kind"]), &message);
    let decoded = schema.decode(&body, Format::Protobuf).expect("what was written can be read");
    assert_eq!(decoded.issues, Vec::<String>::new());
    Some(decoded.value)
}
