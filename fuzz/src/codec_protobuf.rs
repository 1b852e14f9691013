//! Protobuf: an object that was read from a message is read the same from its own message, and from JSON.

use crate::input::typed;
use crate::keeps::{keeps_json, keeps_protobuf};
use k8w_kinds::schema::{Format, protobuf};

/// See the module.
pub fn check(input: &[u8]) {
    let Some((schema, body)) = typed(input) else {
        return;
    };
    // Most inputs are the message alone: its envelope is always the same.
    let enveloped = if body.starts_with(b"k8s\0") { body.to_vec() } else { protobuf::envelope("v1", "Kind", body) };
    let Ok(decoded) = schema.decode(&enveloped, Format::Protobuf) else {
        return;
    };
    assert_eq!(keeps_protobuf(&schema, &decoded.value).as_ref(), Some(&decoded.value));
    keeps_json(&schema, &decoded.value);
}
