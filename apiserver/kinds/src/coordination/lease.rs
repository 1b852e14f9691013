//! Lease: who holds something, and until when.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Strategy};
use crate::{names, object, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("coordination.k8s.io", "v1", "Lease", "leases", "io.k8s.api.coordination.v1.Lease")
        .columns(vec![
            Column::name(),
            Column::at("Holder", "string", "spec.holderIdentity").describe("The identity of the holder of the lease."),
            Column::age(),
        ])
        .strategy(Lease)
}

struct Lease;

/// Fields of coordinated leader election, which is off: they are not kept.
const ELECTION: [&str; 2] = ["strategy", "preferredHolder"];

fn drop_election(lease: &mut Value) {
    if let Some(spec) = lease.get_mut("spec") {
        ELECTION.iter().for_each(|field| object::remove(spec, field));
    }
}

impl Strategy for Lease {
    fn prepare_for_create(&self, lease: &mut Value) {
        drop_election(lease);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        let is_used = ELECTION.iter().any(|field| object::get(old, &["spec", field]).is_some());
        if !is_used {
            drop_election(new);
        }
        kind::prepare_for_update(self.shape(), new, old);
    }

    fn validate(&self, lease: &Value) -> Vec<FieldError> {
        let root = Field::root(lease);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let duration = spec.get("leaseDurationSeconds");
        if duration.int().is_some_and(|s| s <= 0) {
            errors.push(duration.invalid(rules::POSITIVE));
        }
        rules::not_negative(&spec.get("leaseTransitions"), &mut errors);
        let strategy = spec.get("strategy");
        if !strategy.text().contains('/') {
            rules::maybe_one_of(&strategy, &["OldestEmulationVersion"], &mut errors);
        } else {
            rules::form(&strategy, names::qualified_name, &mut errors);
        }
        if !spec.get("preferredHolder").is_empty() && strategy.is_empty() {
            errors.push(spec.get("preferredHolder").forbidden("may only be specified if `strategy` is defined"));
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, yaml};

    #[test]
    fn what_elections_need_is_not_kept() {
        let elected =
            yaml("{metadata: {}, spec: {holderIdentity: h, strategy: OldestEmulationVersion, preferredHolder: p}}");
        let mut lease = elected.clone();
        Lease.prepare_for_create(&mut lease);
        assert_eq!(lease, yaml("{metadata: {}, spec: {holderIdentity: h}}"));
        let mut changed = elected.clone();
        Lease.prepare_for_update(&mut changed, &lease);
        assert_eq!(changed, lease);
        let mut kept = elected.clone();
        Lease.prepare_for_update(&mut kept, &elected);
        assert_eq!(kept, elected);
    }

    #[test]
    fn numbers() {
        check(
            "leases",
            "{metadata: {name: a, namespace: b}, spec: {leaseDurationSeconds: 0, leaseTransitions: -1}}",
            expect![[r#"
                spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
                spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }
}
