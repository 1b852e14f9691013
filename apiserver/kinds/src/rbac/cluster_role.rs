//! ClusterRole.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", "io.k8s.api.rbac.v1.ClusterRole")
        .cluster_scoped()
        .strategy(ClusterRole)
}

struct ClusterRole;

impl Strategy for ClusterRole {}
