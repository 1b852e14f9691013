//! IngressClass: which controller serves an Ingress.

use crate::kind::{KindDef, Shape, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin(
        "networking.k8s.io",
        "v1",
        "IngressClass",
        "ingressclasses",
        "io.k8s.api.networking.v1.IngressClass",
    )
    .cluster_scoped()
    .strategy(IngressClass)
}

struct IngressClass;

impl Strategy for IngressClass {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }
}
