//! ServiceAccount: the identity of what runs in pods.

use crate::kind::{Column, KindDef, Strategy, Subresource};
use crate::object;

pub fn definition() -> KindDef {
    let token = Subresource::other("token", ("authentication.k8s.io", "v1", "TokenRequest"), &["create"]);
    KindDef::builtin("", "v1", "ServiceAccount", "serviceaccounts", "io.k8s.api.core.v1.ServiceAccount")
        .short_names(&["sa"])
        .subresources(vec![token])
        .columns(vec![
            Column::name(),
            Column::new("Secrets", "string", |account, _| object::list(account, &["secrets"]).len().into())
                .describe("Secrets is a list of the secrets in the same namespace that pods of this account may use."),
            Column::age(),
        ])
        .answers_deleted()
        .strategy(ServiceAccount)
}

struct ServiceAccount;

impl Strategy for ServiceAccount {}
