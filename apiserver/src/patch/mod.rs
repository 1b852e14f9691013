//! The patch formats: <https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>.

use crate::status::Status;
use json_patch::PatchOperation;
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::schema::merge_patch::merge_patch;
use k8w_kinds::schema::{Decoded, Schema, go};
use serde_json::Value;

/// How many operations a JSON patch may have, as in Kubernetes.
const JSON_PATCH_LIMIT_OPERATIONS: usize = 10_000;
/// How much the copy operations of a JSON patch may copy together, as in Kubernetes: as much as a body may hold.
const JSON_PATCH_LIMIT_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// The media types of patches.
pub const MEDIA_TYPES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// A patch that was read, but not applied to anything yet.
#[derive(Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7396.
    Merge(Value),
    /// Merges lists by their keys.
    Strategic(Value),
}

impl Patch {
    /// Reads a patch; `None` for a media type that is not a patch of these three.
    pub fn read(media_type: &str, body: &[u8]) -> Result<Option<Self>, Status> {
        let patch = match media_type {
            "application/json-patch+json" => {
                let patch: json_patch::Patch = serde_json::from_slice(body).map_err(unreadable)?;
                if patch.0.len() > JSON_PATCH_LIMIT_OPERATIONS {
                    return Err(Status::too_much(format!(
                        "The allowed maximum operations in a JSON patch is {JSON_PATCH_LIMIT_OPERATIONS}, got {}",
                        patch.0.len()
                    )));
                }
                Patch::Json(patch)
            }
            "application/merge-patch+json" => Patch::Merge(object(body)?),
            "application/strategic-merge-patch+json" => Patch::Strategic(object(body)?),
            _ => return Ok(None),
        };
        Ok(Some(patch))
    }

    /// What the patch makes of `original`.
    pub fn apply(&self, schema: &Schema, original: &Value) -> Result<Value, Status> {
        match self {
            Patch::Json(operations) => json(original.clone(), operations),
            Patch::Merge(patch) => {
                let mut patched = original.clone();
                merge_patch(&mut patched, patch.clone());
                Ok(patched)
            }
            Patch::Strategic(patch) => {
                schema.strategic_merge(original, patch).map_err(|error| Status::bad_request(error.to_string()))
            }
        }
    }

    /// What of the patched object has a place in the schema, and what not. A strategic merge patch never becomes text in
    /// Kubernetes on its way to an object, so that what does not fit is told in other words.
    ///
    /// # Errors
    /// 422 for a value that lacks its field's type. `body` is the patch as it was sent.
    pub fn check(&self, schema: &Schema, patched: Value, body: &[u8]) -> Result<Decoded, Status> {
        let checked = match self {
            Patch::Strategic(_) => schema.restore(patched),
            Patch::Json(_) | Patch::Merge(_) => schema.check(patched),
        };
        checked.map_err(|error| self.unprocessable(body, error.to_string()))
    }

    /// 422 for a patch whose result has unknown fields, where the client wants to be told so.
    pub fn strict_error(&self, body: &[u8], issues: &[String]) -> Status {
        self.unprocessable(body, format!("strict decoding error: {}", issues.join(", ")))
    }

    fn unprocessable(&self, body: &[u8], why: String) -> Status {
        let shown = match self {
            Patch::Strategic(patch) => go(patch),
            Patch::Json(_) | Patch::Merge(_) => String::from_utf8_lossy(body).into_owned(),
        };
        Status::invalid("", "", "", &[FieldError::invalid(&FieldPath::new("patch"), shown, why)])
    }

    /// The resource version that the patch itself insists on.
    pub fn resource_version(&self) -> Option<&str> {
        let text = |value: &'_ Value| value.is_string();
        match self {
            Patch::Json(_) => None,
            Patch::Merge(patch) | Patch::Strategic(patch) => {
                patch.pointer("/metadata/resourceVersion").filter(|value| text(value)).and_then(Value::as_str)
            }
        }
    }
}

/// Applies operation by operation. A few copies of copies would make any size of a small object, so what they copy
/// counts, as in Kubernetes.
fn json(mut patched: Value, operations: &json_patch::Patch) -> Result<Value, Status> {
    let mut copied_bytes = 0;
    for operation in &operations.0 {
        if let PatchOperation::Copy(copy) = operation
            && let Some(source) = patched.pointer(copy.from.as_str())
        {
            copied_bytes += size_bytes(source);
            if copied_bytes > JSON_PATCH_LIMIT_COPIED_BYTES {
                return Err(Status::too_much(format!(
                    "The copy operations of a JSON patch may copy {JSON_PATCH_LIMIT_COPIED_BYTES} bytes"
                )));
            }
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|error| {
            Status::unprocessable(format!("the server rejected our request due to an error in our request: {error}"))
        })?;
    }
    Ok(patched)
}

/// How long a value is as JSON, without writing it anywhere.
fn size_bytes(value: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(0);
    // Counting cannot fail, and a value is always JSON.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

fn object(body: &[u8]) -> Result<Value, Status> {
    let value: Value = serde_json::from_slice(body).map_err(unreadable)?;
    if value.is_object() { Ok(value) } else { Err(Status::bad_request("a patch must be a JSON object")) }
}

fn unreadable(error: serde_json::Error) -> Status {
    Status::bad_request(format!("error decoding patch: {error}"))
}
