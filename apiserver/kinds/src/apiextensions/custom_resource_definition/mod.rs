//! CustomResourceDefinition: a kind that the cluster's users add.
//!
//! What a definition promises is told by its conditions, which [`status::reconcile`] works out; the kinds it defines are
//! made by [`custom_resource`](super::custom_resource).

mod ca_bundle;
mod schemas;
pub mod status;
mod update;
mod validate;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::GROUP;
use crate::field::FieldError;
use crate::kind::{Column, KindDef, Shape, Strategy, Subresource, prepare_for_update};
use crate::object::{self, list, text};

const SCHEMA: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";

/// Keeps a definition until all of its objects are gone.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub fn definition() -> KindDef {
    KindDef::builtin(GROUP, "v1", "CustomResourceDefinition", "customresourcedefinitions", SCHEMA)
        .cluster_scoped()
        .short_names(&["crd", "crds"])
        .categories(&["api-extensions"])
        .subresources(vec![Subresource::status()])
        .columns(vec![Column::name(), Column::created_at()])
        .strategy(CustomResourceDefinition)
}

/// The versions of a definition.
pub fn versions(definition: &Value) -> &[Value] {
    list(definition, &["spec", "versions"])
}

/// The version that objects are stored in.
pub fn storage_version(definition: &Value) -> Option<&str> {
    let storage = |version: &&Value| object::get(version, &["storage"]) == Some(&Value::Bool(true));
    versions(definition).iter().find(storage).map(|version| text(version, &["name"]))
}

struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, definition: &mut Value) {
        let kind = text(definition, &["spec", "names", "kind"]).to_owned();
        if let Some(names) = object::ensure(definition, &["spec", "names"]) {
            object::set_default_text(names, "singular", &kind.to_lowercase());
            if !kind.is_empty() {
                object::set_default_text(names, "listKind", &format!("{kind}List"));
            }
        }
        if let Some(spec) = object::ensure(definition, &["spec"]) {
            object::set_default(spec, "conversion", json!({"strategy": "None"}));
        }
        if list(definition, &["status", "storedVersions"]).is_empty()
            && let Some(storage) = storage_version(definition).map(str::to_owned)
            && let Some(status) = object::ensure(definition, &["status"])
        {
            status.insert("storedVersions".to_owned(), json!([storage]));
        }
        let service = ["spec", "conversion", "webhook", "clientConfig", "service"];
        if let Some(Value::Object(service)) = object::get_mut(definition, &service) {
            object::set_default(service, "port", 443);
        }
    }

    fn prepare_for_create(&self, definition: &mut Value) {
        crate::kind::prepare_for_create(self.shape(), definition);
        let stored: Vec<&str> = storage_version(definition).into_iter().collect();
        let status = json!({"acceptedNames": {"kind": "", "plural": ""}, "conditions": [], "storedVersions": stored});
        definition["status"] = status;
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        prepare_for_update(self.shape(), new, old);
        let Some(storage) = storage_version(new).map(str::to_owned) else { return };
        let Some(status) = object::ensure(new, &["status"]) else { return };
        if let Value::Array(stored) = status.entry("storedVersions").or_insert_with(|| json!([]))
            && stored.iter().all(|version| *version != *storage)
        {
            stored.push(storage.into());
        }
    }

    fn prepare_for_delete(&self, definition: &mut Value, now: Timestamp) {
        let Some(metadata) = object::ensure(definition, &["metadata"]) else { return };
        if let Value::Array(finalizers) = metadata.entry("finalizers").or_insert_with(|| json!([]))
            && finalizers.iter().all(|finalizer| finalizer != CLEANUP_FINALIZER)
        {
            finalizers.push(CLEANUP_FINALIZER.into());
        }
        status::set_condition(definition, &status::DELETION_PENDING, now);
    }

    fn validate(&self, definition: &Value) -> Vec<FieldError> {
        validate::new(definition)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        update::validate(new, old)
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validate::accepted_names(new)
    }

    fn warnings(&self, definition: &Value) -> Vec<String> {
        schemas::warnings(definition, None)
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        schemas::warnings(new, Some(old))
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
