//! Requests to one registry, authorized the way it asks for, with every answer read up to a bound.
//!
//! `oci-client` has the protocol's types, but reads manifests, tokens and errors whole, however long a registry makes
//! them. The requests are those of the OCI distribution specification; tokens are asked for as
//! <https://distribution.github.io/distribution/spec/auth/token/> says.

use std::error::Error as _;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_auth::ChallengeParser;
use k8w_storage::blob::{Digest, Hasher};
use oci_client::errors::OciEnvelope;
use oci_client::secrets::RegistryAuth;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::registries::Endpoint;

/// Largest answer of a token server.
const MAX_TOKEN_BYTES: u64 = 64 << 10;
/// How much is read of the reasons that a registry gives for an error.
const MAX_REASON_BYTES: u64 = 16 << 10;

/// Why a registry gave no answer that can be used. Each displays as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{}", chain(.0))]
    Unreachable(#[from] reqwest::Error),
    #[error("its registry answered {status}{reasons}")]
    Status { status: StatusCode, reasons: String },
    #[error("its registry's answer is larger than {max_bytes} bytes")]
    TooLarge { max_bytes: u64 },
    /// Not the registry's fault.
    #[error("there is no place for its registry's answer: {0}")]
    Place(#[from] io::Error),
    #[error("its registry asks for a token in a way that is not understood")]
    Challenge,
    #[error("what its token server answers is no token")]
    Token,
}

/// Talks to one of the places that may have an image. It remembers credentials, and those belong to one pod.
pub struct Session<'a> {
    endpoint: Endpoint,
    repository: &'a str,
    authorization: Option<HeaderValue>,
}

impl<'a> Session<'a> {
    pub fn new(endpoint: Endpoint, repository: &'a str) -> Session<'a> {
        let authorization = match &endpoint.credentials {
            RegistryAuth::Bearer(token) => authorization("Bearer", token),
            RegistryAuth::Anonymous | RegistryAuth::Basic(..) => None,
        };
        Session { endpoint, repository, authorization }
    }

    /// Where it asks, for a log.
    pub fn base(&self) -> &Url {
        &self.endpoint.base
    }

    /// Writes down what lies at `path` beneath the image's repository, if it has no more than `max_bytes`. Answers its digest.
    ///
    /// # Errors
    /// [`Failure`]
    pub async fn get(
        &mut self,
        path: &str,
        accept: &str,
        max_bytes: u64,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Result<Digest, Failure> {
        let mut url = format!("{}{}/{path}", self.endpoint.base, self.repository);
        if let Some(registry) = &self.endpoint.mirrors {
            // As containerd tells a mirror of several registries which one is meant.
            url += &format!("?ns={registry}");
        }
        let mut response = self.send(&url, accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED
            && let Some(authorization) = self.authorize(&response).await?
        {
            self.authorization = Some(authorization);
            response = self.send(&url, accept).await?;
        }
        match response.status() {
            StatusCode::OK => read(response, max_bytes, to).await,
            _ => Err(refused(response).await),
        }
    }

    async fn send(&self, url: &str, accept: &str) -> Result<Response, Failure> {
        let request = self.endpoint.http.get(url).header(ACCEPT, accept);
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        Ok(request.send().await?)
    }

    /// What to send so that a request that was refused is not, if there is anything.
    async fn authorize(&self, refused: &Response) -> Result<Option<HeaderValue>, Failure> {
        let headers = refused.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<_> = headers.flat_map(|header| ChallengeParser::new(header).flatten()).collect();
        let bearer_challenge = challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case("bearer"));
        if let Some(challenge) = bearer_challenge {
            let parameter = |name: &str| {
                let mut all = challenge.params.iter();
                all.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_unescaped())
            };
            let scope = format!("repository:{}:pull", self.repository);
            let query = [("scope", Some(scope)), ("service", parameter("service"))];
            let query = query.into_iter().filter_map(|(name, value)| Some((name, value?)));
            let realm = parameter("realm").ok_or(Failure::Challenge)?;
            let url = Url::parse_with_params(&realm, query).map_err(|_| Failure::Challenge)?;
            return self.token(url).await.map(Some);
        }
        Ok(self.basic())
    }

    async fn token(&self, url: Url) -> Result<HeaderValue, Failure> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut request = self.endpoint.http.get(url);
        if let Some(basic) = self.basic() {
            request = request.header(AUTHORIZATION, basic);
        }
        let response = request.send().await?;
        if response.status() != StatusCode::OK {
            return Err(refused(response).await);
        }
        let mut answer = Vec::new();
        read(response, MAX_TOKEN_BYTES, &mut answer).await.map_err(|failure| match failure {
            Failure::TooLarge { .. } => Failure::Token,
            failure => failure,
        })?;
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| Failure::Token)?;
        let token = answer.token.or(answer.access_token);
        token.and_then(|token| authorization("Bearer", &token)).ok_or(Failure::Token)
    }

    fn basic(&self) -> Option<HeaderValue> {
        match &self.endpoint.credentials {
            RegistryAuth::Basic(user, password) => {
                authorization("Basic", &STANDARD.encode(format!("{user}:{password}")))
            }
            RegistryAuth::Anonymous | RegistryAuth::Bearer(_) => None,
        }
    }
}

fn authorization(scheme: &str, credentials: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("{scheme} {credentials}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

async fn read(mut response: Response, max_bytes: u64, to: &mut (impl AsyncWrite + Unpin)) -> Result<Digest, Failure> {
    let too_large = || Failure::TooLarge { max_bytes };
    if response.content_length().is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let (mut hasher, mut left_bytes) = (Hasher::default(), max_bytes);
    while let Some(chunk) = response.chunk().await? {
        left_bytes = left_bytes.checked_sub(chunk.len() as u64).ok_or_else(too_large)?;
        hasher.update(&chunk);
        to.write_all(&chunk).await?;
    }
    to.flush().await?;
    Ok(hasher.digest())
}

/// What the registry says about its refusal; nothing when it says it at too great length or not as it should.
async fn refused(response: Response) -> Failure {
    let status = response.status();
    let mut body = Vec::new();
    let errors = match read(response, MAX_REASON_BYTES, &mut body).await {
        Ok(_) => serde_json::from_slice::<OciEnvelope>(&body).map_or(Vec::new(), |envelope| envelope.errors),
        Err(_) => Vec::new(),
    };
    let reasons = errors.iter().filter(|error| !error.message.is_empty()).map(|error| format!(": {}", error.message));
    Failure::Status { status, reasons: reasons.collect() }
}

/// An error with its sources, which most HTTP errors say the interesting part in.
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
