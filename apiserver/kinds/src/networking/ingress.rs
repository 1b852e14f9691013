//! Ingress: HTTP from outside to Services, by host and path.

use crate::kind::{KindDef, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    KindDef::builtin("networking.k8s.io", "v1", "Ingress", "ingresses", "io.k8s.api.networking.v1.Ingress")
        .short_names(&["ing"])
        .subresources(vec![Subresource::status()])
        .strategy(Ingress)
}

struct Ingress;

impl Strategy for Ingress {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }
}
