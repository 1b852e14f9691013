//! PodDisruptionBudget: how many pods of a set may be away at once.

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{get, int};
use crate::rules;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.policy.v1.PodDisruptionBudget";
    KindDef::builtin("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", schema)
        .short_names(&["pdb"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("Min Available", |budget, _| amount(budget, "minAvailable").into())
                .describe("The minimum number of pods that must be available."),
            Column::text("Max Unavailable", |budget, _| amount(budget, "maxUnavailable").into())
                .describe("The maximum number of pods that may be unavailable."),
            Column::new("Allowed Disruptions", "integer", |budget, _| {
                int(budget, &["status", "disruptionsAllowed"]).into()
            })
            .describe("Calculated number of pods that may be disrupted at this time."),
            Column::age(),
        ])
        .strategy(PodDisruptionBudget)
}

fn amount(budget: &Value, field: &str) -> String {
    match get(budget, &["spec", field]) {
        Some(Value::String(percent)) => percent.clone(),
        Some(number) => number.to_string(),
        None => "N/A".to_owned(),
    }
}

struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn prepare_for_create(&self, budget: &mut Value) {
        kind::prepare_for_create(self.shape(), budget);
        if let Some(object) = budget.as_object_mut() {
            let none = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
            object.insert("status".to_owned(), none);
        }
    }

    fn validate(&self, budget: &Value) -> Vec<FieldError> {
        let root = Field::root(budget);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let (least, most) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
        if least.is_set() && most.is_set() {
            errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
        }
        for amount in [&least, &most] {
            rules::int_or_percent(amount, &mut errors);
            rules::at_most_all(amount, &mut errors);
        }
        rules::label_selector(&spec.get("selector"), &mut errors);
        rules::maybe_one_of(&spec.get("unhealthyPodEvictionPolicy"), &["AlwaysAllow", "IfHealthyBudget"], &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        rules::conditions(&status.get("conditions"), &mut errors);
        for name in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            rules::not_negative(&status.get(name), &mut errors);
        }
        errors
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "poddisruptionbudgets",
            "{metadata: {name: a, namespace: b}, spec: {minAvailable: 101%, maxUnavailable: -1}}",
            expect![[r#"
                spec: Invalid value: {"maxUnavailable":-1,"minAvailable":"101%"}: minAvailable and maxUnavailable cannot be both set
                spec.minAvailable: Invalid value: "101%": must not be greater than 100%
                spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
        check_row(
            "poddisruptionbudgets",
            "{metadata: {name: a}, spec: {minAvailable: 50%}}",
            expect!["Name=a | Min Available=50% | Max Unavailable=N/A | Allowed Disruptions=0 | Age=<unknown>"],
        );
    }
}
