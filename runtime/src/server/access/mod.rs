//! Who may ask the node itself: a certificate or a token says who it is, the API server what is allowed ("Kubelet
//! authentication/authorization" in the Kubernetes documentation).
//!
//! What the API server answered counts for a while, as long as a kubelet's defaults say.

mod memory;

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8w_kinds::credentials;
use k8w_networking::https::ClientCertificates;
use kube::Client;
use kube::api::{Api, PostParams};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::Failure;
use memory::{Key, Memory};

/// How long it is remembered whose a token is, and what is allowed and what is not.
const TOKEN_TTL: Duration = Duration::from_secs(2 * 60);
const ALLOWED_TTL: Duration = Duration::from_secs(5 * 60);
const REFUSED_TTL: Duration = Duration::from_secs(30);
/// Questions to the API server at a time: strangers can make up any number of tokens.
const MAX_QUESTIONS: usize = 16;

/// Decides about requests to one node.
pub(super) struct Access {
    client: Client,
    node: String,
    users: Memory<Option<UserInfo>>,
    decisions: Memory<bool>,
    questions: Semaphore,
}

impl Access {
    pub(super) fn new(client: Client, node: &str) -> Access {
        let questions = Semaphore::new(MAX_QUESTIONS);
        Access { client, node: node.to_owned(), users: Memory::default(), decisions: Memory::default(), questions }
    }

    /// Whether the request may be answered.
    ///
    /// # Errors
    /// 401 for who is nobody, 403 for who may not, 500 when the API server does not say.
    pub(super) async fn check<B>(&self, request: &http::Request<B>) -> Result<(), Failure> {
        let certificates = request.extensions().get::<ClientCertificates>();
        let certified = certificates.and_then(|certificates| certified(certificates.0.first()?));
        let user = match (certified, bearer_token(request.headers())) {
            (Some(user), _) => Some(user),
            (None, Some(token)) => self.bearer(token).await.map_err(unanswered)?,
            (None, None) => None,
        };
        let nobody = || Failure { status: StatusCode::UNAUTHORIZED, message: "Unauthorized".to_owned() };
        let user = user.ok_or_else(nobody)?;
        let (verb, subresources) = (verb(request.method()), subresources(request.uri().path()));
        for subresource in subresources {
            if self.is_allowed(&user, verb, subresource).await.map_err(unanswered)? {
                return Ok(());
            }
        }
        let (name, subresources) = (user.username.unwrap_or_default(), subresources.join(" "));
        let message = format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{subresources}])");
        Err(Failure { status: StatusCode::FORBIDDEN, message })
    }

    /// Whom a token stands for.
    async fn bearer(&self, token: &str) -> kube::Result<Option<UserInfo>> {
        let key: Key = Sha256::digest(token).into();
        if let Some(known) = self.users.get(&key) {
            return Ok(known);
        }
        let _turn = self.questions.acquire().await;
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let review = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        self.users.put(key, user.clone(), TOKEN_TTL);
        Ok(user)
    }

    async fn is_allowed(&self, user: &UserInfo, verb: &str, subresource: &str) -> kube::Result<bool> {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            version: Some("v1".to_owned()),
            resource: Some("nodes".to_owned()),
            subresource: Some(subresource.to_owned()),
            name: Some(self.node.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: user.username.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
            resource_attributes: Some(attributes),
            non_resource_attributes: None,
        };
        let key: Key = Sha256::digest(serde_json::to_vec(&spec).map_err(kube::Error::SerdeError)?).into();
        if let Some(known) = self.decisions.get(&key) {
            return Ok(known);
        }
        let _turn = self.questions.acquire().await;
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let review = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let allowed = review.status.is_some_and(|status| status.allowed);
        self.decisions.put(key, allowed, if allowed { ALLOWED_TTL } else { REFUSED_TTL });
        Ok(allowed)
    }
}

/// The node that the client has proved to be.
pub(super) fn node<B>(request: &http::Request<B>) -> Option<String> {
    let certificate = request.extensions().get::<ClientCertificates>()?.0.first()?;
    let (user, groups) = credentials::certificate_user(certificate)?;
    credentials::node_name(&user, &groups).map(str::to_owned)
}

fn unanswered(error: kube::Error) -> Failure {
    let message = format!("the API server does not say who may do this: {error}");
    Failure { status: StatusCode::INTERNAL_SERVER_ERROR, message }
}

/// The user of a certificate that TLS has verified.
fn certified(der: &[u8]) -> Option<UserInfo> {
    let (name, groups) = credentials::certificate_user(der)?;
    Some(UserInfo { username: Some(name), groups: Some(groups), ..UserInfo::default() })
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    credentials::bearer_token(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// Methods that a node does not know are no verb, which nobody but a master is allowed.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of the node of which one must be allowed (KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    match path.split('/').find(|part| !part.is_empty()).unwrap_or_default() {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "healthz" => &["healthz", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_subresources() {
        for (path, expected) in [
            ("/stats/summary", "stats"),
            ("//stats/summary", "stats"),
            ("/metrics", "metrics"),
            ("/metrics/resource", "metrics"),
            ("/logs/", "log"),
            ("/checkpoint/a/b/c", "checkpoint"),
            ("/pods", "pods proxy"),
            ("/runningpods/", "pods proxy"),
            ("/healthz/ping", "healthz proxy"),
            ("/configz", "configz proxy"),
            ("/podsets", "proxy"),
            ("/exec/a/b/c", "proxy"),
            ("/containerLogs/a/b/c", "proxy"),
            ("/", "proxy"),
        ] {
            assert_eq!(subresources(path).join(" "), expected, "{path}");
        }
    }

    #[test]
    fn methods_are_verbs() {
        let verbs = [Method::GET, Method::POST, Method::DELETE, Method::HEAD].map(|method| verb(&method));
        assert_eq!(verbs, ["get", "create", "delete", ""]);
    }
}
