//! JSON: whatever decodes is written so that it decodes to the same again, as JSON and by way of protobuf.

use crate::input::typed;
use crate::keeps::{keeps_json, keeps_protobuf};
use k8w_kinds::schema::Format;

/// See the module.
pub fn check(input: &[u8]) {
    let Some((schema, body)) = typed(input) else {
        return;
    };
    let Ok(decoded) = schema.decode(body, Format::Json) else {
        return;
    };
    keeps_json(&schema, &decoded.value);
    if decoded.value.is_object() {
        keeps_protobuf(&schema, &decoded.value);
    }
}
