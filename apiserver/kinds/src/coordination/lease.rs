//! Lease: who holds something, and until when.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::rules;

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

impl Strategy for Lease {
    fn validate(&self, lease: &Value) -> Vec<FieldError> {
        let root = Field::root(lease);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let duration = spec.get("leaseDurationSeconds");
        if duration.int().is_some_and(|s| s <= 0) {
            errors.push(duration.invalid(rules::POSITIVE));
        }
        rules::not_negative(&spec.get("leaseTransitions"), &mut errors);
        if !spec.get("preferredHolder").is_empty() && spec.get("strategy").is_empty() {
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

    use crate::testing::check;

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
