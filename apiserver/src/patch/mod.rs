//! The patch formats: <https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply>.

use crate::status::Status;
use json_patch::PatchOperation;
use k8w_kinds::field::{FieldError, FieldPath};
use k8w_kinds::schema::decode::MAX_ISSUES;
use k8w_kinds::schema::merge_patch::merge_patch;
use k8w_kinds::schema::{Decoded, Format, Schema, go};
use serde_json::Value;

/// How many operations a JSON patch may have, as in Kubernetes.
const JSON_PATCH_LIMIT_OPERATIONS: usize = 10_000;
/// How much the copy operations of a JSON patch may copy together, as in Kubernetes: as much as a body may hold.
const JSON_PATCH_LIMIT_COPIED_BYTES: usize = 3 * 1024 * 1024;

/// The media type of server-side apply.
pub const APPLY: &str = "application/apply-patch+yaml";
/// The media types of patches.
pub const MEDIA_TYPES: [&str; 4] =
    ["application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", APPLY];

/// A patch that was read, but not applied to anything yet.
#[derive(Debug)]
pub struct Patch {
    change: Change,
    /// What strict decoding would have refused of the patch itself, in Kubernetes' words.
    issues: Vec<String>,
}

#[derive(Debug)]
enum Change {
    /// RFC 6902.
    Json(json_patch::Patch),
    /// RFC 7396.
    Merge(Value),
    /// Merges lists by their keys.
    Strategic(Value),
}

impl Patch {
    /// Reads a patch; `None` for a media type that is not a patch of these three.
    ///
    /// # Errors
    /// 400 for what is none, 413 for too many operations.
    pub fn read(media_type: &str, body: &[u8]) -> Result<Option<Self>, Status> {
        if !MEDIA_TYPES[..3].contains(&media_type) {
            return Ok(None);
        }
        let decoded = Schema::any().decode(body, Format::Json);
        let Decoded { value, mut issues } = decoded.map_err(unreadable)?;
        let change = match media_type {
            "application/json-patch+json" => {
                issues.extend(unknown_members(&value));
                issues.iter_mut().for_each(|issue| issue.insert_str(0, "json patch "));
                Change::Json(operations(value)?)
            }
            "application/merge-patch+json" => Change::Merge(object(value)?),
            _ => Change::Strategic(object(value)?),
        };
        Ok(Some(Patch { change, issues }))
    }

    /// What the patch makes of `original`.
    pub fn apply(&self, schema: &Schema, original: &Value) -> Result<Value, Status> {
        match &self.change {
            Change::Json(operations) => json(original.clone(), operations),
            Change::Merge(patch) => {
                let mut patched = original.clone();
                merge_patch(&mut patched, patch.clone());
                Ok(patched)
            }
            Change::Strategic(patch) => {
                schema.strategic_merge(original, patch).map_err(|error| Status::bad_request(error.to_string()))
            }
        }
    }

    /// The patched original: what of it has a place in the schema, and what of it and of the patch strict decoding would
    /// refuse. A strategic merge patch never becomes text in Kubernetes on its way to an object, so that what does not fit
    /// is told in other words.
    ///
    /// # Errors
    /// Those of [`Patch::apply`], and 422 for a value that lacks its field's type.
    pub fn patched(&self, schema: &Schema, original: &Value) -> Result<Decoded, Status> {
        let patched = self.apply(schema, original)?;
        let checked = match &self.change {
            Change::Strategic(_) => schema.restore(patched),
            Change::Json(_) | Change::Merge(_) => schema.check(patched),
        };
        let mut decoded = checked.map_err(|error| self.unprocessable(schema, original, error.to_string()))?;
        decoded.issues.splice(0..0, self.issues.iter().cloned());
        Ok(decoded)
    }

    /// 422 for what strict decoding refuses, where the client wants that.
    pub fn strict_error(&self, schema: &Schema, original: &Value, issues: &[String]) -> Status {
        self.unprocessable(schema, original, format!("strict decoding error: {}", issues.join(", ")))
    }

    /// Kubernetes shows the patch, or what it made.
    fn unprocessable(&self, schema: &Schema, original: &Value, why: String) -> Status {
        let shown = match &self.change {
            Change::Strategic(patch) => go(patch),
            Change::Json(_) | Change::Merge(_) => {
                self.apply(schema, original).map(|patched| patched.to_string()).unwrap_or_default()
            }
        };
        Status::invalid("", "", "", &[FieldError::invalid(&FieldPath::new("patch"), shown, why)])
    }

    /// The resource version that the patch itself insists on.
    pub fn resource_version(&self) -> Option<&str> {
        match &self.change {
            Change::Json(_) => None,
            Change::Merge(patch) | Change::Strategic(patch) => {
                patch.pointer("/metadata/resourceVersion").and_then(Value::as_str)
            }
        }
    }
}

/// The operations of a JSON patch.
fn operations(patch: Value) -> Result<json_patch::Patch, Status> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > JSON_PATCH_LIMIT_OPERATIONS {
        return Err(Status::too_much(format!(
            "The allowed maximum operations in a JSON patch is {JSON_PATCH_LIMIT_OPERATIONS}, got {count}"
        )));
    }
    serde_json::from_value(patch).map_err(unreadable)
}

/// What the operations of a JSON patch have beside what operations have.
fn unknown_members(patch: &Value) -> impl Iterator<Item = String> {
    let operations = patch.as_array().into_iter().flatten().enumerate();
    let members = operations.flat_map(|(at, operation)| {
        operation.as_object().into_iter().flat_map(move |members| members.keys().map(move |name| (at, name)))
    });
    let unknown = members.filter(|(_, name)| !matches!(name.as_str(), "op" | "path" | "from" | "value"));
    unknown.take(MAX_ISSUES).map(|(at, name)| format!("unknown field {:?}", format!("[{at}].{name}")))
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

fn object(patch: Value) -> Result<Value, Status> {
    if patch.is_object() { Ok(patch) } else { Err(Status::bad_request("a patch must be a JSON object")) }
}

fn unreadable(error: impl std::fmt::Display) -> Status {
    Status::bad_request(format!("error decoding patch: {error}"))
}
