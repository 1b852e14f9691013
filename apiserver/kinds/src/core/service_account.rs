//! ServiceAccount: the identity of what runs in pods.

use serde_json::{Value, json};

use crate::field::Field;
use crate::kind::{self, Column, KindDef, Strategy, Subresource};
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

/// The annotation by which an account's pods could mount nothing but its Secrets.
const ENFORCES_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn prepare_for_create(&self, account: &mut Value) {
        kind::prepare_for_create(self.shape(), account);
        keep_names_of_secrets(account);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        keep_names_of_secrets(new);
    }

    fn warnings(&self, account: &Value) -> Vec<String> {
        let root = Field::root(account);
        let metadata = root.get("metadata");
        let annotations = metadata.get("annotations");
        let enforces = annotations.key(ENFORCES_SECRETS);
        let since = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        if enforces.is_set() { vec![format!("{}: {since}", enforces.path)] } else { Vec::new() }
    }

    /// It is said to who adds the annotation.
    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        let had = object::get(old, &["metadata", "annotations", ENFORCES_SECRETS]).is_some();
        if had { Vec::new() } else { self.warnings(new) }
    }
}

/// Of references to Secrets nothing but the name says anything.
fn keep_names_of_secrets(account: &mut Value) {
    for secret in object::list_mut(account, &["secrets"]) {
        *secret = json!({"name": object::text(secret, &["name"])});
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{kind, yaml};

    #[test]
    fn secrets_are_named() {
        let strategy = &kind("serviceaccounts").strategy;
        let mut account = yaml("{metadata: {name: a}, secrets: [{kind: Secret, name: s, uid: u}]}");
        strategy.prepare_for_create(&mut account);
        assert_eq!(account, yaml("{metadata: {name: a}, secrets: [{name: s}]}"));
    }

    #[test]
    fn what_is_deprecated_is_said() {
        let account = yaml("{metadata: {annotations: {kubernetes.io/enforce-mountable-secrets: 'true'}}}");
        assert_eq!(
            kind("serviceaccounts").strategy.warnings(&account),
            [
                "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces \
              to isolate access to mounted secrets"
            ]
        );
        assert_eq!(kind("serviceaccounts").strategy.update_warnings(&account, &account), [""; 0]);
    }
}
