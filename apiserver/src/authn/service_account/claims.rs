//! What a service-account token says (KEP-1205): who, for whom, until when, and with which object it dies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8w_kinds::core::service_account_token::user_name;
use serde::{Deserialize, Serialize};

use super::super::{AUTHENTICATED, service_account_groups};
use crate::identity::UserInfo;

/// Clocks of API servers may differ by this much.
const CLOCK_LEEWAY_SECONDS: i64 = 60;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Claims {
    pub aud: Vec<String>,
    /// Seconds since the epoch, like the other times.
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    pub nbf: i64,
    pub sub: String,
}

/// The part that only Kubernetes reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Private {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectRef>,
    pub serviceaccount: ObjectRef,
    /// From when on the token should have been renewed, of one that is good for longer than its bearer was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct ObjectRef {
    pub name: String,
    pub uid: String,
}

/// Why a token's claims are not good.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ClaimsError {
    #[error("the token was issued by somebody else")]
    Issuer,
    #[error("the token's subject and service account differ")]
    Subject,
    #[error("the token is for other audiences")]
    Audience,
    #[error("service account token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

impl Claims {
    /// Checks everything that can be checked without looking at other objects. Returns the audiences that the token and
    /// `audiences` share.
    pub fn check(&self, issuer: &str, audiences: &[String], now: Timestamp) -> Result<Vec<String>, ClaimsError> {
        if self.iss != issuer {
            return Err(ClaimsError::Issuer);
        }
        let account = &self.kubernetes.serviceaccount;
        if self.sub != user_name(&self.kubernetes.namespace, &account.name) {
            return Err(ClaimsError::Subject);
        }
        self.check_time(now)?;
        shared(&self.aud, audiences)
    }

    /// Checks the times alone.
    pub fn check_time(&self, now: Timestamp) -> Result<(), ClaimsError> {
        if now.as_second() >= self.exp {
            return Err(ClaimsError::Expired);
        }
        if now.as_second() + CLOCK_LEEWAY_SECONDS < self.nbf {
            return Err(ClaimsError::NotYet);
        }
        Ok(())
    }

    /// The user that the token stands for.
    pub fn user(&self) -> UserInfo {
        const PREFIX: &str = "authentication.kubernetes.io/";
        let mut extra = BTreeMap::new();
        let mut put = |name: &str, value: &str| extra.insert(format!("{PREFIX}{name}"), vec![value.to_owned()]);
        put("credential-id", &format!("JTI={}", self.jti));
        for (kind, object) in [("pod", &self.kubernetes.pod), ("node", &self.kubernetes.node)] {
            if let Some(object) = object {
                put(&format!("{kind}-name"), &object.name);
                put(&format!("{kind}-uid"), &object.uid);
            }
        }
        let mut groups = service_account_groups(&self.kubernetes.namespace);
        groups.push(AUTHENTICATED.to_owned());
        UserInfo { name: self.sub.clone(), uid: self.kubernetes.serviceaccount.uid.clone(), groups, extra }
    }
}

/// Which of `audiences` a token for `own` is for; there must be one.
pub(super) fn shared(own: &[String], audiences: &[String]) -> Result<Vec<String>, ClaimsError> {
    let shared: Vec<String> = audiences.iter().filter(|audience| own.contains(audience)).cloned().collect();
    if shared.is_empty() { Err(ClaimsError::Audience) } else { Ok(shared) }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn claims() -> Claims {
        Claims {
            aud: vec!["api".into(), "vault".into()],
            exp: 2000,
            iat: 1000,
            iss: "https://issuer".into(),
            jti: "7".into(),
            kubernetes: Private {
                namespace: "a".into(),
                node: Some(ObjectRef { name: "n1".into(), uid: "u3".into() }),
                pod: Some(ObjectRef { name: "p".into(), uid: "u2".into() }),
                secret: None,
                serviceaccount: ObjectRef { name: "robot".into(), uid: "u1".into() },
                warnafter: None,
            },
            nbf: 1000,
            sub: "system:serviceaccount:a:robot".into(),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn good_claims_make_a_user() {
        let claims = claims();
        assert_eq!(claims.check("https://issuer", &["api".into(), "x".into()], at(1500)), Ok(vec!["api".into()]));
        let user = claims.user();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("system:serviceaccount:a:robot", "u1"));
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["u2"]);
        assert_eq!(user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
        assert_eq!(user.extra["authentication.kubernetes.io/credential-id"], ["JTI=7"]);
    }

    #[test]
    fn bad_claims_say_why() {
        let check = |claims: &Claims, now| claims.check("https://issuer", &["api".into()], at(now)).unwrap_err();
        assert_eq!(check(&claims(), 2000), ClaimsError::Expired);
        assert_eq!(check(&claims(), 900), ClaimsError::NotYet);
        assert_eq!(check(&Claims { iss: "x".into(), ..claims() }, 1500), ClaimsError::Issuer);
        assert_eq!(check(&Claims { sub: "system:admin".into(), ..claims() }, 1500), ClaimsError::Subject);
        assert_eq!(check(&Claims { aud: vec!["vault".into()], ..claims() }, 1500), ClaimsError::Audience);
    }
}
