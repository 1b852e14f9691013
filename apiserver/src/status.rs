//! Errors as clients see them: `metav1.Status`, worded as Kubernetes words them (`k8s.io/apimachinery` `api/errors`).

use k8w_kinds::field::FieldError;
use serde::Serialize;

/// A failure of a request. Serialises to the `v1` Status that the client is answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason; empty when Kubernetes gives none.
    pub reason: &'static str,
    pub message: String,
    pub details: Option<Box<Details>>,
    /// `metadata.continue`: where a list that expired may go on.
    pub continuation: Option<String>,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The kind, or for most errors the plural resource name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One of several reasons for a failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cause {
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Status { code, reason, message: message.into(), details: None, continuation: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        details.group = group.into();
        details.kind = kind.into();
        details.name = name.into();
        self
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Status::new(400, "BadRequest", message)
    }

    /// 401: credentials were given that prove nothing, or none where some are needed.
    pub fn unauthorized() -> Self {
        Status::new(401, "Unauthorized", "Unauthorized")
    }

    /// 403: `pods "x" is forbidden: …`; `name` may be empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let what = qualified(group, resource);
        let message = match (what.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {name:?} is forbidden: {why}"),
        };
        Status::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 404: `pods "x" not found`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        Status::new(404, "NotFound", format!("{} {name:?} not found", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// 404 for a path that leads nowhere, or a subresource that the kind does not have.
    pub fn no_such_resource() -> Self {
        let mut status = Status::new(404, "NotFound", "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// 405: the path leads somewhere, though not with this method.
    pub fn no_such_method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut status = Status::new(405, "MethodNotAllowed", message);
        status.details = Some(Box::default());
        status
    }

    /// 405: the custom kind does not know this verb.
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind \"{}\"", qualified(group, resource));
        Status::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 406: the client accepts nothing that we can write.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        Status::new(406, "NotAcceptable", format!("only the following media types are accepted: {list}"))
    }

    /// 406: the object cannot be shown as the client asks for it.
    pub fn not_convertible(message: impl Into<String>) -> Self {
        Status::new(406, "NotAcceptable", message)
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        Status::new(409, "AlreadyExists", format!("{} {name:?} already exists", qualified(group, resource)))
            .about(group, resource, name)
    }

    /// 409: `Operation cannot be fulfilled on pods "x": …`.
    pub fn conflict(group: &str, resource: &str, name: &str, why: impl std::fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Status::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409: somebody else changed the object first.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Status::conflict(group, resource, name, why)
    }

    /// 409: server-side apply met fields of other managers.
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        let mut status = Status::new(409, "Conflict", message);
        status.details = Some(Box::new(Details { causes, ..Details::default() }));
        status
    }

    /// 410 `Expired`: the revision asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Status::new(410, "Expired", message)
    }

    /// 413: the body is larger than `limit_bytes`.
    pub fn too_large(limit_bytes: usize) -> Self {
        Status::too_much(format!("limit is {limit_bytes}"))
    }

    /// 413: the body holds too much of something.
    pub fn too_much(why: impl std::fmt::Display) -> Self {
        Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
    }

    /// 415: the body's format is not one that we read.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message =
            format!("the body of the request was in an unknown format - accepted media types include: {list}");
        Status::new(415, "UnsupportedMediaType", message)
    }

    /// 422: `Pod "x" is invalid: spec.nodeName: …`, with a cause per error.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let list = match errors {
            [one] => one.to_string(),
            many => {
                let texts: Vec<String> = many.iter().map(ToString::to_string).collect();
                format!("[{}]", texts.join(", "))
            }
        };
        let mut status = Status::new(422, "Invalid", format!("{} {name:?} is invalid: {list}", qualified(group, kind)))
            .about(group, kind, name);
        let causes = errors.iter().map(|error| Cause {
            reason: error.kind.reason(),
            message: error.body(),
            field: error.field.clone(),
        });
        status.details.get_or_insert_default().causes = causes.collect();
        status
    }

    /// 422: the object itself is fine, but cannot be processed (a patch that does not apply).
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Status::new(422, "Invalid", message)
    }

    /// 429: try again in `retry_after_seconds`.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let mut status = Status::new(429, "TooManyRequests", message);
        status.details =
            Some(Box::new(Details { retry_after_seconds: Some(retry_after_seconds), ..Details::default() }));
        status
    }

    /// 500: our fault, or the disk's.
    pub fn internal(why: impl std::fmt::Display) -> Self {
        let mut status = Status::new(500, "InternalError", format!("Internal error occurred: {why}"));
        status.details = Some(Box::new(Details {
            causes: vec![Cause { message: why.to_string(), ..Cause::default() }],
            ..Details::default()
        }));
        status
    }

    /// 500 without a reason, as Kubernetes says what it does not support.
    pub fn failure(message: impl Into<String>) -> Self {
        Status::new(500, "", message)
    }

    /// 503: a part that the request needs cannot be reached now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Status::new(503, "ServiceUnavailable", message)
    }

    /// 504: the answer did not come in time.
    pub fn timeout(message: impl std::fmt::Display, retry_after_seconds: u32) -> Self {
        let mut status = Status::new(504, "Timeout", format!("Timeout: {message}"));
        status.details =
            Some(Box::new(Details { retry_after_seconds: Some(retry_after_seconds), ..Details::default() }));
        status
    }

    /// 504: the request took as long as any may.
    pub fn request_timed_out() -> Self {
        Status::timeout("request did not complete within the allotted timeout", 1)
    }

    /// 504: the client asks for a revision that has not happened.
    pub fn future_revision(requested: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        let mut status = Status::timeout(message, 1);
        status.details.get_or_insert_default().causes = vec![Cause {
            reason: "ResourceVersionTooLarge",
            message: "Too large resource version".into(),
            ..Cause::default()
        }];
        status
    }

    /// The `v1` Status object.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            kind: &'static str,
            api_version: &'static str,
            metadata: Metadata<'a>,
            status: &'static str,
            message: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            reason: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: &'a Option<Box<Details>>,
            code: u16,
        }
        #[derive(Serialize)]
        struct Metadata<'a> {
            #[serde(rename = "continue", skip_serializing_if = "Option::is_none")]
            continuation: Option<&'a str>,
        }
        let wire = Wire {
            kind: "Status",
            api_version: "v1",
            metadata: Metadata { continuation: self.continuation.as_deref() },
            status: "Failure",
            message: &self.message,
            reason: self.reason,
            details: &self.details,
            code: self.code,
        };
        serde_json::to_vec(&wire).unwrap_or_default()
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl From<k8w_storage::datastore::Error> for Status {
    fn from(error: k8w_storage::datastore::Error) -> Self {
        use k8w_storage::datastore::Error;
        match error {
            Error::Compacted { requested, compacted } => {
                Status::expired(format!("too old resource version: {requested} ({compacted})"))
            }
            Error::FutureRevision { requested, current } => Status::future_revision(requested, current),
            Error::Invalid(why) => Status::bad_request(why),
            other => Status::internal(other),
        }
    }
}

/// `deployments.apps`, or just `pods` in the core group.
pub fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_string() } else { format!("{name}.{group}") }
}
