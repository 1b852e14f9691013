//! ServiceAccount: the identity of what runs in pods.

use crate::kind::{KindDef, Strategy, Subresource};

pub fn definition() -> KindDef {
    let token = Subresource::other("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"]);
    KindDef::builtin("", "v1", "ServiceAccount", "serviceaccounts", "io.k8s.api.core.v1.ServiceAccount")
        .short_names(&["sa"])
        .subresources(vec![token])
        .strategy(ServiceAccount)
}

struct ServiceAccount;

impl Strategy for ServiceAccount {}
