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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, objects};
    use crate::world::Change;

    const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ns, resourceVersion: '2001'}\n";

    fn account(name: &str) -> String {
        format!(
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{namespace: ns, name: {name}, resourceVersion: '2001'}}\n"
        )
    }

    #[test]
    fn a_namespace_lacks_nothing_but_its_default_account() {
        let makes = |accounts: &[&str]| {
            let accounts = accounts.iter().map(|name| format!("---\n{}", account(name)));
            let world = NAMESPACE.to_owned() + &accounts.collect::<String>();
            !Bench::new(ServiceAccounts, &world).reconcile("", "ns", "2024-01-01T00:00:00Z").is_empty()
        };
        assert!(makes(&[]));
        assert!(makes(&["other"]));
        assert!(!makes(&["default"]));
        assert!(!makes(&["default", "other"]));
    }

    #[test]
    fn it_is_looked_at_when_the_namespace_changes_or_the_account_goes() {
        let wakes = |change: Change| Bench::new(ServiceAccounts, "").wakes(change);
        let object = |yaml: &str| objects(yaml).remove(0);
        assert!(wakes(Change::Watched(object(NAMESPACE))));
        assert!(!wakes(Change::Watched(object(&account("default")))));
        let gone = |name: &str| {
            let there = account(name).replace("2001", "1");
            Bench::new(ServiceAccounts, &there).wakes(Change::WatchedGone(object(&account(name))))
        };
        assert_eq!((gone("default"), gone("other")), (true, false));
    }
}
