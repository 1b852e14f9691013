//! Scale: the body of every `scale` subresource. It is stored nowhere, so it is no row of the registry.

use std::sync::OnceLock;

use crate::kind::{Column, KindDef};

/// The kind whose schema and columns answers of `scale` have.
pub fn kind() -> &'static KindDef {
    static KIND: OnceLock<KindDef> = OnceLock::new();
    KIND.get_or_init(|| {
        KindDef::builtin("autoscaling", "v1", "Scale", "scales", "io.k8s.api.autoscaling.v1.Scale").columns(vec![
            Column::name(),
            Column::at("Desired", "integer", "spec.replicas").describe("How many replicas there should be."),
            Column::at("Available", "integer", "status.replicas").describe("How many replicas there are."),
            Column::age(),
        ])
    })
}
