//! Continue tokens: where a list that was cut off goes on, and at which revision.
//!
//! The form is Kubernetes' own (`k8s.io/apiserver` `pkg/storage/continue.go`), though clients must not look inside.

use crate::status::Status;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8w_storage::datastore::Revision;
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";

/// A point in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The revision that the list shows; `None` to go on at whatever is newest, after the revision was compacted.
    pub revision: Option<Revision>,
    /// The first key to come, below the kind: `namespace/name`.
    pub start: String,
}

#[derive(Deserialize, Serialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Continuation {
    pub fn encode(&self) -> String {
        let rv = self.revision.and_then(|revision| i64::try_from(revision).ok()).unwrap_or(-1);
        let token = Token { v: VERSION.into(), rv, start: self.start.clone() };
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid =
            |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|error| invalid(error.to_string()))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if token.v != VERSION {
            return Err(invalid(format!("server does not recognize this encoded version {:?}", token.v)));
        }
        if token.rv == 0 || token.start.is_empty() {
            return Err(invalid("incorrect encoded start resourceVersion or key".into()));
        }
        Ok(Continuation { revision: u64::try_from(token.rv).ok(), start: token.start })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn tokens_come_back_as_they_were(revision in proptest::option::of(1..i64::MAX as u64), start in ".+") {
            let continuation = Continuation { revision, start };
            prop_assert_eq!(Continuation::decode(&continuation.encode()), Ok(continuation));
        }

        #[test]
        fn any_other_text_is_refused(text in "[a-zA-Z0-9+/=_-]*") {
            if let Err(status) = Continuation::decode(&text) {
                prop_assert_eq!(status.code, 400);
            }
        }
    }
}
