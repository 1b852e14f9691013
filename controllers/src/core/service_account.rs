//! Gives every namespace its `default` ServiceAccount.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Plan};
use crate::pods::is_deleting;
use crate::resource::{Key, SERVICE_ACCOUNTS};
use crate::world::{Delta, Object, World};

const DEFAULT: &str = "default";

pub struct ServiceAccounts;

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Namespace(namespace) if !delta.gone => wake.now(Key::of(&namespace.metadata)),
            Object::ServiceAccount(account) if delta.gone && account.metadata.name.as_deref() == Some(DEFAULT) => {
                wake.now(Key::new("", account.metadata.namespace.as_deref().unwrap_or_default()));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, _: &mut Turn<'_>) -> Plan {
        let namespace = &key.name;
        let mut plan = Plan::none();
        let lives = world.namespaces.by_key(key).is_some_and(|n| !is_deleting(&n.metadata));
        if lives && world.service_accounts.get(namespace, DEFAULT).is_none() {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some(DEFAULT.into());
            account.metadata.namespace = Some(namespace.to_string());
            plan.step(plan::create(&SERVICE_ACCOUNTS, namespace, &account));
        }
        plan
    }
}
