//! RuntimeClass: which handler of a node runs a pod.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "io.k8s.api.node.v1.RuntimeClass")
        .cluster_scoped()
        .strategy(RuntimeClass)
}

struct RuntimeClass;

impl Strategy for RuntimeClass {}
