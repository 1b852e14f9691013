//! Answers that are no stored objects: JSON and text made on the spot.

use http::{HeaderValue, Response, header};
use serde_json::Value;

use crate::body::Body;

/// 200 with a JSON body, on several lines as Kubernetes writes what is no API object.
pub fn json(value: &Value) -> Response<Body> {
    with_type(Body::from(format!("{value:#}")), "application/json")
}

/// 200 with text.
pub fn text(body: impl Into<Body>) -> Response<Body> {
    let mut response = with_type(body.into(), "text/plain; charset=utf-8");
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn with_type(body: Body, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
