//! Deployment: a number of like pods, rolled from version to version.

use crate::kind::{KindDef, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    KindDef::builtin("apps", "v1", "Deployment", "deployments", "io.k8s.api.apps.v1.Deployment")
        .short_names(&["deploy"])
        .categories(&["all"])
        .subresources(vec![Subresource::scale(), Subresource::status()])
        .strategy(Deployment)
}

struct Deployment;

impl Strategy for Deployment {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }
}
