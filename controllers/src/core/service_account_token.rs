//! Fills the Secrets that ask for a service account's token, and deletes them with the account
//! (`k8s.io/kubernetes/pkg/controller/serviceaccount/tokens_controller.go`).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8w_kinds::core::service_account_token::{
    ACCOUNT_NAME, ACCOUNT_UID, NAMESPACE, ROOT_CA, SECRET_TYPE, SecretClaims, TOKEN,
};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, Step, Target};
use crate::pods;
use crate::resource::{Key, SECRETS, SERVICE_ACCOUNTS};
use crate::world::{Delta, Object, World};

/// How long to wait before a token that could not be signed is tried again.
const RETRY: Duration = Duration::from_secs(60);

/// Signs the tokens that Secrets hold.
pub trait TokenSigner: Debug + Send + Sync {
    /// The signed token.
    ///
    /// # Errors
    /// Why there is none, in words.
    fn sign(&self, claims: &SecretClaims) -> Result<String, String>;
}

pub struct ServiceAccountTokens {
    root_ca: ByteString,
    signer: Option<Arc<dyn TokenSigner>>,
}

impl ServiceAccountTokens {
    /// Puts this PEM bundle beside the tokens, unless it is empty; without a signer no token is made.
    pub fn new(root_ca_pem: &str, signer: Option<Arc<dyn TokenSigner>>) -> Self {
        Self { root_ca: ByteString(root_ca_pem.into()), signer }
    }

    /// What the Secret lacks of its account's token.
    fn missing(&self, secret: &Secret, account: &ServiceAccount) -> Result<BTreeMap<&'static str, ByteString>, String> {
        let key = Key::of(&secret.metadata);
        let held = |name: &str| secret.data.as_ref().and_then(|data| data.get(name)).filter(|held| !held.0.is_empty());
        let mut missing = BTreeMap::new();
        if !self.root_ca.0.is_empty() && held(ROOT_CA) != Some(&self.root_ca) {
            missing.insert(ROOT_CA, self.root_ca.clone());
        }
        if held(NAMESPACE).is_none() {
            missing.insert(NAMESPACE, ByteString(key.namespace.as_bytes().to_vec()));
        }
        if let Some(signer) = self.signer.as_ref().filter(|_| held(TOKEN).is_none()) {
            let (name, uid) = (&account.metadata.name, &account.metadata.uid);
            let [name, uid] = [name, uid].map(|text| text.as_deref().unwrap_or_default());
            let token = signer.sign(&SecretClaims::new(&key.namespace, &key.name, name, uid))?;
            missing.insert(TOKEN, ByteString(token.into_bytes()));
        }
        Ok(missing)
    }
}

impl Controller for ServiceAccountTokens {
    fn name(&self) -> &'static str {
        "serviceaccount-token"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Secret(secret) => wake.now(Key::of(&secret.metadata)),
            Object::ServiceAccount(account) => {
                let key = Key::of(&account.metadata);
                let tokens = world.secrets.in_namespace(&key.namespace);
                let own = tokens.filter(|secret| annotation(secret, ACCOUNT_NAME) == &*key.name);
                own.for_each(|secret| wake.now(Key::of(&secret.metadata)));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(secret) = world.secrets.by_key(key) else { return without_references(key, world) };
        if secret.type_.as_deref() != Some(SECRET_TYPE) {
            return plan;
        }
        let (name, uid) = (annotation(secret, ACCOUNT_NAME), annotation(secret, ACCOUNT_UID));
        let account = world.service_accounts.get(&key.namespace, name);
        let Some(account) = account.filter(|account| uid.is_empty() || account.metadata.uid.as_deref() == Some(uid))
        else {
            let uid = Some(uid.to_owned()).filter(|uid| !uid.is_empty());
            plan.step(Step::CheckAbsent(Target::named(&SERVICE_ACCOUNTS, Key::new(&key.namespace, name), uid)));
            plan.delete(Target::new(&SECRETS, &secret.metadata));
            return plan;
        };
        match self.missing(secret, account) {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => {
                let annotations = json!({ ACCOUNT_NAME: name, ACCOUNT_UID: account.metadata.uid });
                let patch = json!({ "metadata": { "annotations": annotations }, "data": missing });
                plan.merge_patch(Target::exact(&SECRETS, &secret.metadata), patch);
            }
            Err(error) => {
                tracing::warn!(secret = %key, error, "the token cannot be signed");
                plan.requeue(RETRY);
            }
        }
        plan
    }
}

fn annotation<'s>(secret: &'s Secret, name: &str) -> &'s str {
    pods::annotation(&secret.metadata, name).unwrap_or_default()
}

/// Accounts do not name a Secret any more that is gone.
fn without_references(key: &Key, world: &World) -> Plan {
    let mut plan = Plan::none();
    for account in world.service_accounts.in_namespace(&key.namespace) {
        let named = account.secrets.as_deref().unwrap_or_default();
        let is_it = |name: &Option<String>| name.as_deref() == Some(&*key.name);
        if !named.iter().any(|secret| is_it(&secret.name)) {
            continue;
        }
        let rest: Vec<_> = named.iter().filter(|secret| !is_it(&secret.name)).collect();
        plan.step(Step::CheckAbsent(Target::named(&SECRETS, key.clone(), None)));
        plan.merge_patch(Target::exact(&SERVICE_ACCOUNTS, &account.metadata), json!({ "secrets": rest }));
    }
    plan
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};
    use crate::world::Change;

    /// Signs by repeating what is said.
    #[derive(Debug)]
    struct Clear;

    impl TokenSigner for Clear {
        fn sign(&self, claims: &SecretClaims) -> Result<String, String> {
            Ok(format!("{} in {} of {}", claims.sub, claims.secret, claims.account_uid))
        }
    }

    const ACCOUNT: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {namespace: ns, name: robot}
secrets: [{name: other}, {name: t}]
---";

    fn secret(uid: &str, data: &str) -> String {
        format!(
            "
apiVersion: v1
kind: Secret
metadata:
  {{namespace: ns, name: t, annotations: {{kubernetes.io/service-account.name: robot, kubernetes.io/service-account.uid: {uid:?}}}}}
type: kubernetes.io/service-account-token
data: {data}"
        )
    }

    fn bench(world: &str) -> Bench<ServiceAccountTokens> {
        Bench::new(ServiceAccountTokens::new("CA", Some(Arc::new(Clear))), world)
    }

    fn check(world: &str, expected: Expect) {
        expected.assert_eq(&text(&bench(world).reconcile("ns", "t", "2024-01-01T00:00:00Z")));
    }

    #[test]
    fn a_secret_gets_what_it_lacks() {
        check(
            &format!("{ACCOUNT}{}", secret("", "{}")),
            expect![[r#"
                patch secrets ns/t at 2 : {"data":{"ca.crt":"Q0E=","namespace":"bnM=","token":"c3lzdGVtOnNlcnZpY2VhY2NvdW50Om5zOnJvYm90IGluIHQgb2Ygcm9ib3QtdWlk"},"metadata":{"annotations":{"kubernetes.io/service-account.name":"robot","kubernetes.io/service-account.uid":"robot-uid"}}}
            "#]],
        );
        check(
            &format!("{ACCOUNT}{}", secret("robot-uid", "{ca.crt: b2xk, namespace: bnM=, token: dA==}")),
            expect![[r#"
                patch secrets ns/t at 2 : {"data":{"ca.crt":"Q0E="},"metadata":{"annotations":{"kubernetes.io/service-account.name":"robot","kubernetes.io/service-account.uid":"robot-uid"}}}
            "#]],
        );
        check(
            &format!("{ACCOUNT}{}", secret("robot-uid", "{ca.crt: Q0E=, namespace: bnM=, token: dA==}")),
            expect![[""]],
        );
        let of_another_namespace = secret("robot-uid", "{ca.crt: Q0E=, namespace: b3RoZXI=, token: dA==}");
        check(&format!("{ACCOUNT}{of_another_namespace}"), expect![[""]]);
    }

    #[test]
    fn a_secret_goes_with_its_account() {
        check(
            &secret("robot-uid", "{token: dA==}"),
            expect![[r#"
                check absent serviceaccounts ns/robot
                delete secrets ns/t
            "#]],
        );
        check(
            &format!("{ACCOUNT}{}", secret("an-older-robot", "{token: dA==}")),
            expect![[r#"
                check absent serviceaccounts ns/robot
                delete secrets ns/t
            "#]],
        );
    }

    #[test]
    fn an_account_does_not_name_what_is_gone() {
        let mut bench = bench(&format!("{ACCOUNT}{}", secret("robot-uid", "{token: dA==}")));
        let gone = bench.world.secrets.get("ns", "t").unwrap().clone();
        assert!(bench.wakes(Change::WatchedGone(Object::Secret(gone))));
        expect![[r#"
            check absent secrets ns/t
            patch serviceaccounts ns/robot at 1 : {"secrets":[{"name":"other"}]}
        "#]]
        .assert_eq(&text(&bench.reconcile("ns", "t", "2024-01-01T00:00:00Z")));
    }

    #[test]
    fn an_account_wakes_its_secrets() {
        let mut bench = bench(&secret("robot-uid", "{}"));
        let account = crate::testing::objects(ACCOUNT.trim_end_matches("---")).remove(0);
        assert!(bench.wakes(Change::Watched(account)));
    }
}
