//! Content negotiation: what a request's body is written in, and what its answer is to be written in.
//!
//! JSON, YAML and Kubernetes' protobuf encoding are read and written. The answer can also be asked for as a `Table` (what
//! `kubectl get` prints) or as metadata only:
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>

mod accept;
pub mod pretty;

pub use accept::{Accept, Offer, Shape};

use crate::body::Body;
use crate::call::Call;
use crate::routes::Answer;
use crate::status::Status;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use k8w_kinds::object;
use k8w_kinds::schema::{Format, Schema, protobuf};
use serde_json::{Value, json};
use std::io::Write;

/// Answers at least this large are compressed when the client accepts it, as in Kubernetes.
pub const GZIP_FROM_BYTES: usize = 128 << 10;

/// What bodies are read in.
pub const READ: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The group and version of alternate representations, and an older spelling of the same.
pub const META_VERSION: &str = "meta.k8s.io/v1";
pub const META_V1BETA1: &str = "meta.k8s.io/v1beta1";
pub const PARTIAL_OBJECT_METADATA: &str = "PartialObjectMetadata";

/// The published name of Status.
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

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

/// The media type of answers in a format.
pub fn content_type(format: Format) -> &'static str {
    match format {
        Format::Json => "application/json",
        Format::Yaml => "application/yaml",
        Format::Protobuf => "application/vnd.kubernetes.protobuf",
    }
}

/// JSON of a type in the given format. `json` says its `apiVersion` and `kind`.
pub fn write(format: Format, json: Bytes, schema: &Schema) -> Bytes {
    if format != Format::Protobuf {
        return write_json(format, json);
    }
    let value: Value = serde_json::from_slice(&json).unwrap_or_default();
    let message = schema.to_protobuf(&value).unwrap_or_default();
    let text = |name| object::text(&value, &[name]);
    protobuf::envelope(text("apiVersion"), text("kind"), &message).into()
}

/// The same for what is never written as protobuf.
pub fn write_json(format: Format, json: Bytes) -> Bytes {
    if format == Format::Yaml { to_yaml(&json) } else { json }
}

/// An object's metadata as PartialObjectMetadata.
pub fn write_metadata(accept: Accept, metadata: &Value) -> Bytes {
    if accept.format == Format::Protobuf {
        let message = protobuf::metadata_only(metadata);
        return protobuf::envelope(accept.meta_version, PARTIAL_OBJECT_METADATA, &message).into();
    }
    let json = json!({"kind": PARTIAL_OBJECT_METADATA, "apiVersion": accept.meta_version, "metadata": metadata});
    write_json(accept.format, json.to_string().into())
}

/// JSON of a `v1` Status in the given format.
pub fn write_status(format: Format, json: Bytes) -> Bytes {
    match Schema::builtin(STATUS) {
        Some(schema) => write(format, json, &schema),
        None => json,
    }
}

/// An answer that is no stored object, such as a review; `json` is of the given type.
///
/// # Errors
/// 406 when the client accepts nothing that we can write.
pub fn answer(call: &Call, schema: &Schema, code: StatusCode, json: Bytes) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), Offer::Fixed)?;
    Ok(respond(call, accept, code, write(accept.format, json, schema)))
}

/// A `v1` Status where an object of the given kind could stand: it has no other shapes.
///
/// # Errors
/// 406 when the client accepts nothing that we can write.
pub fn answer_status(call: &Call, offer: Offer, code: StatusCode, status: &Value) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), offer)?;
    let bytes = write_status(accept.format, status.to_string().into());
    Ok(respond(call, accept, code, bytes))
}

/// An answer of bytes in the format that the client accepts: indented for people, and compressed if that is worth it.
pub fn respond(call: &Call, accept: Accept, code: StatusCode, bytes: Bytes) -> Response<Body> {
    let for_people =
        accept.format == Format::Json && (accept.pretty || pretty::is_wanted(&call.query, &call.parts.headers));
    let bytes = if for_people { pretty::indented(&bytes).into() } else { bytes };
    let compress = bytes.len() >= GZIP_FROM_BYTES && !call.peer.is_in_process() && accepts_gzip(&call.parts.headers);
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
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(accept.format)));
    response
}

/// JSON as YAML. What is not JSON stays as it is, which happens only to bytes that we did not write.
pub fn to_yaml(json: &[u8]) -> Bytes {
    let yaml = serde_json::from_slice::<Value>(json).ok().and_then(|value| serde_saphyr::to_string(&value).ok());
    yaml.map_or_else(|| Bytes::copy_from_slice(json), Bytes::from)
}

pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| coding.split(';').next().unwrap_or_default().trim() == "gzip")
}

/// As kube-apiserver compresses: at the fastest level.
pub fn gzip(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_yaml_or_protobuf() {
        assert_eq!(body_format(None), Ok(Format::Json));
        assert_eq!(body_format(Some("application/json; charset=utf-8")), Ok(Format::Json));
        assert_eq!(body_format(Some("application/yaml")), Ok(Format::Yaml));
        assert_eq!(body_format(Some("application/vnd.kubernetes.protobuf")), Ok(Format::Protobuf));
        let refused = body_format(Some("application/cbor")).unwrap_err();
        assert_eq!(refused.code, 415);
    }
}
