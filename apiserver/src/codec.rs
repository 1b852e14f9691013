//! Content negotiation: what a request's body is written in, and what its answer is to be written in.
//!
//! JSON and YAML are read and written; Kubernetes' protobuf encoding, which Go clients send, is read. The answer can also
//! be asked for as a `Table` (what `kubectl get` prints) or as metadata only:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

use crate::body::Body;
use crate::call::Call;
use crate::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Response, StatusCode, header};
use k8w_kinds::schema::Format;
use serde_json::Value;
use std::io::Write;

/// Answers at least this large are compressed when the client accepts it, as in Kubernetes.
const GZIP_FROM_BYTES: usize = 128 << 10;

const READ: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WRITTEN: [&str; 2] = ["application/json", "application/yaml"];

/// What an object in the answer is shown as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Object,
    /// `meta.k8s.io/v1` Table.
    Table,
    /// `meta.k8s.io/v1` PartialObjectMetadata, or its list.
    Metadata,
}

/// What the client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
}

impl Accept {
    /// The first acceptable clause of an `Accept` header, in the order of its weights.
    ///
    /// # Errors
    /// 406 when nothing in it is ours to give.
    pub fn parse(header: Option<&str>) -> Result<Self, Status> {
        let json = Accept { format: Format::Json, shape: Shape::Object };
        let Some(header) = header.filter(|text| !text.trim().is_empty() && *text != "application/json") else {
            return Ok(json);
        };
        let mut clauses: Vec<(f32, Accept)> = header.split(',').filter_map(clause).collect();
        clauses.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        clauses.first().map(|(_, accept)| *accept).ok_or_else(|| Status::not_acceptable(&WRITTEN))
    }
}

/// One clause such as `application/json;as=Table;v=v1;g=meta.k8s.io`, with its weight.
fn clause(text: &str) -> Option<(f32, Accept)> {
    let mut parts = text.split(';').map(str::trim);
    let format = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "*/*" | "application/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        _ => return None,
    };
    let (mut shape, mut weight, mut group, mut version) = (None, 1.0, "meta.k8s.io", "v1");
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "as" => shape = Some(value),
            "g" => group = value,
            "v" => version = value,
            "q" => weight = value.parse().unwrap_or(0.0),
            // `application/json;stream=watch` and the like are not ours.
            "stream" => return None,
            _ => {}
        }
    }
    let shape = match shape {
        None => Shape::Object,
        Some(_) if group != "meta.k8s.io" || version != "v1" => return None,
        Some("Table") => Shape::Table,
        Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Shape::Metadata,
        Some(_) => return None,
    };
    (weight > 0.0).then_some((weight, Accept { format, shape }))
}

/// What an object in a request's body is written in; JSON when nothing is said.
///
/// # Errors
/// 415 for everything but JSON, YAML and Kubernetes' protobuf.
pub fn body_format(content_type: Option<&str>) -> Result<Format, Status> {
    match media_type(content_type) {
        "" | "application/json" => Ok(Format::Json),
        "application/yaml" => Ok(Format::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Format::Protobuf),
        _ => Err(Status::unsupported_media_type(&READ)),
    }
}

/// A media type without its parameters.
pub fn media_type(content_type: Option<&str>) -> &str {
    content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// An answer of JSON bytes in the format that the client accepts, compressed if that is worth it.
pub fn respond(call: &Call, accept: Accept, code: StatusCode, json: Bytes) -> Response<Body> {
    let (bytes, content_type) = match accept.format {
        // Answers are not written as protobuf; clients that send it accept JSON too.
        Format::Json | Format::Protobuf => (json, "application/json"),
        Format::Yaml => (to_yaml(&json), "application/yaml"),
    };
    let compress = bytes.len() >= GZIP_FROM_BYTES && !call.peer.is_in_process() && accepts_gzip(call);
    let mut response = match compress.then(|| gzip(&bytes)).flatten() {
        Some(compressed) => {
            let mut response = Response::new(Body::Full(compressed));
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
            response
        }
        None => Response::new(Body::Full(bytes)),
    };
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON as YAML. What is not JSON stays as it is, which happens only to bytes that we did not write.
pub fn to_yaml(json: &[u8]) -> Bytes {
    let yaml = serde_json::from_slice::<Value>(json).ok().and_then(|value| serde_saphyr::to_string(&value).ok());
    yaml.map_or_else(|| Bytes::copy_from_slice(json), Bytes::from)
}

fn accepts_gzip(call: &Call) -> bool {
    call.header(header::ACCEPT_ENCODING).is_some_and(|value| {
        value.split(',').any(|coding| coding.split(';').next().unwrap_or_default().trim() == "gzip")
    })
}

fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_acceptable_clause_wins() {
        let cases = [
            (None, Ok((Format::Json, Shape::Object))),
            (Some("application/yaml"), Ok((Format::Yaml, Shape::Object))),
            (
                Some(
                    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                ),
                Ok((Format::Json, Shape::Table)),
            ),
            (
                Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
                Ok((Format::Json, Shape::Metadata)),
            ),
            (Some("application/vnd.kubernetes.protobuf,application/json"), Ok((Format::Json, Shape::Object))),
            (Some("application/json;q=0.5, application/yaml"), Ok((Format::Yaml, Shape::Object))),
            (Some("text/html, */*"), Ok((Format::Json, Shape::Object))),
            (Some("application/vnd.kubernetes.protobuf"), Err(406)),
            (Some("application/cbor"), Err(406)),
            (Some("application/json;as=Nonsense"), Err(406)),
        ];
        for (header, expected) in cases {
            let found = Accept::parse(header).map(|accept| (accept.format, accept.shape)).map_err(|status| status.code);
            assert_eq!(found, expected, "{header:?}");
        }
    }

    #[test]
    fn bodies_are_json_yaml_or_protobuf() {
        assert_eq!(body_format(None), Ok(Format::Json));
        assert_eq!(body_format(Some("application/json; charset=utf-8")), Ok(Format::Json));
        assert_eq!(body_format(Some("application/yaml")), Ok(Format::Yaml));
        assert_eq!(body_format(Some("application/vnd.kubernetes.protobuf")), Ok(Format::Protobuf));
        let refused = body_format(Some("application/cbor")).unwrap_err();
        assert_eq!(refused.code, 415);
    }

    proptest! {
        #[test]
        fn any_header_has_an_answer(text in ".*") {
            let _ = Accept::parse(Some(&text));
        }
    }
}
