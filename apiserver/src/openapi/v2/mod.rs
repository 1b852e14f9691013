//! `/openapi/v2`: one document for everything, as JSON or as the protobuf message that Go clients read.
//!
//! It is the OpenAPI v3 document of all kinds, said in OpenAPI v2's words ([`convert`]).

mod convert;
mod message;

use std::sync::OnceLock;

use http::{HeaderMap, Response};
use k8w_kinds::KindDef;
use k8w_kinds::schema::openapi::Edition;

use crate::body::Body;
use crate::document::Document;
use crate::status::Status;

use super::JSON;

pub const PATH: &str = "/openapi/v2";

/// How the message is answered, and how it is asked for.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// The document of one set of kinds in both formats, each made when first asked for.
#[derive(Default)]
pub struct OpenApiV2 {
    json: OnceLock<Document>,
    protobuf: OnceLock<Document>,
}

impl OpenApiV2 {
    /// `kinds` must be the same at each call.
    ///
    /// # Errors
    /// 406 for a client that accepts neither format.
    pub fn respond(&self, kinds: &[&KindDef], headers: &HeaderMap) -> Result<Response<Body>, Status> {
        let document = || convert::document(&super::document_of(kinds, Edition::V2));
        Ok(if super::wants_protobuf(headers, PROTOBUF_ASKED, PROTOBUF)? {
            let made = || Document::of_bytes(PROTOBUF, message::DOCUMENT.encode(&document()).into());
            self.protobuf.get_or_init(made).respond(headers)
        } else {
            self.json.get_or_init(|| Document::new(JSON, &document())).respond(headers)
        })
    }
}

#[cfg(test)]
mod tests;
