//! Namespace: a scope for names.

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, text};
use crate::{names, rules};

/// The label that says a namespace's name, so that selectors can.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Namespace", "namespaces", "io.k8s.api.core.v1.Namespace")
        .cluster_scoped()
        .short_names(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .subresources(vec![Subresource::of_parent("finalize", &["update"]), Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::at("Status", "string", "status.phase").describe("The status of the namespace"),
            Column::age(),
        ])
        .selectable(vec![SelectableField::at("status.phase")])
        .strategy(Namespace)
}

struct Namespace;

impl Strategy for Namespace {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn validate_name(&self, name: &str) -> Vec<String> {
        names::dns_label(name)
    }

    fn default(&self, namespace: &mut Value) {
        let name = text(namespace, &["metadata", "name"]).to_owned();
        if !name.is_empty()
            && let Some(labels) = object::ensure(namespace, &["metadata", "labels"])
        {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }

    /// A namespace starts active, and ends when the one that empties it says so.
    fn prepare_for_create(&self, namespace: &mut Value) {
        self.default(namespace);
        if let Some(object) = namespace.as_object_mut() {
            object.insert("status".to_owned(), json!({"phase": "Active"}));
        }
        let Some(spec) = object::ensure(namespace, &["spec"]) else { return };
        let finalizers = spec.entry("finalizers").or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(|f| f == "kubernetes")
        {
            finalizers.push("kubernetes".into());
        }
    }

    /// The spec's finalizers change through `/finalize` alone.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        object::keep(new, old, "spec");
    }

    fn validate(&self, namespace: &Value) -> Vec<FieldError> {
        let root = Field::root(namespace);
        let mut errors = Vec::new();
        for finalizer in root.get("spec").get("finalizers").items() {
            rules::form(&finalizer, names::qualified_name, &mut errors);
            if !finalizer.text().contains('/') && finalizer.text() != "kubernetes" {
                let detail = "name is neither a standard finalizer name nor is it fully qualified";
                errors.push(finalizer.invalid(detail));
            }
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let phase = status.get("phase");
        let deleted = get(new, &["metadata", "deletionTimestamp"]).is_some();
        let mut errors = Vec::new();
        if deleted && phase.text() != "Terminating" {
            errors.push(phase.invalid("may only be 'Terminating' if `deletionTimestamp` is not empty"));
        }
        if !deleted && phase.text() != "Active" {
            errors.push(phase.invalid("may only be 'Active' if `deletionTimestamp` is empty"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row};

    #[test]
    fn a_new_namespace() {
        check_default(
            "namespaces",
            "metadata: {name: a}",
            expect![[r#"
                metadata:
                  labels:
                    kubernetes.io/metadata.name: a
                  name: a
                spec: {}
                status: {}
            "#]],
        );
        let mut namespace = json!({"metadata": {"name": "a"}, "status": {"phase": "Terminating"}});
        Namespace.prepare_for_create(&mut namespace);
        assert_eq!(namespace["status"], json!({"phase": "Active"}));
        assert_eq!(namespace["spec"], json!({"finalizers": ["kubernetes"]}));
    }

    #[test]
    fn names() {
        check(
            "namespaces",
            "metadata: {name: a.b, namespace: c}",
            expect![[r#"
                metadata.name: Invalid value: "a.b": must not contain dots
                metadata.namespace: Forbidden: not allowed on this type
            "#]],
        );
    }

    #[test]
    fn row() {
        check_row(
            "namespaces",
            "{metadata: {name: a, creationTimestamp: '2026-01-01T00:59:00Z'}, status: {phase: Active}}",
            expect!["Name=a | Status=Active | Age=60s"],
        );
    }
}
