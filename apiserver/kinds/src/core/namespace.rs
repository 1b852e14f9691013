//! Namespace: a scope for names.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{self, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, text};
use crate::{metadata, names, rules};

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

    /// What comes by `/finalize` is a namespace with other finalizers.
    fn prepare_for_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value, _now: Timestamp) {
        object::keep(new, old, "status");
    }

    fn validate(&self, namespace: &Value) -> Vec<FieldError> {
        let root = Field::root(namespace);
        let spec = root.get("spec");
        let finalizers = spec.get("finalizers");
        let mut errors = Vec::new();
        for finalizer in finalizers.items() {
            self::finalizer(&Field::new(finalizer.value(), finalizers.path), &mut errors);
        }
        errors
    }

    /// Nothing of the spec changes here.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let phase = text(new, &["status", "phase"]);
        let deleted = get(new, &["metadata", "deletionTimestamp"]).is_some();
        let (only, detail) = match deleted {
            true => ("Terminating", "may only be 'Terminating' if `deletionTimestamp` is not empty"),
            false => ("Active", "may only be 'Active' if `deletionTimestamp` is empty"),
        };
        // Kubernetes writes it like this.
        let path = FieldPath::new("status");
        let path = path.child("Phase");
        if phase == only { Vec::new() } else { vec![FieldError::invalid(&path, phase, detail)] }
    }

    /// What empties a namespace leaves fewer finalizers.
    fn validate_subresource_update(&self, _subresource: &str, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let mut errors = Vec::new();
        for finalizer in root.get("spec").get("finalizers").items() {
            self::finalizer(&finalizer, &mut errors);
        }
        errors
    }
}

fn finalizer(finalizer: &Field, errors: &mut Vec<FieldError>) {
    rules::form(finalizer, names::qualified_name, errors);
    if !metadata::is_qualified(finalizer.text()) {
        errors.push(finalizer.invalid("name is neither a standard finalizer name nor is it fully qualified"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, yaml};

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
            "{metadata: {name: a.b, namespace: c}, spec: {finalizers: [orphan, mine, 'a b/c']}}",
            expect![[r#"
                metadata.name: Invalid value: "a.b": must not contain dots
                metadata.namespace: Forbidden: not allowed on this type
                spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified
                spec.finalizers: Invalid value: "a b/c": prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
    }

    #[test]
    fn a_phase_goes_with_the_deletion() {
        let of = |metadata: &str, phase: &str| {
            let namespace = yaml(&format!("{{metadata: {metadata}, status: {{phase: {phase}}}}}"));
            let errors = Namespace.validate_status_update(&namespace, &namespace);
            errors.iter().map(|error| format!("{error}\n")).collect::<String>()
        };
        let deleted = "{deletionTimestamp: '2026-01-01T00:00:00Z'}";
        let rows = [("{}", "Active"), ("{}", "Terminating"), (deleted, "Active"), (deleted, "Terminating")];
        expect![[r#"
            status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty
            status.Phase: Invalid value: "Active": may only be 'Terminating' if `deletionTimestamp` is not empty
        "#]]
        .assert_eq(&rows.map(|(metadata, phase)| of(metadata, phase)).concat());
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
