//! Objects in requests' bodies and in answers.

use super::options::FieldValidation;
use crate::apply::refused;
use crate::body::Body;
use crate::call::Call;
use crate::codec::{self, Accept, Offer, Shape};
use crate::object_store::Written;
use crate::resources::Resource;
use crate::routes::Answer;
use crate::status::Status;
use crate::table::{self, Include, Style};
use crate::watch_cache::Record;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use k8w_kinds::schema::{DecodeError, Decoded, Format, Schema, apply, decode, protobuf};
use k8w_kinds::{KindDef, object};
use serde_json::{Value, json};

/// What a body must be.
pub struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    pub schema: &'a Schema,
}

impl<'a> Expected<'a> {
    pub fn of(resource: &'a Resource) -> Self {
        Expected { group: &resource.group, version: &resource.version, kind: &resource.kind, schema: resource.schema() }
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Reads the request's body as the expected kind.
    ///
    /// # Errors
    /// 400 for what is not that kind, 413, 415; unknown and duplicate fields as `validation` says.
    pub async fn read(
        &self,
        call: &mut Call,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let format = codec::body_format(call.header(header::CONTENT_TYPE))?;
        if format == Format::Protobuf && !self.schema.has_protobuf() {
            return Err(Status::unsupported_media_type(&codec::READ));
        }
        let body = call.read_body().await?;
        self.decode(&body, format, validation, warnings)
    }

    pub fn decode(
        &self,
        body: &[u8],
        format: Format,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let decoded = self.schema.decode(body, format).map_err(|error| self.refused(&error, body, format))?;
        let Decoded { mut value, issues } = decoded;
        self.check_type(&mut value)?;
        self.report(issues, validation, warnings)?;
        Ok(value)
    }

    /// Reads a configuration for server-side apply. What has no place in the schema is refused, whatever `validation` says:
    /// nobody could own it.
    ///
    /// # Errors
    /// 400 for what is not that kind, or does not fit its schema.
    pub fn configuration(
        &self,
        body: &[u8],
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let decoded = self.schema.decode(body, Format::Yaml);
        if decoded.as_ref().map_or(true, |decoded| !decoded.issues.is_empty()) {
            let unreadable = |why| Status::bad_request(format!("error decoding YAML: {why}"));
            let sent = Schema::any().decode(body, Format::Yaml).map_err(unreadable)?;
            self.check_applied_type(&sent.value)?;
            apply::check(self.schema, &sent.value, &self.api_version()).map_err(refused)?;
            match (decode::repeated_key(body), validation) {
                (Some(repeated), FieldValidation::Strict) => {
                    let why = "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:";
                    return Err(Status::bad_request(format!("{why}\n  {repeated}")));
                }
                (Some(repeated), FieldValidation::Warn) => warnings.push(repeated),
                _ => {}
            }
        }
        let config = decoded.map_err(|error| self.refused(&error, body, Format::Yaml))?.value;
        self.check_applied_type(&config)?;
        Ok(config)
    }

    /// A configuration says itself what it is.
    fn check_applied_type(&self, config: &Value) -> Result<(), Status> {
        let (version, kind) = (object::text(config, &["apiVersion"]), object::text(config, &["kind"]));
        if version == self.api_version() && kind == self.kind {
            return Ok(());
        }
        let slash = if version.contains('/') { "" } else { "/" };
        Err(Status::bad_request(format!("invalid object type: {slash}{version}, Kind={kind}")))
    }

    fn refused(&self, error: &DecodeError, body: &[u8], format: Format) -> Status {
        let DecodeError::Syntax(why) = error else { return self.cannot_handle(&error.to_string()) };
        let stage = if format == Format::Json { "couldn't get version/kind; json parse error: " } else { "" };
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {stage}{why} ({})",
            self.kind,
            summary(body)
        ))
    }

    fn cannot_handle(&self, why: &str) -> Status {
        let (kind, version) = (self.kind, self.version);
        Status::bad_request(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    }

    /// The body says what it is, or it is taken to be what the URL says.
    fn check_type(&self, value: &mut Value) -> Result<(), Status> {
        let expected = self.api_version();
        match object::text(value, &["apiVersion"]) {
            "" => value["apiVersion"] = expected.into(),
            given if given == expected => {}
            given => {
                return Err(Status::bad_request(format!(
                    "the API version in the data ({given}) does not match the expected API version ({expected})"
                )));
            }
        }
        match object::text(value, &["kind"]) {
            "" => value["kind"] = self.kind.into(),
            given if given == self.kind => {}
            given => {
                // Kubernetes names the packages of its own types, which are those of the groups' first words.
                let package = self.group.split('.').next().filter(|word| !word.is_empty()).unwrap_or("core");
                let (version, kind) = (self.version, self.kind);
                return Err(Status::bad_request(format!(
                    "{given} in version {version:?} cannot be handled as a {kind}: converting ({version}.{given}) to \
                     ({package}.{kind}): unknown conversion"
                )));
            }
        }
        Ok(())
    }

    fn report(
        &self,
        issues: Vec<String>,
        validation: FieldValidation,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        match validation {
            _ if issues.is_empty() => {}
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(issues),
            FieldValidation::Strict => {
                return Err(self.cannot_handle(&format!("strict decoding error: {}", issues.join(", "))));
            }
        }
        Ok(())
    }
}

/// The names in the body and in the URL must agree; what the body leaves out is taken from the URL. Objects of the
/// cluster have no namespace, whatever they say.
pub fn match_url(object: &mut Value, resource: &Resource, call: &Call) -> Result<(), Status> {
    if !object.get("metadata").is_some_and(Value::is_object) {
        object["metadata"] = json!({});
    }
    let (name, namespace) = (&call.info.name, &call.info.namespace);
    match object::text(object, &["metadata", "namespace"]) {
        _ if !resource.namespaced => object::remove(&mut object["metadata"], "namespace"),
        "" => object["metadata"]["namespace"] = namespace.clone().into(),
        given if given == namespace => {}
        _ => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    if !name.is_empty() {
        match object::text(object, &["metadata", "name"]) {
            "" => object["metadata"]["name"] = name.clone().into(),
            given if given == name => {}
            given => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({given}) does not match the name on the URL ({name})"
                )));
            }
        }
    }
    Ok(())
}

/// A stored object, in the shape and format that the client accepts.
pub fn answer_record(call: &Call, resource: &Resource, record: &Record) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), resource.offer())?;
    let protobuf = |version: &str, kind: &str, message: &[u8]| {
        let body = protobuf::envelope(version, kind, message);
        Ok(codec::respond(call, accept, StatusCode::OK, body.into()))
    };
    match (accept.format, accept.shape) {
        (Format::Protobuf, Shape::Object) => {
            protobuf(&resource.api_version(), &resource.kind, record.protobuf(&resource.def))
        }
        (Format::Protobuf, Shape::Metadata) => {
            protobuf(accept.meta_version, codec::PARTIAL_OBJECT_METADATA, record.metadata_only_protobuf())
        }
        _ => answer_accepted(call, resource, accept, StatusCode::OK, record.json()),
    }
}

/// One object that is no record, in the shape and format that the client accepts.
pub fn answer(call: &Call, resource: &Resource, code: StatusCode, json: Bytes) -> Answer {
    let accept = Accept::parse(call.header(header::ACCEPT), resource.offer())?;
    answer_accepted(call, resource, accept, code, json)
}

/// An object of a kind in what the client accepts.
pub fn answer_accepted(call: &Call, kind: &KindDef, accept: Accept, code: StatusCode, json: Bytes) -> Answer {
    let parsed = || serde_json::from_slice::<Value>(&json).map_err(Status::internal);
    let bytes = match accept.shape {
        Shape::Object => codec::write(accept.format, json, kind.schema()),
        Shape::Metadata => {
            let metadata = parsed()?.get_mut("metadata").map(Value::take).unwrap_or_default();
            codec::write_metadata(accept, &metadata)
        }
        Shape::MetadataList => {
            let name = &kind.kind;
            let why = "you requested PartialObjectMetadataList, but the requested object is not a list";
            return Err(Status::not_convertible(format!("{why} (*{}.{name})", kind.version)));
        }
        Shape::Table => {
            let include = Include::parse(call.query.get("includeObject"))?;
            let value = parsed()?;
            let metadata = json!({"resourceVersion": object::text(&value, &["metadata", "resourceVersion"])});
            let style = Style { api_version: accept.meta_version, include, with_columns: true };
            let table = table::table(kind, vec![value], metadata, style);
            codec::write_json(accept.format, serde_json::to_vec(&table).map_err(Status::internal)?.into())
        }
    };
    Ok(codec::respond(call, accept, code, bytes))
}

/// The answer to a write.
pub fn answer_written(call: &Call, resource: &Resource, written: Written, warnings: &[String]) -> Answer {
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = answer(call, resource, code, written.json)?;
    warn(&mut response, warnings);
    Ok(response)
}

/// The answer to a create whose object is not stored, such as a Binding.
pub fn answer_success(call: &Call, warnings: &[String]) -> Answer {
    let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    let mut response = codec::answer_status(call, Offer::Fixed, StatusCode::CREATED, &done)?;
    warn(&mut response, warnings);
    Ok(response)
}

/// How the body begins, as Kubernetes shows what it cannot read: text that looks like an object, anything else in
/// hexadecimal digits.
fn summary(body: &[u8]) -> String {
    const SHOWN_BYTES: usize = 30;
    let shown = &body[..body.len().min(SHOWN_BYTES)];
    let more = if body.len() > SHOWN_BYTES { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned() + more,
        Some(_) => shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + more,
    }
}

/// All warnings of an answer may be so long together before each is cut off after so much, as in Kubernetes.
const WARNINGS_CHARS: usize = 4096;
const CUT_WARNING_CHARS: usize = 256;

/// Tells the client in headers (RFC 7234, section 5.5) what it should know about a request that succeeded, each thing once.
pub fn warn(response: &mut Response<Body>, warnings: impl IntoIterator<Item = impl AsRef<str>>) {
    const WARNING: HeaderName = HeaderName::from_static("warning");
    let mut texts: Vec<String> = Vec::new();
    for text in warnings {
        if !texts.iter().any(|known| known == text.as_ref()) {
            texts.push(text.as_ref().to_owned());
        }
    }
    let chars: usize = texts.iter().map(|text| text.chars().count()).sum();
    let limit = if chars > WARNINGS_CHARS { CUT_WARNING_CHARS } else { WARNINGS_CHARS };
    let mut left = WARNINGS_CHARS;
    for text in texts {
        if left == 0 {
            break;
        }
        let shown = || text.chars().take(limit);
        left = left.saturating_sub(shown().count());
        let quoted: String = shown().filter(|c| !c.is_control()).flat_map(escape).collect();
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

fn escape(c: char) -> impl Iterator<Item = char> {
    matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])
}
