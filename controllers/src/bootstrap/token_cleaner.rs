//! Deletes bootstrap tokens that are over (`k8s.io/kubernetes/pkg/controller/bootstrap/tokencleaner.go`).

use k8w_kinds::core::bootstrap_token::NAMESPACE;

use super::token::{end, is_token};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{Plan, Target};
use crate::resource::{Key, SECRETS};
use crate::time::until;
use crate::world::{Delta, Object, World};

pub struct TokenCleaner;

impl Controller for TokenCleaner {
    fn name(&self) -> &'static str {
        "token-cleaner"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Secret(secret) if is_token(secret) && secret.metadata.namespace.as_deref() == Some(NAMESPACE) => {
                wake.now(Key::of(&secret.metadata));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(secret) = world.secrets.by_key(key).filter(|secret| is_token(secret)) else { return plan };
        match end(secret) {
            Some(end) if end <= turn.now => plan.delete(Target::new(&SECRETS, &secret.metadata)),
            Some(end) => plan.requeue(until(end, turn.now)),
            None => {}
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::testing::{Bench, objects, text};
    use crate::world::Change;

    /// `expiration` is base64.
    fn token(expiration: &str) -> String {
        format!(
            "
apiVersion: v1
kind: Secret
metadata: {{namespace: kube-system, name: bootstrap-token-abcdef}}
type: bootstrap.kubernetes.io/token
data: {{token-id: YWJjZGVm{expiration}}}"
        )
    }

    fn check(expiration: &str, expected: Expect) {
        let mut bench = Bench::new(TokenCleaner, &token(expiration));
        expected.assert_eq(&text(&bench.reconcile("kube-system", "bootstrap-token-abcdef", "2024-01-01T00:00:00Z")));
    }

    #[test]
    fn a_token_goes_when_it_is_over() {
        // 2024-01-01T00:00:00Z
        check(
            ", expiration: MjAyNC0wMS0wMVQwMDowMDowMFo=",
            expect![[r#"
                delete secrets kube-system/bootstrap-token-abcdef
            "#]],
        );
        // tomorrow
        check(
            ", expiration: dG9tb3Jyb3c=",
            expect![[r#"
                delete secrets kube-system/bootstrap-token-abcdef
            "#]],
        );
    }

    #[test]
    fn a_token_stays_until_then() {
        // 2024-01-01T02:00:00+01:00
        check(
            ", expiration: MjAyNC0wMS0wMVQwMjowMDowMCswMTowMA==",
            expect![[r#"
                look again in 3600s
            "#]],
        );
        check("", expect![[""]]);
    }

    #[test]
    fn other_secrets_are_left_alone() {
        let over = token(", expiration: MjAyNC0wMS0wMVQwMDowMDowMFo=");
        let is_woken = |secret: &str| {
            let secret = secret.replace("name: boot", "resourceVersion: '2001', name: boot");
            Bench::new(TokenCleaner, "").wakes(Change::Watched(objects(&secret).remove(0)))
        };
        assert!(is_woken(&over));
        assert!(!is_woken(&over.replace("kube-system", "default")));
        let opaque = over.replace("bootstrap.kubernetes.io/token", "Opaque");
        assert!(!is_woken(&opaque));
        let plan = Bench::new(TokenCleaner, &opaque).reconcile(
            "kube-system",
            "bootstrap-token-abcdef",
            "2024-01-01T00:00:00Z",
        );
        assert!(plan.is_empty());
    }
}
