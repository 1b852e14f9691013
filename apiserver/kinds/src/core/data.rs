//! What ConfigMaps and Secrets share: bytes in base64, a bound, and immutability.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::field::{Field, FieldError};

/// All data of a ConfigMap or Secret together, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// Checks that each value is base64; how many bytes they hold together.
pub fn checked_bytes(data: &Field, errors: &mut Vec<FieldError>) -> usize {
    let mut bytes = 0;
    for (_, value) in data.entries() {
        match STANDARD.decode(value.text()) {
            Ok(decoded) => bytes += decoded.len(),
            Err(_) => errors.push(value.invalid("illegal base64 data")),
        }
    }
    bytes
}

/// Once `immutable` is set, neither it nor the data changes.
pub fn check_immutable(new: &Value, old: &Value, fields: &[&str], errors: &mut Vec<FieldError>) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    let (new, old) = (Field::root(new), Field::root(old));
    if old.get("immutable").bool() != Some(true) {
        return;
    }
    if new.get("immutable").bool() != Some(true) {
        errors.push(new.get("immutable").forbidden(DETAIL));
    }
    for name in fields {
        let field = new.get(name);
        if !crate::object::same(field.value(), old.get(name).value()) {
            errors.push(field.forbidden(DETAIL));
        }
    }
}
