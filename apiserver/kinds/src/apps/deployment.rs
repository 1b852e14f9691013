//! Deployment: a number of like pods, rolled from version to version.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::workload;
use crate::core::pod::template;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, int};
use crate::rules;

/// Old ReplicaSets that are kept for rollbacks.
const REVISIONS: i64 = 10;
/// How long a rollout may go without progress.
const PROGRESS_DEADLINE_SECONDS: i64 = 600;

pub fn definition() -> KindDef {
    KindDef::builtin("apps", "v1", "Deployment", "deployments", "io.k8s.api.apps.v1.Deployment")
        .short_names(&["deploy"])
        .categories(&["all"])
        .subresources(vec![Subresource::scale(), Subresource::status()])
        .columns(columns())
        .strategy(Deployment)
}

fn columns() -> Vec<Column> {
    let mut columns = vec![
        Column::name(),
        Column::text("Ready", |deployment, _| {
            let (ready, desired) =
                (int(deployment, &["status", "readyReplicas"]), int(deployment, &["spec", "replicas"]));
            format!("{ready}/{desired}").into()
        })
        .describe("Number of the pod with ready state"),
        Column::new("Up-to-date", "string", |deployment, _| int(deployment, &["status", "updatedReplicas"]).into())
            .describe(
                "Total number of non-terminated pods targeted by this deployment that have the desired template spec.",
            ),
        Column::new("Available", "string", |deployment, _| int(deployment, &["status", "availableReplicas"]).into())
            .describe(
                "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment.",
            ),
        Column::age(),
    ];
    columns.extend(workload::wide_columns());
    columns
}

struct Deployment;

impl Strategy for Deployment {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }

    /// As in Kubernetes, a status writer does not write the labels.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::prepare_for_status_update(new, old);
        if let (Some(metadata), Some(kept)) = (new.get_mut("metadata"), old.get("metadata")) {
            object::keep(metadata, kept, "labels");
        }
    }

    fn default(&self, deployment: &mut Value) {
        let Some(spec) = object::ensure(deployment, &["spec"]) else { return };
        object::set_default(spec, "replicas", 1);
        object::set_default(spec, "revisionHistoryLimit", REVISIONS);
        object::set_default(spec, "progressDeadlineSeconds", PROGRESS_DEADLINE_SECONDS);
        let strategy = spec.entry("strategy").or_insert_with(|| json!({}));
        if strategy.is_null() {
            *strategy = json!({});
        }
        if let Some(strategy) = strategy.as_object_mut() {
            rolling_update(strategy);
        }
        if let Some(template) = spec.get_mut("template") {
            template::default(template);
        }
    }

    fn prepare_for_create(&self, deployment: &mut Value) {
        kind::prepare_for_create(self.shape(), deployment);
        if let Some(object) = deployment.as_object_mut() {
            object.insert("status".to_owned(), json!({}));
        }
    }

    /// A change of annotations counts as one of the spec: rollouts carry their notes there.
    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        let annotations = ["metadata", "annotations"];
        let changed = !object::same(get(new, &annotations), get(old, &annotations));
        let generation = int(old, &["metadata", "generation"]);
        if let (true, Some(metadata)) = (changed, object::ensure(new, &["metadata"])) {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }

    fn validate(&self, deployment: &Value) -> Vec<FieldError> {
        let root = Field::root(deployment);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        rules::not_negative(&spec.get("replicas"), &mut errors);
        template::validate_workload(&spec, "ReplicaSet", &mut errors);
        strategy(&spec.get("strategy"), &mut errors);
        rules::not_negative(&spec.get("minReadySeconds"), &mut errors);
        rules::not_negative(&spec.get("revisionHistoryLimit"), &mut errors);
        let deadline = spec.get("progressDeadlineSeconds");
        rules::not_negative(&deadline, &mut errors);
        let least = spec.get("minReadySeconds").int().unwrap_or_default();
        if deadline.int().is_some_and(|seconds| seconds <= least) {
            errors.push(deadline.invalid("must be greater than minReadySeconds"));
        }
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
        let counts = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        let mut errors = Vec::new();
        workload::validate_counts(&root.get("status"), &counts, "readyReplicas", &mut errors);
        workload::validate_collisions(new, old, &mut errors);
        errors
    }

    fn warnings(&self, deployment: &Value) -> Vec<String> {
        let mut warnings = workload::name_warnings(deployment);
        warnings.extend(workload::template_warnings(deployment));
        warnings
    }

    fn update_warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        workload::if_generation_moved(new, old, || workload::template_warnings(new))
    }
}

fn rolling_update(strategy: &mut Map<String, Value>) {
    object::set_default_text(strategy, "type", "RollingUpdate");
    if strategy.get("type").and_then(Value::as_str) != Some("RollingUpdate") {
        return;
    }
    let rolling = strategy.entry("rollingUpdate").or_insert_with(|| json!({}));
    if rolling.is_null() {
        *rolling = json!({});
    }
    if let Some(rolling) = rolling.as_object_mut() {
        object::set_default(rolling, "maxSurge", "25%");
        object::set_default(rolling, "maxUnavailable", "25%");
    }
}

fn strategy(strategy: &Field, errors: &mut Vec<FieldError>) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" if rolling.is_set() => {
            errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (surge, unavailable) = (rolling.get("maxSurge"), rolling.get("maxUnavailable"));
            rules::int_or_percent(&unavailable, errors);
            rules::int_or_percent(&surge, errors);
            if workload::amount(&surge) == 0 && workload::amount(&unavailable) == 0 {
                errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
            }
            rules::at_most_all(&unavailable, errors);
        }
        _ => errors.push(strategy.not_supported(&["Recreate", "RollingUpdate"])),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::{check, check_default, check_row, check_update};

    #[test]
    fn defaults() {
        check_default(
            "deployments",
            "{spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}",
            expect![[r#"
                metadata: {}
                spec:
                  progressDeadlineSeconds: 600
                  replicas: 1
                  revisionHistoryLimit: 10
                  selector:
                    matchLabels:
                      a: b
                  strategy:
                    rollingUpdate:
                      maxSurge: 25%
                      maxUnavailable: 25%
                    type: RollingUpdate
                  template:
                    metadata:
                      labels:
                        a: b
                    spec:
                      containers:
                      - image: i
                        imagePullPolicy: Always
                        name: c
                        resources: {}
                        terminationMessagePath: /dev/termination-log
                        terminationMessagePolicy: File
                      dnsPolicy: ClusterFirst
                      restartPolicy: Always
                      schedulerName: default-scheduler
                      securityContext: {}
                      terminationGracePeriodSeconds: 30
                status: {}
            "#]],
        );
    }

    #[test]
    fn rules() {
        check(
            "deployments",
            r#"
            metadata: {name: a, namespace: b}
            spec:
              replicas: -1
              selector: {matchLabels: {a: b}}
              strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: "0%"}}
              template: {metadata: {labels: {a: c}}, spec: {restartPolicy: Never, containers: [{name: C}]}}
            "#,
            expect![[r#"
                spec.replicas: Invalid value: -1: must be greater than or equal to 0
                spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`
                spec.template.spec.containers[0].name: Invalid value: "C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.template.spec.containers[0].image: Required value
                spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
                spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
            "#]],
        );
        check(
            "deployments",
            "{metadata: {name: a, namespace: b}, spec: {}}",
            expect![[r#"
                spec.selector: Required value
                spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`
                spec.template.spec.containers: Required value
            "#]],
        );
    }

    #[test]
    fn the_selector_stays() {
        let with = |label: &str| {
            format!(
                "{{metadata: {{name: a, namespace: b}}, spec: {{selector: {{matchLabels: {{a: {label}}}}}, template: {{metadata: \
                 {{labels: {{a: {label}}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
            )
        };
        check_update(
            "deployments",
            &with("b"),
            &with("c"),
            expect![[r#"
            spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable
        "#]],
        );
    }

    #[test]
    fn generations() {
        let old = json!({"metadata": {"generation": 3}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let mut new = json!({"metadata": {}, "spec": {"replicas": 1}, "status": {"replicas": 7}});
        Deployment.prepare_for_update(&mut new, &old);
        assert_eq!(new, old);
        new["metadata"]["annotations"] = json!({"a": "b"});
        Deployment.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 4);
        new["spec"]["replicas"] = 2.into();
        Deployment.prepare_for_update(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 4);
    }

    #[test]
    fn row() {
        check_row(
            "deployments",
            r#"
            metadata: {name: a}
            spec: {replicas: 3, selector: {matchLabels: {a: b}}, template: {spec: {containers: [{name: c, image: i}, {name: d, image: j}]}}}
            status: {readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}
            "#,
            expect![
                "Name=a | Ready=2/3 | Up-to-date=3 | Available=1 | Age=<unknown> | Containers=c,d | Images=i,j | Selector=a=b"
            ],
        );
    }
}
