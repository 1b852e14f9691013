//! TokenReview and SelfSubjectReview: whose token is this, and who am I.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, header};
use jiff::Timestamp;
use k8w_kinds::object::{list, text};
use serde_json::{Map, Value, json};

use crate::ApiServer;
use crate::call::Call;
use crate::identity::{Peer, UserInfo};
use crate::object_store::timestamp;
use crate::review::Kind;
use crate::routes::Answer;
use crate::status::Status;

const TOKEN_REVIEW: Kind = Kind::authentication("TokenReview", "io.k8s.api.authentication.v1.TokenReview");
const SELF_REVIEW: Kind = Kind::authentication("SelfSubjectReview", "io.k8s.api.authentication.v1.SelfSubjectReview");

/// `POST /apis/authentication.k8s.io/v1/tokenreviews`.
pub fn serve_token_review(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut review = TOKEN_REVIEW.read(&mut call).await?;
        let token = text(&review, &["spec", "token"]).to_owned();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences: Vec<String> =
            list(&review, &["spec", "audiences"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
        server.cache.catch_up().await?;
        review["status"] = match authenticate(&server, &token, &audiences).await {
            Ok((user, audiences)) => json!({"authenticated": true, "user": user_info(&user), "audiences": audiences}),
            Err(reason) => json!({"user": {}, "error": reason}),
        };
        // What was asked is not repeated in the answer: it is a secret.
        if let Some(spec) = review["spec"].as_object_mut() {
            spec.remove("token");
        }
        TOKEN_REVIEW.created(&call, &review)
    }
    .boxed()
}

/// The token's user, and which of the audiences it is for. Without audiences, it must be for this API server.
async fn authenticate(
    server: &ApiServer,
    token: &str,
    audiences: &[String],
) -> Result<(Arc<UserInfo>, Vec<String>), String> {
    let refused = || "invalid bearer token".to_owned();
    if let Some(tokens) = &server.plugins.tokens
        && !audiences.is_empty()
    {
        let verified = tokens.verify(token, audiences, Timestamp::now());
        return verified.map(|(verified, audiences)| (verified.user.clone(), audiences)).map_err(|why| why.to_string());
    }
    let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| refused())?;
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers.insert(header::AUTHORIZATION, value);
    for authenticator in &server.plugins.authenticators {
        match authenticator.authenticate(&parts, &Peer::default()).await {
            Ok(Some(user)) => {
                let own = server.plugins.tokens.iter().map(|tokens| tokens.issuer().to_owned()).collect();
                return Ok((user, own));
            }
            Ok(None) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(refused())
}

/// `POST /apis/authentication.k8s.io/v1/selfsubjectreviews` (KEP-3325).
pub fn serve_self_review(server: Arc<ApiServer>, mut call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut review = SELF_REVIEW.read(&mut call).await?;
        review["metadata"] = json!({"creationTimestamp": timestamp(server.config.outside.now())});
        review["status"] = json!({"userInfo": user_info(&call.user)});
        SELF_REVIEW.created(&call, &review)
    }
    .boxed()
}

/// `authentication.k8s.io/v1` UserInfo.
fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::from_iter([("username".to_owned(), user.name.clone().into())]);
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra: BTreeMap<_, _> = user.extra.iter().collect();
        info.insert("extra".into(), json!(extra));
    }
    info.into()
}
