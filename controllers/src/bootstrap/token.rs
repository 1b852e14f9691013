//! What the Secret of a bootstrap token says.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8w_kinds::core::bootstrap_token::{EXPIRATION, SECRET_TYPE};

pub(super) fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(SECRET_TYPE)
}

/// A value of the Secret; empty when it is missing or no text.
pub(super) fn data<'s>(secret: &'s Secret, key: &str) -> &'s str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

/// When a token ends, if it does. One that says so in no way that can be read is taken for over.
pub(super) fn end(secret: &Secret) -> Option<Timestamp> {
    match data(secret, EXPIRATION) {
        "" => None,
        text => Some(text.parse().unwrap_or(Timestamp::MIN)),
    }
}
