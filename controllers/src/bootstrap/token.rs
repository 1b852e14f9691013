//! What the Secret of a bootstrap token says.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8w_kinds::core::bootstrap_token::{EXPIRATION, SECRET_TYPE};

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Never,
    At(Timestamp),
    /// It says so in no way that can be read, and is taken for over.
    Unreadable,
}

impl End {
    pub(super) fn is_past(self, now: Timestamp) -> bool {
        match self {
            End::Never => false,
            End::At(end) => end <= now,
            End::Unreadable => true,
        }
    }
}

pub(super) fn is_token(secret: &Secret) -> bool {
    secret.type_.as_deref() == Some(SECRET_TYPE)
}

/// A value of the Secret; empty when it is missing or no text.
pub(super) fn data<'s>(secret: &'s Secret, key: &str) -> &'s str {
    let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
}

pub(super) fn end(secret: &Secret) -> End {
    match data(secret, EXPIRATION) {
        "" => End::Never,
        text => text.parse().map_or(End::Unreadable, End::At),
    }
}
