//! Service: a stable name and address for a set of pods.

use crate::kind::{KindDef, SelectableField, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    let proxy =
        Subresource::other("proxy", ("", "v1", "ServiceProxyOptions"), &["create", "delete", "get", "patch", "update"]);
    KindDef::builtin("", "v1", "Service", "services", "io.k8s.api.core.v1.Service")
        .short_names(&["svc"])
        .categories(&["all"])
        .subresources(vec![proxy, Subresource::status()])
        .selectable(vec![SelectableField::at("spec.clusterIP"), SelectableField::at("spec.type")])
        .strategy(Service)
}

struct Service;

impl Strategy for Service {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }
}
