//! HorizontalPodAutoscaler: how many pods, by what they use (`autoscaling/v2`).

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, int, list, text};
use crate::{names, rules};

/// The utilization of CPU that is aimed at where nothing else is asked for.
pub const DEFAULT_CPU_PERCENT: i64 = 80;
/// Longest window that a scaling rule may look back.
const MAX_WINDOW_SECONDS: i64 = 3600;
/// Longest period of a scaling policy.
const MAX_PERIOD_SECONDS: i64 = 1800;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler";
    KindDef::builtin("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", schema)
        .short_names(&["hpa"])
        .categories(&["all"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("Reference", |hpa, _| {
                let target = |field: &str| text(hpa, &["spec", "scaleTargetRef", field]);
                format!("{}/{}", target("kind"), target("name")).into()
            }),
            Column::text("Targets", |hpa, _| targets(hpa).into()),
            Column::text("MinPods", |hpa, _| match get(hpa, &["spec", "minReplicas"]) {
                Some(number) => number.to_string().into(),
                None => "<unset>".into(),
            }),
            Column::new("MaxPods", "string", |hpa, _| int(hpa, &["spec", "maxReplicas"]).into()),
            Column::new("Replicas", "string", |hpa, _| int(hpa, &["status", "currentReplicas"]).into()),
            Column::age(),
        ])
        .strategy(HorizontalPodAutoscaler)
}

/// The name of the part of a metric that says what is measured, by the metric's type.
const SOURCES: [(&str, &str); 5] = [
    ("External", "external"),
    ("Pods", "pods"),
    ("Object", "object"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

fn source(metric: &Value) -> &Value {
    let type_ = text(metric, &["type"]);
    let field = SOURCES.iter().find(|(name, _)| *name == type_).map_or("", |(_, field)| *field);
    get(metric, &[field]).unwrap_or(&Value::Null)
}

/// `cpu: 20%/50%, 3/5`: what is and what is wanted, for up to two metrics.
fn targets(hpa: &Value) -> String {
    const MAX_SHOWN: usize = 2;
    let (metrics, current) = (list(hpa, &["spec", "metrics"]), list(hpa, &["status", "currentMetrics"]));
    if metrics.is_empty() {
        return "<none>".to_owned();
    }
    let shown = metrics.iter().enumerate().take(MAX_SHOWN).map(|(i, metric)| {
        let (wanted, now) = (source(metric), current.get(i).map_or(&Value::Null, source));
        let prefix = match text(metric, &["type"]) {
            "Resource" | "ContainerResource" => format!("{}: ", text(wanted, &["name"])),
            _ => String::new(),
        };
        if let Some(percent) = get(wanted, &["target", "averageUtilization"]) {
            let now = get(now, &["current", "averageUtilization"]).map_or("<unknown>".to_owned(), |n| format!("{n}%"));
            return format!("{prefix}{now}/{percent}%");
        }
        let (field, suffix) = match get(wanted, &["target", "averageValue"]) {
            Some(_) if prefix.is_empty() => ("averageValue", " (avg)"),
            Some(_) => ("averageValue", ""),
            None => ("value", ""),
        };
        let now = match text(now, &["current", field]) {
            "" => "<unknown>",
            now => now,
        };
        format!("{prefix}{now}/{}{suffix}", text(wanted, &["target", field]))
    });
    let all = shown.collect::<Vec<_>>().join(", ");
    match metrics.len() {
        n if n > MAX_SHOWN => format!("{all} + {} more...", n - MAX_SHOWN),
        _ => all,
    }
}

struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn default(&self, hpa: &mut Value) {
        let Some(spec) = object::ensure(hpa, &["spec"]) else { return };
        object::set_default(spec, "minReplicas", 1);
        let unset = spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if unset {
            let target = json!({"type": "Utilization", "averageUtilization": DEFAULT_CPU_PERCENT});
            let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
            spec.insert("metrics".to_owned(), json!([metric]));
        }
        if spec.get("behavior").is_some_and(Value::is_object) {
            behavior(hpa);
        }
    }

    fn prepare_for_create(&self, hpa: &mut Value) {
        kind::prepare_for_create(self.shape(), hpa);
        if let Some(object) = hpa.as_object_mut() {
            object.insert("status".to_owned(), json!({"desiredReplicas": 0}));
        }
    }

    fn validate(&self, hpa: &Value) -> Vec<FieldError> {
        let root = Field::root(hpa);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
        let lowest = least.int().unwrap_or(1);
        let scales_to_zero = spec.get("metrics").items().any(|m| matches!(m.get("type").text(), "Object" | "External"));
        if lowest < i64::from(!scales_to_zero || lowest < 0) {
            errors.push(least.invalid("must be greater than or equal to 1"));
        }
        if most.int().unwrap_or_default() < 1 {
            errors.push(FieldError::invalid(&most.path, most.int().unwrap_or_default(), rules::POSITIVE));
        }
        if most.int().unwrap_or_default() < lowest {
            let shown = most.int().unwrap_or_default();
            errors.push(FieldError::invalid(&most.path, shown, "must be greater than or equal to `minReplicas`"));
        }
        let target = spec.get("scaleTargetRef");
        for name in ["kind", "name"] {
            rules::name(&target.get(name), names::path_segment, &mut errors);
        }
        for metric in spec.get("metrics").items() {
            self::metric(&metric, &mut errors);
        }
        let behavior = spec.get("behavior");
        for direction in ["scaleUp", "scaleDown"] {
            let rules = behavior.get(direction);
            if rules.is_set() {
                scaling_rules(&rules, &mut errors);
            }
        }
        errors
    }
}

/// Scaling up is quick and scaling down careful, where nothing else is asked for.
fn behavior(hpa: &mut Value) {
    let policies = |up: bool| {
        let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
        if up { json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent]) } else { json!([percent]) }
    };
    for (direction, up) in [("scaleUp", true), ("scaleDown", false)] {
        let Some(rules) = object::ensure(hpa, &["spec", "behavior", direction]) else { continue };
        object::set_default(rules, "selectPolicy", "Max");
        if up {
            object::set_default(rules, "stabilizationWindowSeconds", 0);
        }
        object::set_default(rules, "policies", policies(up));
    }
}

fn scaling_rules(rules: &Field, errors: &mut Vec<FieldError>) {
    rules::between(&rules.get("stabilizationWindowSeconds"), 0, MAX_WINDOW_SECONDS, errors);
    rules::maybe_one_of(&rules.get("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    let policies = rules.get("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        rules::maybe_one_of(&policy.get("type"), &["Percent", "Pods"], errors);
        for (name, most) in [("value", i64::from(i32::MAX)), ("periodSeconds", MAX_PERIOD_SECONDS)] {
            let number = policy.get(name);
            let shown = number.int().unwrap_or_default();
            if shown <= 0 {
                errors.push(FieldError::invalid(&number.path, shown, "must be greater than zero"));
            } else if shown > most {
                errors.push(number.invalid(format!("must be less than or equal to {most}")));
            }
        }
    }
}

fn metric(metric: &Field, errors: &mut Vec<FieldError>) {
    let type_ = metric.get("type");
    let supported = SOURCES.map(|(name, _)| name);
    if !supported.contains(&type_.text()) {
        if rules::required(&type_, errors) {
            errors.push(type_.not_supported(&supported));
        }
        return;
    }
    for (name, field) in SOURCES {
        let source = metric.get(field);
        if name == type_.text() && !source.is_set() {
            errors.push(source.required("must populate information for the given metric source"));
        } else if name != type_.text() && source.is_set() {
            errors.push(source.forbidden("must populate the given metric source only"));
        } else if source.is_set() {
            metric_source(&source, name, errors);
        }
    }
}

fn metric_source(source: &Field, type_: &str, errors: &mut Vec<FieldError>) {
    if matches!(type_, "Resource" | "ContainerResource") {
        if source.get("name").is_empty() {
            errors.push(source.get("name").required("must specify a resource name"));
        }
    } else {
        let identifier = source.get("metric");
        rules::name(&identifier.get("name"), names::path_segment, errors);
    }
    if type_ == "ContainerResource" && source.get("container").is_empty() {
        errors.push(source.get("container").required("must specify a container"));
    }
    let target = source.get("target");
    rules::one_of(&target.get("type"), &["AverageValue", "Utilization", "Value"], errors);
    let utilization = target.get("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        errors.push(utilization.invalid(rules::POSITIVE));
    }
    let set = ["averageUtilization", "averageValue", "value"].iter().filter(|f| target.get(f).is_set()).count();
    if set == 0 {
        let detail = "must set either a target raw value or a target utilization";
        errors.push(utilization.required(detail));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row};

    #[test]
    fn rules() {
        check(
            "horizontalpodautoscalers",
            "{metadata: {name: a, namespace: b}, spec: {minReplicas: 0, scaleTargetRef: {kind: Deployment}, metrics: [{type: Pods}, {type: Odd}, {type: Resource, resource: {target: {type: Utilization}}}]}}",
            expect![[r#"
                spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
                spec.maxReplicas: Invalid value: 0: must be greater than 0
                spec.scaleTargetRef.name: Required value
                spec.metrics[0].pods: Required value: must populate information for the given metric source
                spec.metrics[1].type: Unsupported value: "Odd": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
                spec.metrics[2].resource.name: Required value: must specify a resource name
                spec.metrics[2].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization
            "#]],
        );
    }

    #[test]
    fn defaults() {
        check_default(
            "horizontalpodautoscalers",
            "{spec: {maxReplicas: 3, behavior: {scaleDown: {policies: []}}}}",
            expect![[r#"
                metadata: {}
                spec:
                  behavior:
                    scaleDown:
                      policies: []
                      selectPolicy: Max
                    scaleUp:
                      policies:
                      - periodSeconds: 15
                        type: Pods
                        value: 4
                      - periodSeconds: 15
                        type: Percent
                        value: 100
                      selectPolicy: Max
                      stabilizationWindowSeconds: 0
                  maxReplicas: 3
                  metrics:
                  - resource:
                      name: cpu
                      target:
                        averageUtilization: 80
                        type: Utilization
                    type: Resource
                  minReplicas: 1
                  scaleTargetRef:
                    kind: ""
                    name: ""
                status:
                  desiredReplicas: 0
            "#]],
        );
        check_row(
            "horizontalpodautoscalers",
            r#"
            metadata: {name: a}
            spec:
              scaleTargetRef: {kind: Deployment, name: d}
              maxReplicas: 5
              metrics:
              - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}
              - {type: Pods, pods: {metric: {name: q}, target: {type: AverageValue, averageValue: "5"}}}
            status: {currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 20}}}]}
            "#,
            expect![
                "Name=a | Reference=Deployment/d | Targets=cpu: 20%/50%, <unknown>/5 (avg) | MinPods=<unset> | MaxPods=5 | Replicas=0 | Age=<unknown>"
            ],
        );
    }
}
