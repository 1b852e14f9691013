//! Deletes tokens that were made of themselves for a service account and that nobody has used for a year: first they are
//! marked as no longer good, and a year later deleted
//! (`k8s.io/kubernetes/pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go`).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8w_kinds::core::pod::references::refers_to;
use k8w_kinds::core::service_account_token::{
    ACCOUNT_NAME, ACCOUNT_UID, DAY_FORMAT, INVALID_SINCE, LAST_USED, SECRET_TYPE, TRACKING,
};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, Target, to_value};
use crate::pods::{annotation, is_deleting};
use crate::resource::{Key, SECRETS};
use crate::world::{Delta, Object, World};

/// How often a token is looked at.
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a token may be unused before it is marked, and marked before it is deleted.
const PERIOD: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub struct ServiceAccountTokenCleaner;

impl Controller for ServiceAccountTokenCleaner {
    fn name(&self) -> &'static str {
        "legacy-serviceaccount-token-cleaner"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        if let Object::Secret(secret) = &delta.object {
            wake.now(Key::of(&secret.metadata));
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(secret) = world.secrets.by_key(key).filter(|secret| is_made_of_itself(secret, world)) else {
            return plan;
        };
        plan.requeue(INTERVAL);
        let cutoff = turn.now.checked_sub(PERIOD).unwrap_or(Timestamp::MIN);
        if !was_tracked(world, cutoff) || !is_unused(secret, world, cutoff) {
            return plan;
        }
        let invalid_since = label(secret, INVALID_SINCE).filter(|day| is_day(day));
        match invalid_since {
            None => {
                let patch = json!({ "metadata": { "labels": { INVALID_SINCE: day(turn.now) } } });
                plan.merge_patch(Target::exact(&SECRETS, &secret.metadata), patch);
            }
            Some(since) if *since < day(cutoff) => {
                plan.delete(Target::exact(&SECRETS, &secret.metadata));
            }
            Some(_) => {}
        }
        plan
    }
}

/// Whether it is the token of an account that names it: of those alone it is known that nobody made them by hand.
fn is_made_of_itself(secret: &Secret, world: &World) -> bool {
    let annotation = |name: &str| annotation(&secret.metadata, name);
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let of = annotation(ACCOUNT_NAME).and_then(|name| world.service_accounts.get(namespace, name));
    let names_it = |account: &ServiceAccount| {
        let named = account.secrets.iter().flatten();
        named.into_iter().any(|named| named.name.is_some() && named.name == secret.metadata.name)
    };
    secret.type_.as_deref() == Some(SECRET_TYPE)
        && !is_deleting(&secret.metadata)
        && of.is_some_and(|account| account.metadata.uid.as_deref() == annotation(ACCOUNT_UID) && names_it(account))
}

/// Whether uses have been noted since before `cutoff`; the day on which that began does not count.
fn was_tracked(world: &World, cutoff: Timestamp) -> bool {
    let tracking = world.config_maps.get("kube-system", TRACKING);
    let since = tracking.and_then(|map| map.data.as_ref()?.get("since"));
    since.is_some_and(|since| is_day(since) && *since < day(cutoff))
}

/// Whether nobody uses the token, and nobody has since `cutoff`.
fn is_unused(secret: &Secret, world: &World, cutoff: Timestamp) -> bool {
    let key = Key::of(&secret.metadata);
    let is_old = secret.metadata.creation_timestamp.as_ref().is_some_and(|created| created.0 < cutoff);
    let was_used = label(secret, LAST_USED).is_some_and(|used| !is_day(used) || *used >= day(cutoff));
    let mut pods = world.pods.in_namespace(&key.namespace);
    is_old && !was_used && !pods.any(|pod| refers_to(&to_value(&**pod), "secrets", &key.name))
}

fn label<'s>(secret: &'s Secret, name: &str) -> Option<&'s String> {
    secret.metadata.labels.as_ref()?.get(name)
}

fn day(at: Timestamp) -> String {
    at.strftime(DAY_FORMAT).to_string()
}

fn is_day(text: &str) -> bool {
    jiff::civil::Date::strptime(DAY_FORMAT, text).is_ok()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, text};

    const NOW: &str = "2024-06-01T00:00:00Z";

    fn world(labels: &str) -> String {
        format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{namespace: ns, name: robot}}
secrets: [{{name: t}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{namespace: kube-system, name: kube-apiserver-legacy-service-account-token-tracking}}
data: {{since: '2023-01-01'}}
---
apiVersion: v1
kind: Secret
metadata:
  namespace: ns
  name: t
  creationTimestamp: 2022-01-01T00:00:00Z
  labels: {{{labels}}}
  annotations: {{kubernetes.io/service-account.name: robot, kubernetes.io/service-account.uid: robot-uid}}
type: kubernetes.io/service-account-token
"
        )
    }

    fn check(world: &str, expected: Expect) {
        let mut bench = Bench::new(ServiceAccountTokenCleaner, world);
        expected.assert_eq(&text(&bench.reconcile("ns", "t", NOW)));
    }

    #[test]
    fn an_unused_token_is_marked_and_then_deleted() {
        for labels in ["", "kubernetes.io/legacy-token-last-used: '2023-05-01'"] {
            check(
                &world(labels),
                expect![[r#"
                    patch secrets ns/t at 3 : {"metadata":{"labels":{"kubernetes.io/legacy-token-invalid-since":"2024-06-01"}}}
                    look again in 86400s
                "#]],
            );
        }
        check(
            &world("kubernetes.io/legacy-token-invalid-since: '2023-05-01'"),
            expect![[r#"
                delete secrets ns/t at 3
                look again in 86400s
            "#]],
        );
    }

    #[test]
    fn a_token_that_may_be_used_stays() {
        let pod = "---
apiVersion: v1
kind: Pod
metadata: {namespace: ns, name: p}
spec: {containers: [], volumes: [{name: v, secret: {secretName: t}}]}
";
        for world in [
            world("kubernetes.io/legacy-token-last-used: '2023-07-01'"),
            world("kubernetes.io/legacy-token-last-used: yesterday"),
            world("kubernetes.io/legacy-token-invalid-since: '2023-07-01'"),
            world("").replace("'2023-01-01'", "'2023-07-01'"),
            world("").replace("2022-01-01T", "2024-01-01T"),
            format!("{}{pod}", world("")),
        ] {
            check(
                &world,
                expect![[r#"
                    look again in 86400s
                "#]],
            );
        }
        check(&world("").replace("[{name: t}]", "[]"), expect![[""]]);
    }
}
