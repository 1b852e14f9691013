//! ClusterRoleBinding.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin(
        "rbac.authorization.k8s.io",
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "io.k8s.api.rbac.v1.ClusterRoleBinding",
    )
    .cluster_scoped()
    .strategy(ClusterRoleBinding)
}

struct ClusterRoleBinding;

impl Strategy for ClusterRoleBinding {}
