//! Service account tokens for projected volumes: bound to their pod, and renewed before they end.

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

/// A token and when to ask for the next.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub renew_at: Timestamp,
}

/// Asks the API server for a token.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn request(
    client: &Client,
    pod: &Pod,
    projection: &ServiceAccountTokenProjection,
    now: Timestamp,
) -> Result<Token, kube::Error> {
    let namespace = pod.namespace().unwrap_or_default();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let audience = projection.audience.clone().filter(|audience| !audience.is_empty());
    let seconds = projection.expiration_seconds.unwrap_or(DEFAULT_SECONDS);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audience.into_iter().collect()),
            expiration_seconds: Some(seconds),
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
    let life = Duration::from_secs(seconds.max(0).unsigned_abs());
    let life = match status.expiration_timestamp {
        Some(end) => Duration::try_from(end.0.duration_since(now)).unwrap_or(life),
        None => life,
    };
    Ok(Token { text: status.token.unwrap_or_default(), renew_at: backoff::after(now, renew_after(life)) })
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
