//! HorizontalPodAutoscaler as `autoscaling/v1` spells it: what this version has no fields for travels in annotations, so
//! that nothing is lost on the way through an old client.

use serde_json::{Map, Value, json};

use super::horizontal_pod_autoscaler;
use crate::field::FieldError;
use crate::kind::{self, Column, Conversion, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, int, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

const TARGET_PERCENT: &str = "targetCPUUtilizationPercentage";
const CURRENT_PERCENT: &str = "currentCPUUtilizationPercentage";

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler";
    KindDef::builtin("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", schema)
        .short_names(&["hpa"])
        .categories(&["all"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("Reference", |hpa, _| {
                let target = |field: &str| text(hpa, &["spec", "scaleTargetRef", field]);
                format!("{}/{}", target("kind"), target("name")).into()
            }),
            Column::text("Targets", |hpa, _| {
                let percent = |path: &[&str]| get(hpa, path).map(|percent| format!("{percent}%"));
                let current = percent(&["status", CURRENT_PERCENT]).unwrap_or_else(|| "<unknown>".to_owned());
                let target = percent(&["spec", TARGET_PERCENT]).unwrap_or_else(|| "<unset>".to_owned());
                format!("cpu: {current}/{target}").into()
            }),
            Column::text("MinPods", |hpa, _| match get(hpa, &["spec", "minReplicas"]) {
                Some(number) => number.to_string().into(),
                None => "<unset>".into(),
            }),
            Column::new("MaxPods", "string", |hpa, _| int(hpa, &["spec", "maxReplicas"]).into()),
            Column::new("Replicas", "string", |hpa, _| int(hpa, &["status", "currentReplicas"]).into()),
            Column::age(),
        ])
        .strategy(HorizontalPodAutoscaler)
        .stored_as(("autoscaling", "v2"), Spelling)
}

/// The object is stored as `autoscaling/v2`.
struct Spelling;

impl Conversion for Spelling {
    fn to_stored(&self, hpa: &mut Value) {
        hpa["apiVersion"] = "autoscaling/v2".into();
        let [metrics, current, conditions, behavior] =
            [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].map(|key| take_annotation(hpa, key));
        if let Some(spec) = object::ensure(hpa, &["spec"]) {
            let percent = spec.remove(TARGET_PERCENT);
            let others = list(metrics).into_iter().map(|metric| to_v2(metric, "target"));
            let mut metrics: Vec<Value> = percent.filter(|percent| !percent.is_null()).map(cpu).into_iter().collect();
            metrics.extend(others);
            if metrics.is_empty() {
                metrics.push(cpu(horizontal_pod_autoscaler::DEFAULT_CPU_PERCENT.into()));
            }
            spec.insert("metrics".to_owned(), metrics.into());
            spec.extend(behavior.map(|behavior| ("behavior".to_owned(), behavior)));
        }
        let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut) else { return };
        let percent = status.remove(CURRENT_PERCENT);
        let mut metrics: Vec<Value> = list(current).into_iter().map(|metric| to_v2(metric, "current")).collect();
        if metrics.is_empty() {
            let current = percent.map(|percent| json!({"averageUtilization": percent, "averageValue": "0"}));
            metrics.extend(
                current.map(|current| json!({"type": "Resource", "resource": {"name": "cpu", "current": current}})),
            );
        }
        if !metrics.is_empty() {
            status.insert("currentMetrics".to_owned(), metrics.into());
        }
        status.extend(conditions.map(|conditions| ("conditions".to_owned(), conditions)));
    }

    fn to_served(&self, hpa: &mut Value) {
        hpa["apiVersion"] = "autoscaling/v1".into();
        let mut take = |path: [&str; 2]| {
            let part = hpa.get_mut(path[0])?.as_object_mut()?.remove(path[1])?;
            (!part.is_null()).then_some(part)
        };
        let metrics = list(take(["spec", "metrics"]));
        let behavior = take(["spec", "behavior"]);
        let current = list(take(["status", "currentMetrics"]));
        let conditions = take(["status", "conditions"]).filter(|found| found.as_array().is_some_and(|c| !c.is_empty()));
        let percent = |metrics: &[Value], part: &str| metrics.iter().find_map(|metric| cpu_percent(metric, part));
        if let (Some(percent), Some(spec)) = (percent(&metrics, "target"), object::ensure(hpa, &["spec"])) {
            spec.insert(TARGET_PERCENT.to_owned(), percent);
        }
        if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut) {
            status.extend(percent(&current, "current").map(|percent| (CURRENT_PERCENT.to_owned(), percent)));
            // The newer version leaves none out.
            object::set_default(status, "currentReplicas", 0);
        }
        let others: Vec<Value> = metrics
            .into_iter()
            .filter(|metric| cpu_percent(metric, "target").is_none())
            .map(|metric| to_v1(metric, "target"))
            .collect();
        let current: Vec<Value> = current.into_iter().map(|metric| to_v1(metric, "current")).collect();
        let some = |values: Vec<Value>| (!values.is_empty()).then_some(Value::Array(values));
        for (key, value) in
            [(METRICS, some(others)), (CURRENT_METRICS, some(current)), (CONDITIONS, conditions), (BEHAVIOR, behavior)]
        {
            let Some(value) = value else { continue };
            if let Some(annotations) = object::ensure(hpa, &["metadata", "annotations"]) {
                annotations.insert(key.to_owned(), value.to_string().into());
            }
        }
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// The JSON in an annotation. What cannot be read stays where it is, as the user's own.
fn take_annotation(hpa: &mut Value, key: &str) -> Option<Value> {
    let annotations = object::get_mut(hpa, &["metadata", "annotations"])?.as_object_mut()?;
    let value = serde_json::from_str(annotations.get(key)?.as_str()?).ok()?;
    annotations.remove(key);
    if annotations.is_empty() {
        hpa.get_mut("metadata")?.as_object_mut()?.remove("annotations");
    }
    Some(value)
}

fn cpu(percent: Value) -> Value {
    let target = json!({"type": "Utilization", "averageUtilization": percent});
    json!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// The utilization of a metric that this version has a field for.
fn cpu_percent(metric: &Value, part: &str) -> Option<Value> {
    let is_cpu = text(metric, &["type"]) == "Resource" && text(metric, &["resource", "name"]) == "cpu";
    get(metric, &["resource", part, "averageUtilization"]).filter(|_| is_cpu).cloned()
}

/// The part of a metric that its type names, such as `containerResource`.
fn source(type_: &str) -> String {
    let mut letters = type_.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// Names of this version's fields for the parts of a value, by whether it is a `target` or `current`.
fn value_names(type_: &str, part: &str) -> [(&'static str, String); 3] {
    let averages = match type_ {
        // An object's average has no prefix.
        "Object" => "averageValue".to_owned(),
        _ => format!("{part}AverageValue"),
    };
    [
        ("averageUtilization", format!("{part}AverageUtilization")),
        ("averageValue", averages),
        ("value", format!("{part}Value")),
    ]
}

/// A metric of this version's annotations as `autoscaling/v2` has it; `part` is `target` or `current`.
fn to_v2(mut metric: Value, part: &str) -> Value {
    let type_ = text(&metric, &["type"]).to_owned();
    let Some(fields) = metric.get_mut(source(&type_)).and_then(Value::as_object_mut) else { return metric };
    let mut values = Map::new();
    for (new, old) in value_names(&type_, part) {
        let value = fields.remove(&old).filter(|value| !value.is_null());
        values.extend(value.map(|value| (new.to_owned(), value)));
    }
    if part == "target" {
        let type_ = ["averageUtilization", "averageValue"].into_iter().find(|name| values.contains_key(*name));
        let type_ = match type_ {
            Some("averageUtilization") => "Utilization",
            Some(_) => "AverageValue",
            None => "Value",
        };
        values.insert("type".to_owned(), type_.into());
    }
    if type_ == "Object" {
        let described = fields.remove("target");
        fields.extend(described.map(|described| ("describedObject".to_owned(), described)));
    }
    fields.insert(part.to_owned(), values.into());
    if let Some(name) = fields.remove("metricName") {
        let selector = fields.remove("selector").or_else(|| fields.remove("metricSelector"));
        let mut identifier = Map::from_iter([("name".to_owned(), name)]);
        identifier.extend(selector.map(|selector| ("selector".to_owned(), selector)));
        fields.insert("metric".to_owned(), identifier.into());
    }
    metric
}

/// The way back of [`to_v2`].
fn to_v1(mut metric: Value, part: &str) -> Value {
    let type_ = text(&metric, &["type"]).to_owned();
    let Some(fields) = metric.get_mut(source(&type_)).and_then(Value::as_object_mut) else { return metric };
    if let Some(Value::Object(mut values)) = fields.remove(part) {
        for (new, old) in value_names(&type_, part) {
            fields.extend(values.remove(new).map(|value| (old, value)));
        }
    }
    if type_ == "Object" {
        let described = fields.remove("describedObject");
        fields.extend(described.map(|described| ("target".to_owned(), described)));
    }
    if let Some(Value::Object(mut identifier)) = fields.remove("metric") {
        fields.extend(identifier.remove("name").map(|name| ("metricName".to_owned(), name)));
        let selector = if type_ == "External" { "metricSelector" } else { "selector" };
        fields.extend(identifier.remove("selector").map(|value| (selector.to_owned(), value)));
    }
    metric
}

struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn default(&self, hpa: &mut Value) {
        if let Some(spec) = object::ensure(hpa, &["spec"]) {
            object::set_default(spec, "minReplicas", 1);
        }
    }

    fn prepare_for_create(&self, hpa: &mut Value) {
        kind::prepare_for_create(self.shape(), hpa);
        if let Some(object) = hpa.as_object_mut() {
            object.insert("status".to_owned(), json!({"currentReplicas": 0, "desiredReplicas": 0}));
        }
    }

    /// The rules are those of the version that it is stored as, in whose annotations a client may have put anything.
    fn validate(&self, hpa: &Value) -> Vec<FieldError> {
        horizontal_pod_autoscaler::validate(&stored(hpa), None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        horizontal_pod_autoscaler::validate(&stored(new), Some(&stored(old)))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        horizontal_pod_autoscaler::validate_status(new)
    }
}

fn stored(hpa: &Value) -> Value {
    let mut stored = hpa.clone();
    Spelling.to_stored(&mut stored);
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::yaml;

    #[test]
    fn nothing_is_lost_on_the_way() {
        let stored = yaml(
            r#"
            apiVersion: autoscaling/v2
            kind: HorizontalPodAutoscaler
            metadata: {name: a, annotations: {own: kept}}
            spec:
              maxReplicas: 3
              behavior: {scaleDown: {selectPolicy: Min}}
              metrics:
              - {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 60}}}
              - {type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}
              - {type: Pods, pods: {metric: {name: q, selector: {matchLabels: {a: b}}}, target: {type: AverageValue, averageValue: "5"}}}
              - {type: External, external: {metric: {name: e, selector: {}}, target: {type: Value, value: "7"}}}
              - {type: Object, object: {metric: {name: o}, describedObject: {kind: Ingress, name: i}, target: {type: AverageValue, averageValue: "2"}}}
              - {type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 50}}}
            status:
              currentReplicas: 1
              conditions: [{type: AbleToScale, status: "True"}]
              currentMetrics: [{type: Resource, resource: {name: cpu, current: {averageUtilization: 20, averageValue: 10m}}}]
            "#,
        );
        let mut hpa = stored.clone();
        Spelling.to_served(&mut hpa);
        assert_eq!((&hpa["apiVersion"], &hpa["spec"][TARGET_PERCENT]), (&json!("autoscaling/v1"), &json!(60)));
        assert_eq!(hpa["status"], json!({"currentReplicas": 1, CURRENT_PERCENT: 20}));
        let metrics = hpa["metadata"]["annotations"][METRICS].as_str().unwrap();
        let metrics: Value = serde_json::from_str(metrics).unwrap();
        assert_eq!(metrics[0]["resource"], json!({"name": "memory", "targetAverageValue": "1Gi"}));
        assert_eq!(metrics[2]["external"], json!({"metricName": "e", "metricSelector": {}, "targetValue": "7"}));
        let object = json!({"metricName": "o", "target": {"kind": "Ingress", "name": "i"}, "averageValue": "2"});
        assert_eq!(metrics[3]["object"], object);
        Spelling.to_stored(&mut hpa);
        assert_eq!(hpa, stored);
    }

    #[test]
    fn the_rules_are_those_of_the_version_it_is_stored_as() {
        let hpa = yaml(
            r#"
            metadata: {name: a, annotations: {autoscaling.alpha.kubernetes.io/behavior: '{"scaleUp":{}}'}}
            spec: {minReplicas: 2, maxReplicas: 1, targetCPUUtilizationPercentage: 0, scaleTargetRef: {kind: Deployment, name: d}}
            "#,
        );
        let told: Vec<String> = HorizontalPodAutoscaler.validate(&hpa).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.maxReplicas: Invalid value: 1: must be greater than or equal to `minReplicas`",
                r#"spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group"#,
                "spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
                "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
            ]
        );
    }

    #[test]
    fn a_plain_one_scales_by_cpu() {
        let mut hpa = yaml("{apiVersion: autoscaling/v1, metadata: {name: a}, spec: {maxReplicas: 3}}");
        Spelling.to_stored(&mut hpa);
        assert_eq!(hpa["spec"]["metrics"], json!([cpu(80.into())]));
        hpa["status"] = json!({"desiredReplicas": 0});
        Spelling.to_served(&mut hpa);
        assert_eq!(hpa["metadata"], json!({"name": "a"}));
        assert_eq!(hpa["status"], json!({"currentReplicas": 0, "desiredReplicas": 0}));
    }
}
