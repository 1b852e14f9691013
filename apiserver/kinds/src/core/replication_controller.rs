//! ReplicationController: what ReplicaSets replaced.

use serde_json::{Value, json};

use super::pod::template;
use crate::apps::workload;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, ScalePaths, SelectableField, Shape, Strategy, Subresource};
use crate::object::{self, get, int, map};
use crate::rules;
use crate::selector::LabelSelector;

pub fn definition() -> KindDef {
    let mut scale = Subresource::scale();
    scale.scale = scale.scale.map(|paths| ScalePaths { selector_is_map: true, ..paths });
    let schema = "io.k8s.api.core.v1.ReplicationController";
    KindDef::builtin("", "v1", "ReplicationController", "replicationcontrollers", schema)
        .short_names(&["rc"])
        .categories(&["all"])
        .subresources(vec![scale, Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::new("Desired", "integer", |rc, _| int(rc, &["spec", "replicas"]).into()),
            Column::new("Current", "integer", |rc, _| int(rc, &["status", "replicas"]).into()),
            Column::new("Ready", "integer", |rc, _| int(rc, &["status", "readyReplicas"]).into()),
            Column::age(),
            Column::text("Containers", |rc, _| template::containers(of(rc), "name").into()).wide(),
            Column::text("Images", |rc, _| template::containers(of(rc), "image").into()).wide(),
            Column::text("Selector", |rc, _| template::labels(map(rc, &["spec", "selector"])).into()).wide(),
        ])
        .selectable(vec![SelectableField::computed("status.replicas", |rc| {
            int(rc, &["status", "replicas"]).to_string()
        })])
        .strategy(ReplicationController)
}

fn of(rc: &Value) -> &Value {
    get(rc, &["spec", "template"]).unwrap_or(&Value::Null)
}

struct ReplicationController;

impl Strategy for ReplicationController {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    /// The template's labels are the selector, and the controller's own labels, where these are not given.
    fn default(&self, rc: &mut Value) {
        let labels = map(rc, &["spec", "template", "metadata", "labels"]).filter(|l| !l.is_empty()).cloned();
        if let Some(labels) = labels {
            for path in [["spec", "selector"], ["metadata", "labels"]] {
                if let Some(target) = object::ensure(rc, &path)
                    && target.is_empty()
                {
                    *target = labels.clone();
                }
            }
        }
        let Some(spec) = object::ensure(rc, &["spec"]) else { return };
        object::set_default(spec, "replicas", 1);
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
    }

    fn prepare_for_create(&self, rc: &mut Value) {
        kind::prepare_for_create(self.shape(), rc);
        if let Some(object) = rc.as_object_mut() {
            object.insert("status".to_owned(), json!({"replicas": 0}));
        }
    }

    fn validate(&self, rc: &Value) -> Vec<FieldError> {
        let root = Field::root(rc);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let (selector, template) = (spec.get("selector"), spec.get("template"));
        rules::not_negative(&spec.get("minReadySeconds"), &mut errors);
        rules::required(&selector, &mut errors);
        rules::not_negative(&spec.get("replicas"), &mut errors);
        if !template.is_set() {
            errors.push(template.required(""));
            return errors;
        }
        let labels = template.get("metadata");
        let labels = labels.get("labels");
        let parsed = selector.value().and_then(Value::as_object).map(LabelSelector::from_map).unwrap_or_default();
        if !selector.is_empty() && !parsed.matches(labels.value().and_then(Value::as_object)) {
            let shown = labels.value().cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&labels.path, shown, "`selector` does not match template `labels`"));
        }
        template::validate(&template, &mut errors);
        template::validate_restart(&template, "ReplicationController", &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        for name in ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"] {
            rules::not_negative(&status.get(name), &mut errors);
        }
        let number = |name: &str| status.get(name).int().unwrap_or_default();
        let pairs = [
            ("fullyLabeledReplicas", "replicas", "status.replicas"),
            ("readyReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "replicas", "status.replicas"),
            ("availableReplicas", "readyReplicas", "readyReplicas"),
        ];
        for (less, more, shown) in pairs {
            if number(less) > number(more) {
                let path = status.path.child(less);
                errors.push(FieldError::invalid(&path, number(less), format!("cannot be greater than {shown}")));
            }
        }
        errors
    }

    fn warnings(&self, rc: &Value) -> Vec<String> {
        let mut warnings = workload::name_warnings(rc);
        warnings.extend(workload::template_warnings(rc));
        warnings
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || workload::template_warnings(new))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, kind, yaml};

    #[test]
    fn rules() {
        check(
            "replicationcontrollers",
            "{metadata: {name: a, namespace: b}, spec: {selector: {a: b}, template: {metadata: {labels: {a: c}}, spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
            expect![[r#"
                spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`
                spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            "#]],
        );
        check(
            "replicationcontrollers",
            "{metadata: {name: a, namespace: b}, spec: {replicas: -1}}",
            expect![[r#"
            spec.selector: Required value
            spec.replicas: Invalid value: -1: must be greater than or equal to 0
            spec.template: Required value
        "#]],
        );
        check_row(
            "replicationcontrollers",
            "{metadata: {name: a}, spec: {replicas: 2, selector: {a: b}}}",
            expect!["Name=a | Desired=2 | Current=0 | Ready=0 | Age=<unknown> | Containers= | Images= | Selector=a=b"],
        );
    }

    #[test]
    fn statuses() {
        let status = yaml(
            "{status: {replicas: 1, fullyLabeledReplicas: 2, readyReplicas: 2, availableReplicas: 3, observedGeneration: -1}}",
        );
        let errors = kind("replicationcontrollers").strategy.validate_status_update(&status, &status);
        let lines: String = errors.iter().map(|error| format!("{error}\n")).collect();
        expect![[r#"
            status.observedGeneration: Invalid value: -1: must be greater than or equal to 0
            status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
            status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas
        "#]]
        .assert_eq(&lines);
    }

    #[test]
    fn names_that_pods_cannot_have_are_said() {
        let rc = yaml("{metadata: {name: a.b}, spec: {template: {}}}");
        let strategy = &kind("replicationcontrollers").strategy;
        assert_eq!(strategy.warnings(&rc).len(), 1);
        assert_eq!(strategy.update_warnings(&rc, &rc), [""; 0]);
    }
}
