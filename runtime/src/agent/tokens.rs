//! Service account tokens for projected volumes: bound to their pod, and renewed before they end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt};

use crate::pod::backoff;

/// `expirationSeconds` when the projection gives none.
const DEFAULT_SECONDS: i64 = 3_600;
/// A token is renewed when this share of its life is over, or when it is a day old (KEP-1205).
const RENEW_PERCENT: u32 = 80;
const RENEW_AT_MOST: Duration = Duration::from_secs(24 * 3_600);
/// Wait before a token that could not be renewed, and has not ended, is asked for again.
const RETRY: Duration = Duration::from_secs(30);

/// A token and when to ask for the next.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub renew_at: Timestamp,
    ends_at: Timestamp,
}

/// The tokens of one pod: its volumes are made anew for other reasons, too.
#[derive(Default)]
pub struct Tokens(Mutex<HashMap<Wanted, Token>>);

/// What a token is asked for: audience and life in seconds.
type Wanted = (Option<String>, i64);

impl Tokens {
    /// The token that the pod has, or another when that is due to be renewed.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached, and there is none that has not ended.
    pub async fn get(
        &self,
        client: &Client,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
        now: Timestamp,
    ) -> Result<Token, kube::Error> {
        let audience = projection.audience.clone().filter(|audience| !audience.is_empty());
        let wanted = (audience, projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS));
        let kept = self.lock().get(&wanted).cloned();
        match kept {
            Some(token) if now < token.renew_at => Ok(token),
            Some(token) if now < token.ends_at => match request(client, pod, &wanted, now).await {
                Ok(next) => Ok(self.keep(wanted, next)),
                Err(error) => {
                    tracing::warn!(pod = pod.name_any(), %error, "a token could not be renewed, trying again");
                    Ok(Token { renew_at: backoff::after(now, RETRY), ..token })
                }
            },
            _ => {
                let first = request(client, pod, &wanted, now).await?;
                Ok(self.keep(wanted, first))
            }
        }
    }

    fn keep(&self, wanted: Wanted, token: Token) -> Token {
        self.lock().insert(wanted, token.clone());
        token
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Wanted, Token>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn request(
    client: &Client,
    pod: &Pod,
    (audience, seconds): &Wanted,
    now: Timestamp,
) -> Result<Token, kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audience.iter().cloned().collect()),
            expiration_seconds: Some(*seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        }),
        ..Default::default()
    };
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let answer = api.create_token_request(account, &PostParams::default(), &request).await?;
    let status = answer.status.unwrap_or_default();
    let life = Duration::from_secs((*seconds).max(0).unsigned_abs());
    let life = match status.expiration_timestamp {
        Some(end) => Duration::try_from(end.0.duration_since(now)).unwrap_or(life),
        None => life,
    };
    Ok(Token {
        text: status.token.unwrap_or_default(),
        renew_at: backoff::after(now, renew_after(life)),
        ends_at: backoff::after(now, life),
    })
}

fn renew_after(life: Duration) -> Duration {
    (life * RENEW_PERCENT / 100).min(RENEW_AT_MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_in_the_last_fifth_of_its_life_or_when_it_is_a_day_old() {
        let cases = [(600, 480), (3_607, 2_885), (24 * 3_600, 69_120), (30 * 3_600, 86_400), (365 * 86_400, 86_400)];
        for (life, renewed) in cases {
            assert_eq!(renew_after(Duration::from_secs(life)).as_secs(), renewed, "of {life} s");
        }
    }
}
