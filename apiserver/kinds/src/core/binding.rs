//! Binding: a pod's place on a node, which is only ever created.

use crate::kind::KindDef;

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Binding", "bindings", "io.k8s.api.core.v1.Binding").verbs(&["create"])
}
