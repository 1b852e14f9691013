//! Role.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("rbac.authorization.k8s.io", "v1", "Role", "roles", "io.k8s.api.rbac.v1.Role").strategy(Role)
}

struct Role;

impl Strategy for Role {}
