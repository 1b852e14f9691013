//! Secret: small sensitive data.

use crate::kind::{KindDef, SelectableField, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Secret", "secrets", "io.k8s.api.core.v1.Secret")
        .selectable(vec![SelectableField::at("type")])
        .strategy(Secret)
}

struct Secret;

impl Strategy for Secret {}
