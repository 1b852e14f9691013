//! HorizontalPodAutoscaler: how many pods, by what they use (`autoscaling/v2`).

use serde_json::{Value, json};

use crate::core::pod::resources;
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
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
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
        canonicalize(hpa);
    }

    fn prepare_for_create(&self, hpa: &mut Value) {
        kind::prepare_for_create(self.shape(), hpa);
        if let Some(object) = hpa.as_object_mut() {
            object.insert("status".to_owned(), json!({"desiredReplicas": 0}));
        }
    }

    fn validate(&self, hpa: &Value) -> Vec<FieldError> {
        validate(hpa, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(new, Some(old))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        validate_status(new)
    }
}

/// Rules of new and of changed autoscalers.
pub fn validate(hpa: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = Field::root(hpa);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let (least, most) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    let highest = most.int().unwrap_or_default();
    // None scales to zero but what was let to once.
    let lowest = i64::from(old.and_then(|old| get(old, &["spec", "minReplicas"])) != Some(&json!(0)));
    if least.int().is_some_and(|number| number < lowest) {
        errors.push(least.invalid(format!("must be greater than or equal to {lowest}")));
    }
    if highest < 1 {
        errors.push(FieldError::invalid(&most.path, highest, rules::POSITIVE));
    }
    if least.int().is_some_and(|number| highest < number) {
        errors.push(FieldError::invalid(&most.path, highest, "must be greater than or equal to `minReplicas`"));
    }
    let target = spec.get("scaleTargetRef");
    let kept =
        |name: &str| old.is_some_and(|old| text(old, &["spec", "scaleTargetRef", name]) == target.get(name).text());
    // The kind of the core group that can be scaled.
    let is_core = target.get("kind").text() == "ReplicationController";
    let version = if kept("apiVersion") && kept("kind") { Version::Any } else { Version::of(is_core) };
    reference(&target, version, &mut errors);
    metrics(&spec.get("metrics"), old, &mut errors);
    if least.int() == Some(0)
        && !spec.get("metrics").items().any(|metric| matches!(metric.get("type").text(), "Object" | "External"))
    {
        let detail = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(spec.get("metrics").forbidden(detail));
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

/// Rules of a status.
pub fn validate_status(hpa: &Value) -> Vec<FieldError> {
    let root = Field::root(hpa);
    let status = root.get("status");
    let mut errors = Vec::new();
    for name in ["currentReplicas", "desiredReplicas"] {
        rules::not_negative(&status.get(name), &mut errors);
    }
    errors
}

/// What the `apiVersion` of a reference may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    /// Nothing is asked of it: it was so before.
    Any,
    /// That of a group, or of the core group.
    Core,
    /// That of a group.
    Grouped,
}

impl Version {
    fn of(may_be_core: bool) -> Version {
        if may_be_core { Version::Core } else { Version::Grouped }
    }

    fn wrong(self, version: &str) -> Option<String> {
        match version.split('/').collect::<Vec<_>>()[..] {
            _ if self == Version::Any => None,
            [group, _] if !group.is_empty() => None,
            [_] | [_, _] if self == Version::Core => None,
            [_] | [_, _] => Some("apiVersion must specify API group".to_owned()),
            _ => Some(format!("unexpected GroupVersion string: {version}")),
        }
    }
}

fn reference(reference: &Field, version: Version, errors: &mut Vec<FieldError>) {
    for name in ["kind", "name"] {
        rules::name(&reference.get(name), names::path_segment, errors);
    }
    let field = reference.get("apiVersion");
    errors.extend(version.wrong(field.text()).map(|wrong| field.invalid(wrong)));
}

/// Writes quantities as they are written everywhere, so that `1000m` reads `1`.
fn canonicalize(hpa: &mut Value) {
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(Value::Object(rules)) = object::get_mut(hpa, &["spec", "behavior", direction]) {
            resources::canonicalize_field(rules, "tolerance");
        }
    }
    for metric in object::list_mut(hpa, &["spec", "metrics"]) {
        for part in PARTS {
            if let Some(Value::Object(target)) = object::get_mut(metric, &[part, "target"]) {
                ["value", "averageValue"].iter().for_each(|name| resources::canonicalize_field(target, name));
            }
        }
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
    let window = rules.get("stabilizationWindowSeconds");
    match window.int() {
        Some(seconds) if seconds < 0 => errors.push(window.invalid("must be greater than or equal to zero")),
        Some(seconds) if seconds > MAX_WINDOW_SECONDS => {
            errors.push(window.invalid(format!("must be less than or equal to {MAX_WINDOW_SECONDS}")));
        }
        _ => {}
    }
    rules::maybe_one_of(&rules.get("selectPolicy"), &["Disabled", "Max", "Min"], errors);
    let policies = rules.get("policies");
    if policies.is_empty() {
        errors.push(policies.required("must specify at least one Policy"));
    }
    for policy in policies.items() {
        if !matches!(policy.get("type").text(), "Percent" | "Pods") {
            errors.push(policy.get("type").not_supported(&["Percent", "Pods"]));
        }
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
    let tolerance = rules.get("tolerance");
    if tolerance.value().and_then(resources::parse).is_some_and(|share| share.is_negative()) {
        errors.push(tolerance.invalid(rules::NOT_NEGATIVE));
    }
}

fn metrics(metrics: &Field, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let described = |metric: &Value| text(metric, &["object", "describedObject", "apiVersion"]).to_owned();
    let was_wrong = |metric: &Value| {
        text(metric, &["type"]) == "Object"
            && get(metric, &["object"]).is_some()
            && Version::Core.wrong(&described(metric)).is_some()
    };
    let any = old.is_some_and(|old| list(old, &["spec", "metrics"]).iter().any(was_wrong));
    let version = if any { Version::Any } else { Version::Core };
    for metric in metrics.items() {
        self::metric(&metric, version, errors);
    }
}

/// The parts that a metric can have, in the order in which they are looked at.
const PARTS: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];

fn metric(metric: &Field, version: Version, errors: &mut Vec<FieldError>) {
    let type_ = metric.get("type");
    let supported = SOURCES.map(|(name, _)| name);
    if type_.is_empty() {
        errors.push(type_.required("must specify a metric source type"));
    }
    if !supported.contains(&type_.text()) {
        errors.push(FieldError::not_supported(&type_.path, type_.text(), &supported));
    }
    let present: Vec<&str> = PARTS.into_iter().filter(|part| metric.get(part).is_set()).collect();
    if let Some(first) = present.first() {
        metric_source(&metric.get(first), first, version, errors);
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == type_.text()).map(|(_, field)| *field);
    if let Some(expected) = expected
        && !present.contains(&expected)
    {
        errors.push(metric.get(expected).required("must populate information for the given metric source"));
    }
    if present.len() > 1 {
        for part in present.iter().filter(|part| Some(**part) != expected) {
            errors.push(metric.get(part).forbidden("must populate the given metric source only"));
        }
    }
}

fn metric_source(source: &Field, part: &str, version: Version, errors: &mut Vec<FieldError>) {
    let target = source.get("target");
    let is_set = |name: &str| target.get(name).is_set();
    match part {
        "resource" | "containerResource" => {
            let name = source.get("name");
            if name.is_empty() {
                errors.push(name.required("must specify a resource name"));
            } else if part == "containerResource" {
                resources::container_resource_name(name.text(), &name, errors);
            }
        }
        _ => {
            if part == "object" {
                reference(&source.get("describedObject"), version, errors);
            }
            let identifier = source.get("metric");
            let name = identifier.get("name");
            if name.is_empty() {
                errors.push(name.required("must specify a metric name"));
            } else {
                rules::form(&name, names::path_segment, errors);
            }
        }
    }
    if part == "containerResource" {
        let container = source.get("container");
        if container.is_empty() {
            errors.push(container.required("must specify a container"));
        } else {
            rules::form(&container, names::dns_label, errors);
        }
    }
    metric_target(&target, errors);
    // Each has one thing that it aims at; an object may have both.
    let (wanted, other, missing, both) = match part {
        "object" => ("averageValue", "value", "must set either a target value or averageValue", None),
        "external" => (
            "averageValue",
            "value",
            "must set either a target value for metric or a per-pod target",
            Some("may not set both a target value for metric and a per-pod target"),
        ),
        "pods" => ("averageValue", "averageValue", "must specify a positive target averageValue", None),
        _ => (
            "averageUtilization",
            "averageValue",
            "must set either a target raw value or a target utilization",
            Some("may not set both a target raw value and a target utilization"),
        ),
    };
    match (is_set(wanted), is_set(other), both) {
        (false, false, _) => errors.push(target.get(wanted).required(missing)),
        (true, true, Some(both)) => errors.push(target.get(other).forbidden(both)),
        _ => {}
    }
}

fn metric_target(target: &Field, errors: &mut Vec<FieldError>) {
    let type_ = target.get("type");
    if type_.is_empty() {
        errors.push(type_.required("must specify a metric target type"));
    }
    if !matches!(type_.text(), "Utilization" | "Value" | "AverageValue") {
        errors.push(type_.invalid("must be either Utilization, Value, or AverageValue"));
    }
    for name in ["value", "averageValue"] {
        let amount = target.get(name);
        if amount.value().and_then(resources::parse).is_some_and(|value| value.is_negative() || value.is_zero()) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let utilization = target.get("averageUtilization");
    if utilization.int().is_some_and(|percent| percent < 1) {
        errors.push(utilization.invalid(rules::POSITIVE));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default, check_row, check_update};

    #[test]
    fn rules() {
        check(
            "horizontalpodautoscalers",
            "{metadata: {name: a, namespace: b}, spec: {minReplicas: 0, scaleTargetRef: {kind: Deployment}, metrics: [{type: Pods}, {type: Odd}, {}]}}",
            expect![[r#"
                spec.minReplicas: Invalid value: 0: must be greater than or equal to 1
                spec.maxReplicas: Invalid value: 0: must be greater than 0
                spec.scaleTargetRef.name: Required value
                spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group
                spec.metrics[0].pods: Required value: must populate information for the given metric source
                spec.metrics[1].type: Unsupported value: "Odd": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
                spec.metrics[2].type: Required value: must specify a metric source type
                spec.metrics[2].type: Unsupported value: "": supported values: "ContainerResource", "External", "Object", "Pods", "Resource"
                spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas
            "#]],
        );
    }

    /// An autoscaler that is right but for what is given.
    fn with(spec: &str) -> String {
        format!(
            "{{metadata: {{name: a, namespace: b, resourceVersion: '1'}}, spec: {{maxReplicas: 3, scaleTargetRef: {{apiVersion: apps/v1, \
             kind: Deployment, name: d}}, {spec}}}}}"
        )
    }

    #[test]
    fn metrics_have_one_source_and_one_target() {
        let metrics = [
            "{type: Pods, pods: {metric: {name: p}, target: {type: AverageValue, averageValue: '0'}}, resource: {name: cpu}}",
            "{type: Resource, resource: {target: {type: Odd, averageUtilization: 0, averageValue: 1}}}",
            "{type: ContainerResource, containerResource: {name: gpu, container: C, target: {}}}",
            "{type: External, external: {metric: {}, target: {type: Value, value: '1', averageValue: '-1'}}}",
            "{type: Object, object: {describedObject: {apiVersion: a/b/c, kind: K, name: n}, metric: {name: 'a/b'}, target: {type: Value}}}",
            "{type: Object, object: {describedObject: {kind: K, name: n}, metric: {name: a}, target: {type: Value, value: 1, averageValue: 1}}}",
        ];
        check(
            "horizontalpodautoscalers",
            &with(&format!("metrics: [{}]", metrics.join(", "))),
            expect![[r#"
                spec.metrics[0].pods.target.averageValue: Invalid value: "0": must be positive
                spec.metrics[0].resource: Forbidden: must populate the given metric source only
                spec.metrics[1].resource.name: Required value: must specify a resource name
                spec.metrics[1].resource.target.type: Invalid value: "Odd": must be either Utilization, Value, or AverageValue
                spec.metrics[1].resource.target.averageUtilization: Invalid value: 0: must be greater than 0
                spec.metrics[1].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization
                spec.metrics[2].containerResource.name: Invalid value: "gpu": must be a standard resource type or fully qualified
                spec.metrics[2].containerResource.name: Invalid value: "gpu": must be a standard resource for containers
                spec.metrics[2].containerResource.container: Invalid value: "C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.metrics[2].containerResource.target.type: Required value: must specify a metric target type
                spec.metrics[2].containerResource.target.type: Invalid value: "": must be either Utilization, Value, or AverageValue
                spec.metrics[2].containerResource.target.averageUtilization: Required value: must set either a target raw value or a target utilization
                spec.metrics[3].external.metric.name: Required value: must specify a metric name
                spec.metrics[3].external.target.averageValue: Invalid value: "-1": must be positive
                spec.metrics[3].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target
                spec.metrics[4].object.describedObject.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c
                spec.metrics[4].object.metric.name: Invalid value: "a/b": may not contain '/'
                spec.metrics[4].object.target.averageValue: Required value: must set either a target value or averageValue
            "#]],
        );
    }

    #[test]
    fn behavior_has_bounds() {
        check(
            "horizontalpodautoscalers",
            &with(
                "behavior: {scaleUp: {stabilizationWindowSeconds: -1, selectPolicy: Odd, tolerance: '-1', policies: [{}]}, \
                 scaleDown: {stabilizationWindowSeconds: 3601, tolerance: 50m, policies: [{type: Pods, value: 1, periodSeconds: 1801}]}}",
            ),
            expect![[r#"
                spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero
                spec.behavior.scaleUp.selectPolicy: Unsupported value: "Odd": supported values: "Disabled", "Max", "Min"
                spec.behavior.scaleUp.policies[0].type: Unsupported value: "": supported values: "Percent", "Pods"
                spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero
                spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 0: must be greater than zero
                spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0
                spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600
                spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to 1800
            "#]],
        );
    }

    #[test]
    fn what_was_so_before_may_stay() {
        let nameless = with("minReplicas: 1").replace("apiVersion: apps/v1, ", "");
        check_update(
            "horizontalpodautoscalers",
            &nameless,
            &nameless.replace("maxReplicas: 3", "maxReplicas: 4"),
            expect![""],
        );
        check_update(
            "horizontalpodautoscalers",
            &nameless,
            &nameless.replace("kind: Deployment", "kind: StatefulSet"),
            expect![[r#"
                spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group
            "#]],
        );
        check(
            "horizontalpodautoscalers",
            &nameless.replace("kind: Deployment", "kind: ReplicationController").replace(", resourceVersion: '1'", ""),
            expect![""],
        );
        let idle = with(
            "minReplicas: 0, metrics: [{type: External, external: {metric: {name: e}, target: {type: Value, value: 1}}}]",
        );
        check_update("horizontalpodautoscalers", &idle, &idle, expect![""]);
    }

    #[test]
    fn defaults() {
        check_default(
            "horizontalpodautoscalers",
            "{spec: {maxReplicas: 3, behavior: {scaleDown: {policies: [], tolerance: 1000m}}}}",
            expect![[r#"
                metadata: {}
                spec:
                  behavior:
                    scaleDown:
                      policies: []
                      selectPolicy: Max
                      tolerance: "1"
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
