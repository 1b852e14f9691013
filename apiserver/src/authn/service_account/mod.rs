//! Service-account tokens: signed by us, and alive only as long as the objects that they are bound to.
//!
//! A token's signature is verified once; after that the token costs a hash, on a connection that sent it before a comparison,
//! and a few look-ups, which see at once when its service account, pod, secret or node is gone.

mod audiences;
mod claims;
pub mod issue;
mod kept;
pub mod tracking;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use http::request::Parts;
use jiff::Timestamp;
use k8w_kinds::core::service_account_token::SecretClaims;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::bearer_token;
use crate::identity::{Peer, UserInfo};
use crate::pki::TokenKey;
use crate::plugins::{Authenticator, AuthnError};
use crate::watch_cache::{KindCache, Record, WatchCache};
pub use claims::{Claims, ClaimsError, ObjectRef, Private};
use kept::Kept;
use tracking::Uses;

/// How many verified tokens are remembered; when there are more, all are forgotten and verified anew.
const REMEMBERED_TOKENS: usize = 8192;

/// A deleted pod may use its token for this long while it shuts down.
const SHUTDOWN_LEEWAY_SECONDS: i64 = 60;

/// Verifies tokens that [`issue`] made, and those that Secrets keep.
pub struct Tokens {
    key: Arc<TokenKey>,
    cache: Arc<WatchCache>,
    issuer: String,
    uses: Uses,
    remembered: RwLock<HashMap<[u8; 32], Arc<Verified>>>,
}

/// Why a token proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum TokenRefused {
    #[error(transparent)]
    Form(#[from] crate::pki::TokenError),
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    #[error("the {kind} that the token is bound to is gone")]
    Gone { kind: &'static str },
    #[error("token has been invalidated")]
    Invalidated,
    #[error("token does not match server's copy")]
    Replaced,
}

/// What a token says.
#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Issued(Box<Claims>),
    Kept(SecretClaims),
}

/// A token whose signature is good.
pub struct Verified {
    pub user: Arc<UserInfo>,
    sort: Sort,
    bound: Vec<Bound>,
}

/// The token that a connection proved itself with first; as a rule it sends the same with every request.
#[derive(Default)]
pub struct Known(OnceLock<(Box<str>, Arc<Verified>)>);

impl Known {
    fn get(&self, token: &str) -> Option<&Arc<Verified>> {
        self.0.get().filter(|(known, _)| **known == *token).map(|(_, verified)| verified)
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

/// Where a token comes from, which decides how long it is good.
enum Sort {
    Issued(Box<Claims>),
    Kept(Box<Kept>),
}

/// An object that must be there for the token to be good.
struct Bound {
    kind: &'static str,
    objects: Arc<KindCache>,
    namespace: String,
    object: ObjectRef,
    /// The revision at which the object last was the right one and not being deleted: as long as it has not changed,
    /// there is no need to look into it. 0 is none.
    good_at: AtomicU64,
}

impl Tokens {
    /// `issuer` is what tokens name as theirs, and the audience that they need to be accepted by this API server.
    pub fn new(key: Arc<TokenKey>, cache: Arc<WatchCache>, issuer: String) -> Tokens {
        Tokens { key, cache, issuer, uses: Uses::new(), remembered: RwLock::default() }
    }

    /// The verified token, and which of `audiences` it is for.
    pub fn verify(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<(Arc<Verified>, Vec<String>), TokenRefused> {
        let verified = self.signed(token)?;
        let audiences = self.check(&verified, audiences, now)?;
        Ok((verified, audiences))
    }

    /// Checks everything but the signature. Returns which of `audiences` the token is for.
    fn check(&self, verified: &Verified, audiences: &[String], now: Timestamp) -> Result<Vec<String>, TokenRefused> {
        let audiences = match &verified.sort {
            Sort::Issued(claims) => claims.check(&self.issuer, audiences, now)?,
            Sort::Kept(kept) => {
                // It names no audience, and is for this API server.
                let audiences = claims::shared(std::slice::from_ref(&self.issuer), audiences)?;
                kept.check(&self.cache, &self.uses, now)?;
                audiences
            }
        };
        for bound in &verified.bound {
            bound.check(now)?;
        }
        Ok(audiences)
    }

    /// What tokens name as their issuer.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The token's claims if its signature is ours, now or when it was first seen.
    fn signed(&self, token: &str) -> Result<Arc<Verified>, TokenRefused> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let remembered = self.remembered.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        if let Some(verified) = remembered {
            return Ok(verified);
        }
        let (user, bound, sort) = match self.key.verify(token)? {
            Said::Issued(claims) => (claims.user(), Bound::of(&claims, &self.cache), Sort::Issued(claims)),
            Said::Kept(claims) => {
                let (user, account) = (kept::user(&claims), Bound::account_of(&claims, &self.cache));
                (user, vec![account], Sort::Kept(Box::new(Kept::new(claims, hash))))
            }
        };
        let verified = Arc::new(Verified { user: Arc::new(user), sort, bound });
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_TOKENS {
            remembered.clear();
        }
        remembered.insert(hash, verified.clone());
        Ok(verified)
    }
}

#[async_trait]
impl Authenticator for Tokens {
    async fn authenticate(&self, parts: &Parts, peer: &Peer) -> Result<Option<Arc<UserInfo>>, AuthnError> {
        let Some(token) = bearer_token(&parts.headers) else { return Ok(None) };
        let audience = std::slice::from_ref(&self.issuer);
        let good = || match peer.token.get(token) {
            Some(verified) => self.check(verified, audience, Timestamp::now()).map(|_| verified.user.clone()),
            None => {
                let (verified, _) = self.verify(token, audience, Timestamp::now())?;
                // Nothing changes when the connection has one already.
                peer.token.0.get_or_init(|| (token.into(), verified.clone()));
                Ok(verified.user.clone())
            }
        };
        good().map(Some).map_err(|refused: TokenRefused| AuthnError(refused.to_string()))
    }
}

impl Bound {
    fn new(kind: &'static str, objects: Arc<KindCache>, namespace: &str, object: &ObjectRef) -> Bound {
        let (namespace, object) = (namespace.to_owned(), object.clone());
        Bound { kind, objects, namespace, object, good_at: AtomicU64::new(0) }
    }

    fn account(namespace: &str, object: &ObjectRef, cache: &WatchCache) -> Bound {
        Bound::new("service account", cache.kind("", "serviceaccounts"), namespace, object)
    }

    fn of(claims: &Claims, cache: &WatchCache) -> Vec<Bound> {
        let private = &claims.kubernetes;
        let namespace = &private.namespace;
        let bound = |kind, plural, namespace, object| Bound::new(kind, cache.kind("", plural), namespace, object);
        let mut all = vec![Bound::account(namespace, &private.serviceaccount, cache)];
        all.extend(private.pod.as_ref().map(|pod| bound("pod", "pods", namespace, pod)));
        all.extend(private.secret.as_ref().map(|secret| bound("secret", "secrets", namespace, secret)));
        // A pod's token names the node for information; a token of the node's own dies with the node.
        let node = private.node.as_ref().filter(|_| private.pod.is_none());
        all.extend(node.map(|node| bound("node", "nodes", "", node)));
        all
    }

    fn account_of(claims: &SecretClaims, cache: &WatchCache) -> Bound {
        let account = ObjectRef { name: claims.account.clone(), uid: claims.account_uid.clone() };
        Bound::account(&claims.namespace, &account, cache)
    }

    fn check(&self, now: Timestamp) -> Result<(), TokenRefused> {
        let gone = || TokenRefused::Gone { kind: self.kind };
        let record = self.objects.get(&self.namespace, &self.object.name).ok_or_else(gone)?;
        if self.good_at.load(Ordering::Relaxed) == record.revision() {
            return Ok(());
        }
        let identity = Identity::of(&record);
        if identity.uid != self.object.uid {
            return Err(gone());
        }
        match identity.deletion_timestamp {
            None => self.good_at.store(record.revision(), Ordering::Relaxed),
            Some(deleted) if now.as_second() > deleted.as_second() + SHUTDOWN_LEEWAY_SECONDS => return Err(gone()),
            Some(_) => {}
        }
        Ok(())
    }
}

/// Which object it is, whatever its name.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Identity {
    uid: String,
    deletion_timestamp: Option<Timestamp>,
}

impl Identity {
    fn of(record: &Record) -> Identity {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Object {
            metadata: Identity,
        }
        serde_json::from_slice::<Object>(record.stored()).unwrap_or_default().metadata
    }
}
