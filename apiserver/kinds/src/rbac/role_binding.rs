//! RoleBinding.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", "io.k8s.api.rbac.v1.RoleBinding")
        .strategy(RoleBinding)
}

struct RoleBinding;

impl Strategy for RoleBinding {}
