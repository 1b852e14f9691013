//! PriorityClass: a name for how important a pod is.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy};
use crate::object::{self, get, text};
use crate::rules;

/// Highest priority that users may give; above are the system's own classes.
const USER_MAX: i64 = 1_000_000_000;
/// The system's own classes, with their values.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Whether it is one of the classes that every cluster has.
pub fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|(known, _)| *known == name)
}

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.scheduling.v1.PriorityClass";
    KindDef::builtin("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", schema)
        .cluster_scoped()
        .short_names(&["pc"])
        .columns(vec![
            Column::name(),
            Column::new("Value", "integer", |class, _| object::int(class, &["value"]).into()),
            Column::new("Global-Default", "boolean", |class, _| {
                get(class, &["globalDefault"]).and_then(Value::as_bool).unwrap_or_default().into()
            }),
            Column::age(),
            Column::text("PreemptionPolicy", |class, _| text(class, &["preemptionPolicy"]).into()),
        ])
        .strategy(PriorityClass)
}

struct PriorityClass;

impl Strategy for PriorityClass {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    /// Its generation is always the first: nothing of it that counts can change.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(Shape::DATA, new, old);
    }

    fn default(&self, class: &mut Value) {
        if let Some(class) = class.as_object_mut() {
            object::set_default_text(class, "preemptionPolicy", "PreemptLowerPriority");
        }
    }

    fn validate(&self, class: &Value) -> Vec<FieldError> {
        let root = Field::root(class);
        let mut errors = Vec::new();
        let name = text(class, &["metadata", "name"]);
        let value = root.get("value");
        if name.starts_with("system-") {
            let is_default = root.get("globalDefault").bool() == Some(true);
            let wrong = match SYSTEM.iter().find(|(known, _)| *known == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, own)) if value.int() != Some(*own) => {
                    Some(format!("value of {name} PriorityClass must be {own}"))
                }
                Some(_) => is_default.then(|| format!("globalDefault of {name} PriorityClass must be false")),
            };
            if let Some(wrong) = wrong {
                let metadata = root.get("metadata");
                let reserved = "priority class names with 'system-' prefix are reserved for system use only. error:";
                errors.push(metadata.get("name").forbidden(format!("{reserved} {wrong}")));
            }
        } else if value.int().is_some_and(|v| v > USER_MAX) {
            let detail = format!("maximum allowed value of a user defined priority is {USER_MAX}");
            errors.push(value.forbidden(detail));
        }
        let policy = root.get("preemptionPolicy");
        if policy.is_set() && !matches!(policy.text(), "PreemptLowerPriority" | "Never") {
            errors.push(policy.not_supported(&["PreemptLowerPriority", "Never"]));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let (new, old) = (Field::root(new), Field::root(old));
        if new.get("value").int() != old.get("value").int() {
            errors.push(new.get("value").forbidden("may not be changed in an update."));
        }
        rules::immutable(&new.get("preemptionPolicy"), &old.get("preemptionPolicy"), &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    #[test]
    fn rules() {
        check(
            "priorityclasses",
            "{metadata: {name: system-x}, value: 1}",
            expect![[r#"
            metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class
        "#]],
        );
        check(
            "priorityclasses",
            "{metadata: {name: system-node-critical}, value: 1}",
            expect![[r#"
            metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000
        "#]],
        );
        check(
            "priorityclasses",
            "{metadata: {name: a}, value: 1000000001, preemptionPolicy: Odd}",
            expect![[r#"
            value: Forbidden: maximum allowed value of a user defined priority is 1000000000
            preemptionPolicy: Unsupported value: "Odd": supported values: "PreemptLowerPriority", "Never"
        "#]],
        );
        check_update(
            "priorityclasses",
            "{metadata: {name: a}, value: 1}",
            "{metadata: {name: a}, value: 2}",
            expect![[r#"
                value: Forbidden: may not be changed in an update.
            "#]],
        );
        check_row(
            "priorityclasses",
            "{metadata: {name: a}, value: 7, preemptionPolicy: Never}",
            expect!["Name=a | Value=7 | Global-Default=false | Age=<unknown> | PreemptionPolicy=Never"],
        );
    }
}
