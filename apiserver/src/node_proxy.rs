//! What the API server asks of nodes on behalf of clients: the logs of containers.
//!
//! The node's own HTTP API is a kubelet's (`/containerLogs/{namespace}/{pod}/{container}`). Answers are streamed through
//! as they come, no faster than the client reads.

use std::fmt::Write;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode, header};
use k8w_kinds::object::{get, list, text};
use k8w_kinds::{FieldError, FieldPath};
use serde_json::Value;

use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::plugins::ConnectError;
use crate::query::Query;
use crate::routes::Answer;
use crate::status::Status;

/// `GET /api/v1/namespaces/{namespace}/pods/{name}/log`.
pub fn serve_log(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let info = &call.info;
        if info.verb != "get" {
            return Err(Status::method_not_allowed("", "pods", info.verb));
        }
        let options = LogOptions::parse(&call.query)
            .map_err(|errors| Status::invalid("", "PodLogOptions", &info.name, &errors))?;
        server.cache.catch_up().await?;
        let pod = server.cache.get("", "pods", &info.namespace, &info.name);
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", &info.name))?.value();
        let container = choose_container(&pod, &options.container)?;
        let node = text(&pod, &["spec", "nodeName"]);
        if node.is_empty() {
            // Not scheduled yet: there is nothing to read.
            return Ok(log_response(Body::Empty));
        }
        let connector = server.node_connector().ok_or_else(|| Status::unavailable("no node is connected"))?;
        let path = format!("/containerLogs/{}/{}/{container}{}", info.namespace, info.name, options.query());
        let request = Request::get(path).body(Body::Empty).map_err(Status::internal)?;
        let response = connector.request(node, request).await.map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(node_error(response).await);
        }
        Ok(log_response(response.into_body()))
    }
    .boxed()
}

/// Streams that this version does not have yet.
pub fn serve_unsupported(_: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let (resource, subresource) = (&call.info.resource, &call.info.subresource);
        let mut status = Status::no_such_resource();
        status.message = format!("this version of k8w does not serve {resource}/{subresource}");
        Err(status)
    }
    .boxed()
}

fn log_response(body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

fn unreachable(error: ConnectError) -> Status {
    Status::internal(error)
}

/// What a node answers to a failed request is text, worded for the user.
async fn node_error(response: http::Response<Body>) -> Status {
    /// Enough for any sentence.
    const MESSAGE_BYTES: usize = 4096;
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MESSAGE_BYTES);
    let bytes = http_body_util::BodyExt::collect(body).await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = String::from_utf8_lossy(&bytes).trim().to_owned();
    match code {
        StatusCode::NOT_FOUND => {
            let mut status = Status::no_such_resource();
            status.message = message;
            status
        }
        StatusCode::BAD_REQUEST => Status::bad_request(message),
        _ => Status::internal(message),
    }
}

/// `core/v1` PodLogOptions.
#[derive(Debug, Default, PartialEq)]
struct LogOptions {
    container: String,
    /// What the node is told, checked.
    passed: Vec<(&'static str, String)>,
}

impl LogOptions {
    fn parse(query: &Query) -> Result<LogOptions, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut passed = Vec::new();
        for name in ["follow", "previous", "timestamps"] {
            if query.flag(name) {
                passed.push((name, "true".to_owned()));
            }
        }
        for (name, least, complaint) in [
            ("sinceSeconds", 1, "must be greater than 0"),
            ("tailLines", 0, "must be greater than or equal to 0"),
            ("limitBytes", 1, "must be greater than 0"),
        ] {
            let Some(text) = query.non_empty(name) else { continue };
            match text.parse::<i64>() {
                Ok(number) if number >= least => passed.push((name, number.to_string())),
                Ok(number) => errors.push(FieldError::invalid(&FieldPath::new(name), number, complaint)),
                Err(_) => errors.push(FieldError::invalid(&FieldPath::new(name), text, "must be an integer")),
            }
        }
        if let Some(time) = query.non_empty("sinceTime") {
            if query.non_empty("sinceSeconds").is_some() {
                let detail = "at most one of `sinceTime` or `sinceSeconds` may be specified";
                errors.push(FieldError::forbidden(&FieldPath::new("sinceSeconds"), detail));
            }
            match time.parse::<jiff::Timestamp>() {
                Ok(_) => passed.push(("sinceTime", time.to_owned())),
                Err(_) => {
                    errors.push(FieldError::invalid(&FieldPath::new("sinceTime"), time, "must be an RFC 3339 time"))
                }
            }
        }
        if let Some(stream) = query.non_empty("stream") {
            const STREAMS: &[&str] = &["All", "Stdout", "Stderr"];
            if STREAMS.contains(&stream) {
                passed.push(("stream", stream.to_owned()));
            } else {
                errors.push(FieldError::not_supported(&FieldPath::new("stream"), stream, STREAMS));
            }
        }
        let container = query.get("container").unwrap_or_default().to_owned();
        if errors.is_empty() { Ok(LogOptions { container, passed }) } else { Err(errors) }
    }

    /// As the node reads them; all values are plain ASCII or times.
    fn query(&self) -> String {
        let mut query = String::new();
        for (name, value) in &self.passed {
            let separator = if query.is_empty() { '?' } else { '&' };
            let value = value.replace('+', "%2B");
            let _ = write!(query, "{separator}{name}={value}");
        }
        query
    }
}

const CONTAINERS: &[&str] = &["initContainers", "containers", "ephemeralContainers"];
/// A pod can say which container people mean when they name none.
const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

/// The container that is meant, which must be one of the pod's.
fn choose_container<'p>(pod: &'p Value, wanted: &str) -> Result<&'p str, Status> {
    let names = |field: &str| -> Vec<&'p str> {
        list(&pod["spec"], &[field]).iter().map(|container| text(container, &["name"])).collect()
    };
    let pod_name = text(pod, &["metadata", "name"]);
    if !wanted.is_empty() {
        let all = CONTAINERS.iter().flat_map(|field| names(field));
        let found = all.into_iter().find(|name| *name == wanted);
        return found.ok_or_else(|| Status::bad_request(format!("container {wanted} is not valid for pod {pod_name}")));
    }
    let containers = names("containers");
    if let [only] = containers.as_slice() {
        return Ok(only);
    }
    let default = get(pod, &["metadata", "annotations", DEFAULT_CONTAINER_ANNOTATION]).and_then(Value::as_str);
    if let Some(default) = default.and_then(|default| containers.iter().find(|name| **name == default)) {
        return Ok(default);
    }
    let mut why =
        format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", containers.join(" "));
    let init = names("initContainers");
    if !init.is_empty() {
        let _ = write!(why, " or one of the init containers: [{}]", init.join(" "));
    }
    let ephemeral = names("ephemeralContainers");
    if !ephemeral.is_empty() {
        let _ = write!(why, " or one of the ephemeral containers: [{}]", ephemeral.join(" "));
    }
    Err(Status::bad_request(why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(containers: &[&str], init: &[&str]) -> Value {
        let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        json!({"metadata": {"name": "x"}, "spec": {"containers": named(containers), "initContainers": named(init)}})
    }

    #[test]
    fn containers_are_chosen_as_upstream_chooses_them() {
        assert_eq!(choose_container(&pod(&["a"], &["i"]), "").unwrap(), "a");
        assert_eq!(choose_container(&pod(&["a"], &["i"]), "i").unwrap(), "i");
        let why = |pod: &Value, wanted: &str| choose_container(pod, wanted).unwrap_err().message;
        assert_eq!(
            why(&pod(&["a", "b"], &[]), ""),
            "a container name must be specified for pod x, choose one of: [a b]"
        );
        assert_eq!(
            why(&pod(&["a", "b"], &["i"]), ""),
            "a container name must be specified for pod x, choose one of: [a b] or one of the init containers: [i]"
        );
        assert_eq!(why(&pod(&["a"], &[]), "z"), "container z is not valid for pod x");
        let mut annotated = pod(&["a", "b"], &[]);
        annotated["metadata"]["annotations"] = json!({DEFAULT_CONTAINER_ANNOTATION: "b"});
        assert_eq!(choose_container(&annotated, "").unwrap(), "b");
    }

    #[test]
    fn options_are_checked_and_passed_on() {
        let options = |query: &str| LogOptions::parse(&Query::parse(query));
        let all =
            "container=c&follow=true&previous=false&timestamps=1&tailLines=0&sinceTime=2024-01-01T00:00:00%2B01:00";
        let parsed = options(all).unwrap();
        assert_eq!(parsed.container, "c");
        assert_eq!(parsed.query(), "?follow=true&timestamps=true&tailLines=0&sinceTime=2024-01-01T00:00:00%2B01:00");
        assert_eq!(options("").unwrap().query(), "");
        let errors = options("tailLines=-1&limitBytes=0&sinceSeconds=x").unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "sinceSeconds: Invalid value: \"x\": must be an integer",
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
                "limitBytes: Invalid value: 0: must be greater than 0",
            ]
        );
    }
}
