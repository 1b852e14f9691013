//! DaemonSet: one pod on every node that fits.

use serde_json::{Value, json};

use super::workload;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, int, map, text};
use crate::rules;

/// Counts the changes of the template, for clients of before `apps/v1`.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub fn definition() -> KindDef {
    KindDef::builtin("apps", "v1", "DaemonSet", "daemonsets", "io.k8s.api.apps.v1.DaemonSet")
        .short_names(&["ds"])
        .categories(&["all"])
        .subresources(vec![Subresource::status()])
        .columns(columns())
        .strategy(DaemonSet)
}

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::name(),
        Column::new("Desired", "integer", |set, _| int(set, &["status", "desiredNumberScheduled"]).into()),
        Column::new("Current", "integer", |set, _| int(set, &["status", "currentNumberScheduled"]).into()),
        Column::new("Ready", "integer", |set, _| int(set, &["status", "numberReady"]).into()),
        Column::new("Up-to-date", "integer", |set, _| int(set, &["status", "updatedNumberScheduled"]).into()),
        Column::new("Available", "integer", |set, _| int(set, &["status", "numberAvailable"]).into()),
        Column::text("Node Selector", |set, _| {
            template::labels(map(set, &["spec", "template", "spec", "nodeSelector"])).into()
        }),
        Column::age(),
    ];
    columns.extend(workload::wide_columns());
    columns
}

struct DaemonSet;

impl Strategy for DaemonSet {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    fn default(&self, set: &mut Value) {
        let Some(spec) = object::ensure(set, &["spec"]) else { return };
        object::set_default(spec, "revisionHistoryLimit", 10);
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
        let Some(strategy) = object::ensure(set, &["spec", "updateStrategy"]) else { return };
        object::set_default_text(strategy, "type", "RollingUpdate");
        if strategy.get("type").and_then(Value::as_str) != Some("RollingUpdate") {
            return;
        }
        if let Some(rolling) = object::ensure(set, &["spec", "updateStrategy", "rollingUpdate"]) {
            object::set_default(rolling, "maxSurge", 0);
            object::set_default(rolling, "maxUnavailable", 1);
        }
    }

    fn prepare_for_create(&self, set: &mut Value) {
        kind::prepare_for_create(self.shape(), set);
        template_generation(set, 1);
        if let Some(object) = set.as_object_mut() {
            let counts = ["currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"]
                .map(|c| (c, 0));
            object.insert("status".to_owned(), json!(std::collections::BTreeMap::from(counts)));
        }
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        let before = text(old, &["metadata", "annotations", TEMPLATE_GENERATION]).parse().unwrap_or(1);
        let template = ["spec", "template"];
        let changed = !object::same(get(new, &template), get(old, &template));
        template_generation(new, before + i64::from(changed));
    }

    fn validate(&self, set: &Value) -> Vec<FieldError> {
        let root = Field::root(set);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        template::validate_workload(&spec, "DaemonSet", &mut errors);
        rules::not_negative(&spec.get("minReadySeconds"), &mut errors);
        strategy(&spec.get("updateStrategy"), &mut errors);
        rules::not_negative(&spec.get("revisionHistoryLimit"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        rules::immutable(&new.get("selector"), &old.get("selector"), &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        for name in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ] {
            rules::not_negative(&status.get(name), &mut errors);
        }
        workload::validate_collisions(new, old, &mut errors);
        errors
    }

    fn warnings(&self, set: &Value) -> Vec<String> {
        workload::template_warnings(set)
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || workload::template_warnings(new))
    }
}

fn template_generation(set: &mut Value, generation: i64) {
    if let Some(annotations) = object::ensure(set, &["metadata", "annotations"]) {
        annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string().into());
    }
}

fn strategy(strategy: &Field, errors: &mut Vec<FieldError>) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if !rolling.is_set() => errors.push(rolling.required("")),
        "RollingUpdate" => {
            let (surge, unavailable) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
            rules::int_or_percent(&unavailable, errors);
            rules::int_or_percent(&surge, errors);
            rules::at_most_all(&unavailable, errors);
            rules::at_most_all(&surge, errors);
            match (workload::amount(&surge), workload::amount(&unavailable)) {
                (0, 0) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
                (0, _) | (_, 0) => {}
                _ => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
            }
        }
        _ => errors.push(strategy.not_supported(&["RollingUpdate", "OnDelete"])),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "daemonsets",
            r#"
            metadata: {name: a, namespace: b}
            spec:
              selector: {matchLabels: {a: b}}
              updateStrategy: {rollingUpdate: {maxSurge: 1}}
              template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}
            "#,
            expect![[r#"
                spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero
            "#]],
        );
    }

    #[test]
    fn rules_of_rollouts() {
        let set = |strategy: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b}}, spec: {{selector: {{matchLabels: {{a: b}}}}, updateStrategy: {strategy}, \
                 template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
            )
        };
        check(
            "daemonsets",
            &set("{type: Odd}"),
            expect![[r#"
                spec.updateStrategy: Unsupported value: {"type":"Odd"}: supported values: "RollingUpdate", "OnDelete"
            "#]],
        );
        check(
            "daemonsets",
            &set("{rollingUpdate: {maxUnavailable: 0%}}"),
            expect![[r#"
                spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0
            "#]],
        );
        check(
            "daemonsets",
            &set("{rollingUpdate: {maxUnavailable: 0, maxSurge: 101%}}"),
            expect![[r#"
                spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": must not be greater than 100%
            "#]],
        );
        check(
            "daemonsets",
            "{metadata: {name: a, namespace: b}, spec: {template: {spec: {activeDeadlineSeconds: 1, containers: [{name: c, image: i}]}}}}",
            expect![[r#"
                spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
                spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported
            "#]],
        );
    }

    #[test]
    fn clashes_are_not_forgotten() {
        let (new, old) = (json!({"status": {"numberReady": -1}}), json!({"status": {"collisionCount": 2}}));
        let told: Vec<String> = DaemonSet.validate_status_update(&new, &old).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
                "status.collisionCount: Invalid value: 0: cannot be decremented"
            ]
        );
    }

    #[test]
    fn template_generations() {
        let mut old = json!({"metadata": {}, "spec": {"template": {}}});
        DaemonSet.prepare_for_create(&mut old);
        assert_eq!(old["metadata"]["annotations"][TEMPLATE_GENERATION], "1");
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["nodeName"] = "x".into();
        DaemonSet.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["annotations"][TEMPLATE_GENERATION], "2");
        assert_eq!(new["metadata"]["generation"], 2);
    }

    #[test]
    fn row() {
        check_row(
            "daemonsets",
            "{metadata: {name: a}, status: {desiredNumberScheduled: 2}}",
            expect![
                "Name=a | Desired=2 | Current=0 | Ready=0 | Up-to-date=0 | Available=0 | Node Selector=<none> | Age=<unknown> | Containers= | Images= | Selector=<none>"
            ],
        );
    }
}
