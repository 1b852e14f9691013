//! Namespace: a scope for names.

use crate::kind::{KindDef, SelectableField, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Namespace", "namespaces", "io.k8s.api.core.v1.Namespace")
        .cluster_scoped()
        .short_names(&["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .subresources(vec![Subresource::of_parent("finalize", &["update"]), Subresource::status()])
        .selectable(vec![SelectableField::at("status.phase")])
        .strategy(Namespace)
}

struct Namespace;

impl Strategy for Namespace {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }
}
