//! ReplicaSet: a number of like pods.

use serde_json::{Value, json};

use super::workload;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, int};
use crate::rules;

pub fn definition() -> KindDef {
    KindDef::builtin("apps", "v1", "ReplicaSet", "replicasets", "io.k8s.api.apps.v1.ReplicaSet")
        .short_names(&["rs"])
        .categories(&["all"])
        .subresources(vec![Subresource::scale(), Subresource::status()])
        .columns(columns())
        .selectable(vec![SelectableField::computed("status.replicas", |set| {
            int(set, &["status", "replicas"]).to_string()
        })])
        .strategy(ReplicaSet)
}

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::name(),
        Column::new("Desired", "integer", |set, _| int(set, &["spec", "replicas"]).into())
            .describe("Replicas is the number of desired pods."),
        Column::new("Current", "integer", |set, _| int(set, &["status", "replicas"]).into())
            .describe("Replicas is the most recently observed number of non-terminating pods."),
        Column::new("Ready", "integer", |set, _| int(set, &["status", "readyReplicas"]).into())
            .describe("The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition."),
        Column::age(),
    ];
    columns.extend(workload::wide_columns());
    columns
}

struct ReplicaSet;

impl Strategy for ReplicaSet {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, set: &mut Value) {
        let Some(spec) = object::ensure(set, &["spec"]) else { return };
        object::set_default(spec, "replicas", 1);
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
    }

    fn prepare_for_create(&self, set: &mut Value) {
        kind::prepare_for_create(self.shape(), set);
        if let Some(object) = set.as_object_mut() {
            object.insert("status".to_owned(), json!({"replicas": 0}));
        }
    }

    fn validate(&self, set: &Value) -> Vec<FieldError> {
        let root = Field::root(set);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        rules::not_negative(&spec.get("replicas"), &mut errors);
        rules::not_negative(&spec.get("minReadySeconds"), &mut errors);
        template::validate_workload(&spec, "ReplicaSet", &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        rules::immutable(&new.get("selector"), &old.get("selector"), &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let counts = [
            "replicas",
            "fullyLabeledReplicas",
            "readyReplicas",
            "availableReplicas",
            "terminatingReplicas",
            "observedGeneration",
        ];
        let mut errors = Vec::new();
        workload::validate_counts(&root.get("status"), &counts, "readyReplicas", &mut errors);
        errors
    }

    fn warnings(&self, set: &Value) -> Vec<String> {
        let mut warnings = workload::name_warnings(set);
        warnings.extend(workload::template_warnings(set));
        warnings
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || workload::template_warnings(new))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "replicasets",
            "{metadata: {name: a, namespace: b}, spec: {selector: {}, template: {}}}",
            expect![[r#"
                spec.selector: Invalid value: {}: empty selector is invalid for deployment
                spec.template.spec.containers: Required value
            "#]],
        );
        let status = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3}});
        let errors: Vec<String> =
            ReplicaSet.validate_status_update(&status, &json!({})).iter().map(ToString::to_string).collect();
        expect![[r#"
            status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas"#]]
        .assert_eq(&errors.join("\n"));
    }

    #[test]
    fn row() {
        check_row(
            "replicasets",
            "{metadata: {name: a}, spec: {replicas: 3, selector: {matchExpressions: [{key: k, operator: In, values: [b, a]}]}}, status: {replicas: 2}}",
            expect![
                "Name=a | Desired=3 | Current=2 | Ready=0 | Age=<unknown> | Containers= | Images= | Selector=k in (a,b)"
            ],
        );
    }
}
