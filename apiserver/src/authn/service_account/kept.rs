//! Tokens that a Secret keeps: good as long as the Secret is there with this very token in it
//! (`k8s.io/kubernetes/pkg/serviceaccount/legacy.go`).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8w_kinds::core::service_account_token::{self, DAY_FORMAT, INVALID_SINCE, LAST_USED, SecretClaims};
use k8w_kinds::object::{get, text};
use sha2::{Digest, Sha256};

use super::super::{AUTHENTICATED, service_account_groups};
use super::tracking::{Use, Uses};
use super::{ClaimsError, TokenRefused};
use crate::identity::UserInfo;
use crate::watch_cache::{Record, WatchCache};

const SECONDS_OF_DAY: i64 = 24 * 60 * 60;

/// A token, and the Secret that keeps it.
pub(super) struct Kept {
    claims: SecretClaims,
    /// The token's SHA-256.
    token: [u8; 32],
    /// The revision at which the Secret last was good; as for [`super::Bound`].
    good_at: AtomicU64,
    /// The day, counted from the epoch, for which the token's use is noted already.
    noted_on: AtomicI64,
}

impl Kept {
    pub(super) fn new(claims: SecretClaims, token: [u8; 32]) -> Kept {
        Kept { claims, token, good_at: AtomicU64::new(0), noted_on: AtomicI64::new(0) }
    }

    /// Checks what the token says and the Secret, and says once a day that the token is used.
    pub(super) fn check(&self, cache: &WatchCache, uses: &Uses, now: Timestamp) -> Result<(), TokenRefused> {
        check(&self.claims)?;
        let SecretClaims { namespace, secret, .. } = &self.claims;
        let record = cache.get("", "secrets", namespace, secret).ok_or(TokenRefused::Invalidated)?;
        if self.good_at.load(Ordering::Relaxed) != record.revision() {
            self.look_into(&record)?;
            self.good_at.store(record.revision(), Ordering::Relaxed);
        }
        let day = now.as_second().div_euclid(SECONDS_OF_DAY);
        if self.noted_on.load(Ordering::Relaxed) != day {
            let today = now.strftime(DAY_FORMAT).to_string();
            let noted = record.labels().get(LAST_USED) == Some(&today);
            if noted || uses.note(Use { namespace: namespace.clone(), secret: secret.clone(), day: today }) {
                self.noted_on.store(day, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn look_into(&self, record: &Record) -> Result<(), TokenRefused> {
        let secret = record.value();
        if get(&secret, &["metadata", "deletionTimestamp"]).is_some()
            || !text(&secret, &["metadata", "labels", INVALID_SINCE]).is_empty()
        {
            return Err(TokenRefused::Invalidated);
        }
        let held = STANDARD.decode(text(&secret, &["data", service_account_token::TOKEN])).unwrap_or_default();
        if Sha256::digest(held)[..] != self.token { Err(TokenRefused::Replaced) } else { Ok(()) }
    }
}

/// Checks what can be checked without looking at objects.
fn check(claims: &SecretClaims) -> Result<(), ClaimsError> {
    let named = [&claims.namespace, &claims.secret, &claims.account, &claims.account_uid];
    if claims.iss != service_account_token::ISSUER || named.iter().any(|name| name.is_empty()) {
        return Err(ClaimsError::Issuer);
    }
    if claims.sub != service_account_token::user_name(&claims.namespace, &claims.account) {
        return Err(ClaimsError::Subject);
    }
    Ok(())
}

/// The user that the token stands for.
pub(super) fn user(claims: &SecretClaims) -> UserInfo {
    let mut groups = service_account_groups(&claims.namespace);
    groups.push(AUTHENTICATED.to_owned());
    UserInfo { name: claims.sub.clone(), uid: claims.account_uid.clone(), groups, ..UserInfo::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_must_agree() {
        let claims = SecretClaims::new("a", "t", "robot", "u1");
        assert_eq!(check(&claims), Ok(()));
        assert_eq!(user(&claims).name, "system:serviceaccount:a:robot");
        assert_eq!(check(&SecretClaims { sub: "system:admin".into(), ..claims.clone() }), Err(ClaimsError::Subject));
        assert_eq!(check(&SecretClaims { iss: "x".into(), ..claims.clone() }), Err(ClaimsError::Issuer));
        assert_eq!(check(&SecretClaims { account_uid: String::new(), ..claims }), Err(ClaimsError::Issuer));
    }
}
