//! Bootstrap tokens: what a machine that joins the cluster proves itself with before it has a certificate.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>; a token is a Secret in `kube-system`.

use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use jiff::Timestamp;
use k8w_kinds::core::bootstrap_token::{
    EXPIRATION, EXTRA_GROUPS, GROUP, NAME_PREFIX, NAMESPACE, SECRET_TYPE, TOKEN_ID, TOKEN_SECRET, USAGE_AUTHENTICATION,
    split,
};
use k8w_kinds::object::{get, text};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{authenticated, bearer_token};
use crate::identity::{Peer, UserInfo};
use crate::plugins::{Authenticator, AuthnError};
use crate::watch_cache::WatchCache;

/// How long the part of a further group after `system:bootstrappers:` may be.
const GROUP_SUFFIX_CHARS: usize = 256;

pub struct BootstrapTokens {
    cache: Arc<WatchCache>,
}

impl BootstrapTokens {
    pub fn new(cache: Arc<WatchCache>) -> Self {
        BootstrapTokens { cache }
    }
}

#[async_trait]
impl Authenticator for BootstrapTokens {
    /// A token that nobody knows is left to the next authenticator.
    async fn authenticate(&self, parts: &Parts, _: &Peer) -> Result<Option<Arc<UserInfo>>, AuthnError> {
        let Some((id, secret)) = bearer_token(&parts.headers).and_then(split) else { return Ok(None) };
        let found = self.cache.get("", "secrets", NAMESPACE, &format!("{NAME_PREFIX}{id}"));
        let user = found.and_then(|record| user(&record.value(), id, secret, Timestamp::now()));
        Ok(user.map(|user| Arc::new(authenticated(user))))
    }
}

/// Whom the Secret lets in with these credentials.
fn user(stored: &Value, id: &str, secret: &str, now: Timestamp) -> Option<UserInfo> {
    let data = |key: &str| {
        let bytes = STANDARD.decode(text(stored, &["data", key])).ok()?;
        String::from_utf8(bytes).ok()
    };
    let lives = text(stored, &["type"]) == SECRET_TYPE && get(stored, &["metadata", "deletionTimestamp"]).is_none();
    let usable = data(TOKEN_ID).as_deref() == Some(id) && data(USAGE_AUTHENTICATION).as_deref() == Some("true");
    // Hashes, so that how long comparing takes tells nothing about how near a guess was.
    let right = data(TOKEN_SECRET).is_some_and(|known| Sha256::digest(known) == Sha256::digest(secret));
    let expires = data(EXPIRATION).filter(|time| !time.is_empty());
    let fresh = expires.is_none_or(|time| time.parse::<Timestamp>().is_ok_and(|end| now < end));
    if !(lives && usable && right && fresh) {
        return None;
    }
    let further = data(EXTRA_GROUPS).unwrap_or_default();
    let further: Vec<&str> = further.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
    if !further.iter().all(|group| is_group(group)) {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    groups.extend(further.into_iter().map(str::to_owned));
    Some(UserInfo { name: format!("system:bootstrap:{id}"), groups, ..UserInfo::default() })
}

/// A token gives groups of its own sort alone.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    rest.len() <= GROUP_SUFFIX_CHARS
        && rest.chars().all(|c| letter(c) || c == ':' || c == '-')
        && rest.chars().next_back().is_some_and(letter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef";

    fn stored(more: Value) -> Value {
        let mut data = json!({"token-id": "abcdef", "token-secret": SECRET, "usage-bootstrap-authentication": "true"});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        for value in data.as_object_mut().unwrap().values_mut() {
            *value = STANDARD.encode(value.as_str().unwrap()).into();
        }
        json!({"type": SECRET_TYPE, "metadata": {}, "data": data})
    }

    fn groups(stored: &Value, secret: &str) -> Option<Vec<String>> {
        user(stored, "abcdef", secret, Timestamp::UNIX_EPOCH).map(|user| user.groups)
    }

    #[test]
    fn a_good_token_has_its_groups() {
        assert_eq!(groups(&stored(json!({})), SECRET), Some(vec![GROUP.to_owned()]));
        let further = stored(json!({"auth-extra-groups": "system:bootstrappers:a, system:bootstrappers:b-c"}));
        assert_eq!(
            groups(&further, SECRET).unwrap(),
            ["system:bootstrappers", "system:bootstrappers:a", "system:bootstrappers:b-c"]
        );
    }

    #[test]
    fn what_lets_nobody_in() {
        assert_eq!(groups(&stored(json!({})), "0123456789abcdee"), None);
        for more in [
            json!({"token-id": "zzzzzz"}),
            json!({"usage-bootstrap-authentication": "false"}),
            json!({"expiration": "1969-12-31T23:59:59Z"}),
            json!({"expiration": "tomorrow"}),
            json!({"auth-extra-groups": "system:masters"}),
            json!({"auth-extra-groups": "system:bootstrappers:"}),
        ] {
            assert_eq!(groups(&stored(more.clone()), SECRET), None, "{more}");
        }
        let mut other = stored(json!({}));
        other["type"] = "Opaque".into();
        assert_eq!(groups(&other, SECRET), None);
    }
}
