//! The rules that all custom kinds share (`k8s.io/apiextensions-apiserver` `pkg/registry/customresource`); their values are
//! checked by their schema.

use jiff::Timestamp;
use serde_json::Value;

use crate::field::{FieldError, FieldPath};
use crate::kind::{self, ScalePaths, Shape, Strategy};
use crate::schema::{go, go_type};
use crate::{metadata, object};

/// A kind by what its definition lets it have.
pub struct CustomResource {
    pub has_status: bool,
    pub scale: Option<ScalePaths>,
}

impl Strategy for CustomResource {
    fn shape(&self) -> Shape {
        Shape { status: self.has_status, generation: true }
    }

    /// Any change outside of metadata counts, also of a status that is no subresource.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        if self.has_status {
            object::keep(new, old, "status");
        }
        let content = |value: &Value| {
            let mut members = value.as_object().cloned().unwrap_or_default();
            members.remove("metadata");
            members
        };
        let generation = object::int(old, &["metadata", "generation"]);
        let counted = if content(new) == content(old) { generation } else { generation + 1 };
        if let Some(metadata) = object::ensure(new, &["metadata"])
            && counted > 0
        {
            metadata.insert("generation".to_owned(), counted.into());
        }
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::keep_all_but_status(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let Some(scale) = &self.scale else { return Vec::new() };
        replicas(object, &scale.spec_replicas).into_iter().chain(scale_status(object, scale)).collect()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        self.scale.iter().flat_map(|scale| scale_status(new, scale)).collect()
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        metadata::finalizer_warnings(object, None)
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        metadata::finalizer_warnings(new, Some(old))
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

fn scale_status(object: &Value, scale: &ScalePaths) -> impl Iterator<Item = FieldError> {
    let selector = found(object, &scale.selector).filter(|selector| !selector.is_string());
    let selector = selector.map(|selector| not_a(&scale.selector, selector, "string", ""));
    replicas(object, &scale.status_replicas).into_iter().chain(selector)
}

/// What `scale` shows as a number must be one, where it is set.
fn replicas(object: &Value, path: &str) -> Option<FieldError> {
    let found = found(object, path)?;
    let detail = match found.as_i64() {
        None => return Some(not_a(path, found, "int64", 0)),
        Some(..0) => "should be a non-negative integer".to_owned(),
        Some(count) if count > i64::from(i32::MAX) => format!("should be less than or equal to {}", i32::MAX),
        Some(_) => return None,
    };
    Some(FieldError::invalid(&FieldPath::new(&format!(".{path}")), found.clone(), detail))
}

fn found<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    object::get(object, &path.split('.').collect::<Vec<_>>())
}

/// In the place of what cannot be read Kubernetes shows the zero of what it wanted to read.
fn not_a(path: &str, found: &Value, wanted: &str, zero: impl Into<Value>) -> FieldError {
    let detail = format!(".{path} accessor error: {} is of the type {}, expected {wanted}", go(found), go_type(found));
    FieldError::invalid(&FieldPath::new(&format!(".{path}")), zero, detail)
}
