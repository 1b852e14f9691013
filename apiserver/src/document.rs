//! A document that seldom changes, with its hash as ETag (RFC 9110, section 8.8.3).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::body::Body;

/// Bytes that are made once and answered many times.
#[derive(Clone)]
pub struct Document {
    content_type: HeaderValue,
    body: Bytes,
    hash: String,
    etag: HeaderValue,
}

impl Document {
    pub fn new(content_type: &'static str, value: Value) -> Document {
        Document::of_bytes(content_type, value.to_string().into())
    }

    pub fn of_bytes(content_type: &'static str, body: Bytes) -> Document {
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Document { content_type: HeaderValue::from_static(content_type), body, hash, etag }
    }

    /// The SHA-256 of the body in hexadecimal digits.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The document, or 304 for a client that has it already.
    pub fn respond(&self, headers: &HeaderMap) -> Response<Body> {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let known = known.flat_map(|list| list.split(',')).map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag.as_bytes() == self.etag.as_bytes()
        });
        let mut response = Response::new(if known { Body::Empty } else { Body::from(self.body.clone()) });
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        }
        response
    }
}
