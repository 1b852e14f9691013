//! `pods/log`: what a container has said, as its node keeps it.
//!
//! Answers are streamed through as they come, no faster than the client reads: as the body of the answer, or in the
//! messages of a WebSocket.

use std::fmt::Write;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, header};
use k8w_kinds::object::text;
use k8w_kinds::{FieldError, FieldPath};

use super::upgrade::{self, Transport};
use super::{node, target, websocket};
use crate::ApiServer;
use crate::body::Body;
use crate::call::Call;
use crate::query::Query;
use crate::routes::Answer;
use crate::status::Status;

/// `GET /api/v1/namespaces/{namespace}/pods/{name}/log`.
pub fn serve(server: Arc<ApiServer>, call: Call) -> BoxFuture<'static, Answer> {
    async move {
        let mut call = call;
        let info = &call.info;
        if info.verb != "get" {
            return Err(Status::no_such_method());
        }
        let options = LogOptions::parse(&call.query)
            .map_err(|errors| Status::invalid("", "PodLogOptions", &info.name, &errors))?;
        let pod = target::pod(&server, &call).await?;
        let container = target::container(&pod, &options.container)?;
        let on = text(&pod, &["spec", "nodeName"]);
        if on.is_empty() {
            // Not scheduled yet: there is nothing to read.
            return answer(&server, &mut call, Body::Empty);
        }
        let path = format!("/containerLogs/{}/{}/{container}{}", info.namespace, info.name, options.query());
        let request = Request::get(path).body(Body::Empty).map_err(Status::internal)?;
        let log = node::send(&server, on, request).await?;
        answer(&server, &mut call, log)
    }
    .boxed()
}

fn answer(server: &ApiServer, call: &mut Call, log: Body) -> Answer {
    if upgrade::transport(&call.parts.headers) == Ok(Transport::WebSocket) {
        let agreement = upgrade::agree(&call.parts.headers, Transport::WebSocket, websocket::READERS)?;
        let form = websocket::Reader::of(agreement.protocol);
        return upgrade::switch(server, call, agreement, move |io| websocket::send_body(io, log, form));
    }
    let mut response = http::Response::new(log);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
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
            const STREAMS: &[&str] = &["All", "Stderr", "Stdout"];
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

#[cfg(test)]
mod tests {
    use super::*;

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
