//! ConfigMap: configuration as text and bytes.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "ConfigMap", "configmaps", "io.k8s.api.core.v1.ConfigMap")
        .short_names(&["cm"])
        .strategy(ConfigMap)
}

struct ConfigMap;

impl Strategy for ConfigMap {}
