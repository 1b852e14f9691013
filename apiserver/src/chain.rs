//! The whole path of a request, top to bottom.

use crate::ApiServer;
use crate::authn::impersonation::impersonate;
use crate::authz;
use crate::body::Body;
use crate::call::Call;
use crate::codec::{self, Accept, pretty};
use crate::identity::{Attributes, Peer, UserInfo};
use crate::limits::{REQUEST_TIMEOUT_MS, is_long_running, is_mutating};
use crate::plugins::Decision;
use crate::query::Query;
use crate::request_info::RequestInfo;
use crate::resources::Resource;
use crate::routes::{self, Answer};
use crate::status::Status;
use crate::verbs;
use http::{Request, Response, StatusCode, header};
use k8w_kinds::schema::Format;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl ApiServer {
    /// Answers one request. Every failure is a response.
    pub async fn handle(self: &Arc<Self>, request: Request<Body>, peer: Peer) -> Response<Body> {
        let started = Instant::now();
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = RequestInfo::new(&parts.method, parts.uri.path(), &query);
        let resource = self.resources.load().get(&info.group, &info.version, &info.resource).cloned();
        let counted = self.metrics.begin(&info, resource.as_deref());
        let accept = parts.headers.get(header::ACCEPT).cloned();
        let pretty = pretty::is_wanted(&query, &parts.headers);
        // Boxed: a server's task is moved about before it runs, and should not take along what it comes to need.
        let answer = Box::pin(self.answer(parts, body, info, query, resource, peer)).await;
        let accept = accept.as_ref().and_then(|accept| accept.to_str().ok());
        let response = answer.unwrap_or_else(|status| error_response(&status, accept, pretty));
        counted.end(response, started.elapsed())
    }

    async fn answer(
        self: &Arc<Self>,
        parts: http::request::Parts,
        body: Body,
        info: RequestInfo,
        query: Query,
        resource: Option<Arc<Resource>>,
        peer: Peer,
    ) -> Answer {
        let user = self.authenticate(&parts, &peer).await?;
        let may = |user: &UserInfo, verb: &str, info: &RequestInfo| self.authorize(user, verb, info);
        let user = impersonate(user, &parts.headers, &info, may)?;
        self.authorize(&user, info.verb, &info)?;
        let long_running = is_long_running(&info);
        let special = if info.is_resource_request {
            routes::for_resource(&info.group, &info.resource, &info.subresource)
        } else {
            routes::for_path(&info.path)
        };
        let mut call = Call { parts, body, info, query, user, peer };
        if is_mutating(&call.info) && !long_running {
            // Before the turn: a client that sends slowly must not hold what others wait for.
            let read = tokio::time::timeout(Duration::from_millis(REQUEST_TIMEOUT_MS), call.read_body()).await;
            call.body = Body::Full(read.map_err(|_| Status::request_timed_out())??);
        }
        // This process's own controllers and node never wait behind clients.
        let no_turn = long_running || call.peer.is_in_process();
        let _turn = if no_turn { None } else { self.limits.turn(&call.info).await? };
        let answer = async {
            match (special, resource) {
                _ if call.info.leads_beyond() => Err(Status::no_such_resource()),
                (Some(serve), _) => serve(self.clone(), call).await,
                (None, Some(resource)) if !resource.is_custom() => verbs::serve(self, &resource, call).await,
                (None, _) if call.info.is_resource_request => {
                    let resource = self.custom_resource(&call.info).await?;
                    verbs::serve(self, &resource, call).await
                }
                (None, _) => Err(Status::no_such_resource()),
            }
        };
        if long_running {
            return answer.await;
        }
        match tokio::time::timeout(Duration::from_millis(REQUEST_TIMEOUT_MS), answer).await {
            Ok(answer) => answer,
            Err(_) => Err(Status::request_timed_out()),
        }
    }

    /// The first authenticator that knows the credentials decides; without any the request is anonymous.
    async fn authenticate(&self, parts: &http::request::Parts, peer: &Peer) -> Result<Arc<UserInfo>, Status> {
        if let Some(user) = &peer.user {
            return Ok(user.clone());
        }
        for authenticator in &self.plugins.authenticators {
            match authenticator.authenticate(parts, peer).await {
                Ok(Some(user)) => return Ok(user),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "credentials refused");
                    return Err(Status::unauthorized());
                }
            }
        }
        // Where everybody may do everything, everybody must at least say who they are, as in Kubernetes.
        if self.config.authorization.contains(&authz::Mode::AlwaysAllow) {
            return Err(Status::unauthorized());
        }
        Ok(Arc::new(UserInfo::anonymous()))
    }

    /// The first authorizer with an opinion decides; without one the answer is no.
    pub fn authorize(&self, user: &UserInfo, verb: &str, info: &RequestInfo) -> Result<(), Status> {
        let attributes = Attributes { user, verb, info };
        match authz::decide(&self.plugins.authorizers, &attributes) {
            Decision::Allow => Ok(()),
            Decision::NoOpinion(reason) | Decision::Deny(reason) => Err(forbidden(user, verb, info, &reason)),
        }
    }
}

/// `pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default"`.
pub(crate) fn forbidden(user: &UserInfo, verb: &str, info: &RequestInfo, reason: &str) -> Status {
    let name = &user.name;
    let mut why = if info.is_resource_request {
        let resource = match info.subresource.as_str() {
            "" => info.resource.clone(),
            subresource => format!("{}/{subresource}", info.resource),
        };
        let scope = match info.namespace.as_str() {
            "" => "at the cluster scope".to_string(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!("User {name:?} cannot {verb} resource {resource:?} in API group {:?} {scope}", info.group)
    } else {
        format!("User {name:?} cannot {verb} path {:?}", info.path)
    };
    // What clients sent must not look like HTML.
    why = why.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    Status::forbidden(&info.group, &info.resource, &info.name, why)
}

/// The answer to a request that failed. `accept` is what the client accepts.
fn error_response(status: &Status, accept: Option<&str>, pretty: bool) -> Response<Body> {
    let format = Accept::for_error(accept);
    let json = status.to_json();
    let json = if pretty && format == Format::Json { pretty::indented(&json) } else { json };
    let mut response = Response::new(Body::from(codec::write_status(format, json.into())));
    *response.status_mut() = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let content_type = header::HeaderValue::from_static(codec::content_type(format));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    if let Some(seconds) = status.details.as_ref().and_then(|details| details.retry_after_seconds) {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}
