//! ReplicaSet: a number of like pods.

use crate::kind::{KindDef, SelectableField, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    KindDef::builtin("apps", "v1", "ReplicaSet", "replicasets", "io.k8s.api.apps.v1.ReplicaSet")
        .short_names(&["rs"])
        .categories(&["all"])
        .subresources(vec![Subresource::scale(), Subresource::status()])
        .selectable(vec![SelectableField::computed("status.replicas", |set| {
            crate::object::int(set, &["status", "replicas"]).to_string()
        })])
        .strategy(ReplicaSet)
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }
}
