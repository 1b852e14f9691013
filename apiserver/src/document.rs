//! A document that seldom changes, with its hash as ETag (RFC 9110, section 8.8.3).

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::body::Body;
use crate::codec::{self, pretty};

/// Bytes that are made once and answered many times.
#[derive(Clone)]
pub struct Document {
    content_type: HeaderValue,
    body: Bytes,
    hash: String,
    etag: HeaderValue,
    /// Made for the first client that accepts it; `None` for what is too small to be worth it.
    compressed: Arc<OnceLock<Option<Bytes>>>,
}

impl Document {
    /// A document of JSON. `value` is made of maps with names as keys, so that writing it cannot fail.
    pub fn new(content_type: &'static str, value: &impl Serialize) -> Document {
        Document::of_bytes(content_type, serde_json::to_vec(value).unwrap_or_default().into())
    }

    pub fn of_bytes(content_type: &'static str, body: Bytes) -> Document {
        Document::made(HeaderValue::from_static(content_type), body)
    }

    /// A document of JSON, on several lines.
    pub fn indented(&self) -> Document {
        Document::made(self.content_type.clone(), pretty::indented(&self.body).into())
    }

    fn made(content_type: HeaderValue, body: Bytes) -> Document {
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02X}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{hash}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Document { content_type, body, hash, etag, compressed: Arc::default() }
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
        let compressed = if !known && codec::accepts_gzip(headers) { self.compressed() } else { None };
        let mut response = Response::new(match compressed {
            _ if known => Body::Empty,
            Some(compressed) => Body::from(compressed.clone()),
            None => Body::from(self.body.clone()),
        });
        let headers = response.headers_mut();
        headers.insert(header::ETAG, self.etag.clone());
        headers.insert(header::VARY, HeaderValue::from_static("Accept"));
        if compressed.is_some() {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(header::CONTENT_TYPE, self.content_type.clone());
        }
        response
    }

    fn compressed(&self) -> Option<&Bytes> {
        let worth_it = self.body.len() >= codec::GZIP_FROM_BYTES;
        self.compressed.get_or_init(|| worth_it.then(|| codec::gzip(&self.body)).flatten()).as_ref()
    }
}
