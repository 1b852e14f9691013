//! The rules that all custom kinds share (`k8s.io/apiextensions-apiserver` `pkg/registry/customresource`); their values are
//! checked by their schema.

use serde_json::Value;

use crate::field::{FieldError, FieldPath};
use crate::kind::{self, ScalePaths, Shape, Strategy};
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

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        kind::keep_all_but_status(new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(scale) = &self.scale {
            replicas(object, &scale.spec_replicas, &mut errors);
            replicas(object, &scale.status_replicas, &mut errors);
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(scale) = &self.scale {
            replicas(new, &scale.status_replicas, &mut errors);
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        metadata::finalizer_warnings(object)
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

/// What `scale` shows as a number must be one, where it is set.
fn replicas(object: &Value, path: &str, errors: &mut Vec<FieldError>) {
    let names: Vec<&str> = path.split('.').collect();
    let Some(found) = object::get(object, &names) else { return };
    let shown = format!(".{path}");
    let path = FieldPath::new(&shown);
    let detail = match found.as_i64() {
        None => format!("{shown} accessor error: {found} is not an int64"),
        Some(..0) => "should be a non-negative integer".to_owned(),
        Some(count) if count > i64::from(i32::MAX) => format!("should be less than or equal to {}", i32::MAX),
        Some(_) => return,
    };
    errors.push(FieldError::invalid(&path, found.clone(), detail));
}
