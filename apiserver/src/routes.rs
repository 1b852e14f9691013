//! The tables of everything that is not a verb on a stored kind: paths without a resource, and resources that are
//! answered by code of their own.

use crate::ApiServer;
use crate::authn::service_account::issue;
use crate::body::Body;
use crate::call::Call;
use crate::status::Status;
use crate::streams::{log, port_forward, proxy, remote_command};
use crate::{authn, authz, discovery, health, machine_code, metrics, openapi, resource_metrics, verbs, version};
use futures::future::BoxFuture;
use http::Response;
use k8w_kinds::machine_code::PATH as MACHINE_CODE;
use std::sync::Arc;

/// The answer to a request.
pub type Answer = Result<Response<Body>, Status>;

/// A function that answers authorized requests.
pub type Serve = fn(Arc<ApiServer>, Call) -> BoxFuture<'static, Answer>;

/// A path that is no resource.
pub struct PathRoute {
    pub path: &'static str,
    /// Everything below `path` belongs to it too.
    pub subtree: bool,
    pub serve: Serve,
}

/// A resource or subresource with code of its own, such as `pods/log` or `selfsubjectaccessreviews`.
pub struct ResourceRoute {
    pub group: &'static str,
    pub resource: &'static str,
    /// Empty for the resource itself.
    pub subresource: &'static str,
    pub serve: Serve,
}

/// Paths, the first match wins.
pub fn paths() -> &'static [PathRoute] {
    const fn exact(path: &'static str, serve: Serve) -> PathRoute {
        PathRoute { path, subtree: false, serve }
    }
    const fn below(path: &'static str, serve: Serve) -> PathRoute {
        PathRoute { path, subtree: true, serve }
    }
    const {
        &[
            exact("/", discovery::serve),
            below("/healthz", health::serve),
            below("/livez", health::serve),
            below("/readyz", health::serve),
            exact("/version", version::serve),
            exact("/metrics", metrics::serve),
            below("/api", discovery::serve),
            below("/apis", discovery::serve),
            exact("/openapi/v2", openapi::serve),
            below("/openapi/v3", openapi::serve),
            exact("/openid/v1/jwks", issue::serve_key_set),
            exact("/.well-known/openid-configuration", issue::serve_configuration),
            exact(MACHINE_CODE, machine_code::serve),
        ]
    }
}

/// Resources with code of their own.
pub fn resources() -> &'static [ResourceRoute] {
    const fn row(
        group: &'static str,
        resource: &'static str,
        subresource: &'static str,
        serve: Serve,
    ) -> ResourceRoute {
        ResourceRoute { group, resource, subresource, serve }
    }
    const AUTHENTICATION: &str = "authentication.k8s.io";
    const METRICS: &str = resource_metrics::GROUP;
    const AUTHORIZATION: &str = "authorization.k8s.io";
    const {
        &[
            row("", "bindings", "", verbs::serve_bindings),
            row("", "pods", "log", log::serve),
            row("", "pods", "exec", remote_command::serve_exec),
            row("", "pods", "attach", remote_command::serve_attach),
            row("", "pods", "portforward", port_forward::serve),
            row("", "pods", "proxy", proxy::serve_pod),
            row("", "services", "proxy", proxy::serve_service),
            row("", "nodes", "proxy", proxy::serve_node),
            row(METRICS, "nodes", "", resource_metrics::serve_nodes),
            row(METRICS, "pods", "", resource_metrics::serve_pods),
            row("", "serviceaccounts", "token", issue::serve),
            row(AUTHENTICATION, "tokenreviews", "", authn::review::serve_token_review),
            row(AUTHENTICATION, "selfsubjectreviews", "", authn::review::serve_self_review),
            row(AUTHORIZATION, "selfsubjectaccessreviews", "", authz::review::serve_self_access),
            row(AUTHORIZATION, "selfsubjectrulesreviews", "", authz::review::serve_self_rules),
            row(AUTHORIZATION, "subjectaccessreviews", "", authz::review::serve_access),
            row(AUTHORIZATION, "localsubjectaccessreviews", "", authz::review::serve_local_access),
        ]
    }
}

/// Who answers a path that is no resource.
pub fn for_path(path: &str) -> Option<Serve> {
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let matches = |route: &&PathRoute| match path.strip_prefix(route.path) {
        Some("") => true,
        Some(below) => route.subtree && below.starts_with('/'),
        None => false,
    };
    paths().iter().find(matches).map(|route| route.serve)
}

/// Who answers a resource with code of its own.
pub fn for_resource(group: &str, resource: &str, subresource: &str) -> Option<Serve> {
    let matches =
        |route: &&ResourceRoute| route.resource == resource && route.subresource == subresource && route.group == group;
    resources().iter().find(matches).map(|route| route.serve)
}
