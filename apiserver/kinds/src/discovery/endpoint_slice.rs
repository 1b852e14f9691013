//! EndpointSlice: a part of the addresses behind a Service.

use crate::kind::{KindDef, Shape, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin(
        "discovery.k8s.io",
        "v1",
        "EndpointSlice",
        "endpointslices",
        "io.k8s.api.discovery.v1.EndpointSlice",
    )
    .strategy(EndpointSlice)
}

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }
}
