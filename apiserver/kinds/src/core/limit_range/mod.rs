//! LimitRange: bounds and defaults for what pods of a namespace ask for.

pub mod enforce;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::core::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object;
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "LimitRange", "limitranges", "io.k8s.api.core.v1.LimitRange")
        .short_names(&["limits"])
        .columns(vec![Column::name(), Column::created_at()])
        .strategy(LimitRange)
}

struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, range: &mut Value) {
        for item in object::list_mut(range, &["spec", "limits"]).iter_mut().filter_map(Value::as_object_mut) {
            for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
                if let Some(Value::Object(amounts)) = item.get_mut(list) {
                    resources::canonicalize_list(amounts);
                }
            }
            if item.get("type").and_then(Value::as_str) == Some("Container") {
                inherit(item, "default", "max");
                inherit(item, "defaultRequest", "default");
                inherit(item, "defaultRequest", "min");
            }
        }
    }

    fn validate(&self, range: &Value) -> Vec<FieldError> {
        let root = Field::root(range);
        let mut errors = Vec::new();
        let mut types = BTreeSet::new();
        for item in root.get("spec").get("limits").items() {
            let type_ = item.get("type");
            rules::form(&type_, names::qualified_name, &mut errors);
            if !type_.text().contains('/') && !TYPES.contains(&type_.text()) {
                errors.push(type_.invalid("must be a standard limit type or fully qualified"));
            }
            if !types.insert(type_.text()) {
                errors.push(type_.duplicate());
            }
            self::item(&item, &mut errors);
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// What Kubernetes itself limits.
const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];

/// Copies what `target` lacks from `source`.
fn inherit(item: &mut Map<String, Value>, target: &str, source: &str) {
    let Some(Value::Object(source)) = item.get(source).cloned() else { return };
    let target = item.entry(target).or_insert_with(|| Value::Object(Map::new()));
    let Some(target) = target.as_object_mut() else { return };
    for (name, amount) in source {
        target.entry(name).or_insert(amount);
    }
}

fn item(item: &Field, errors: &mut Vec<FieldError>) {
    let lists = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"].map(|name| item.get(name));
    let type_ = item.get("type").text();
    for list in &lists {
        for (name, amount) in list.entries() {
            if matches!(type_, "Pod" | "Container") {
                resources::container_resource_name(name, &amount, errors);
            }
            resources::quantity(name, &amount, errors);
        }
    }
    let [max, min, default, request, ratio] = lists;
    if type_ == "Pod" {
        for list in [&default, &request] {
            if !list.is_empty() {
                errors.push(list.forbidden("may not be specified when `type` is 'Pod'"));
            }
        }
    }
    if type_ == "PersistentVolumeClaim" && [&min, &max].iter().all(|list| list.key("storage").value().is_none()) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(item.get("limits").required(detail));
    }
    let resources: BTreeSet<&str> = [&max, &min, &default, &request, &ratio]
        .iter()
        .flat_map(|list| list.entries().map(|(name, _)| name).collect::<Vec<_>>())
        .collect();
    for name in resources {
        let amount = |list: &Field| list.key(name).value().and_then(resources::parse);
        let pairs = [
            (&min, "min", &max, "max", &min),
            (&min, "min", &request, "default request", &request),
            (&request, "default request", &max, "max", &request),
            (&request, "default request", &default, "default limit", &request),
            (&min, "min", &default, "default", &default),
            (&default, "default", &max, "max", &default),
        ];
        for (low, low_name, high, high_name, blamed) in pairs {
            if let (Some(a), Some(b)) = (amount(low), amount(high))
                && a > b
            {
                let detail = format!("{low_name} value {a} is greater than {high_name} value {b}");
                let shown = amount(blamed).unwrap_or(a).to_string();
                errors.push(FieldError::invalid(&blamed.path.key(name), shown, detail));
            }
        }
        let Some(most) = amount(&ratio) else { continue };
        let mut refuse = |detail| errors.push(FieldError::invalid(&ratio.path.key(name), most.to_string(), detail));
        if most < crate::quantity::Quantity::from_int(1) {
            refuse(format!("ratio {most} is less than 1"));
        }
        if let (Some(min), Some(max)) = (amount(&min), amount(&max)) {
            // Shown only; a ratio needs no more digits than a float has.
            let widest = max.milli_value() as f64 / min.milli_value() as f64;
            if most.milli_value() as f64 > widest * 1000.0 {
                refuse(format!("ratio {most} is greater than max/min = {widest:.6}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_default};

    #[test]
    fn defaults() {
        check_default(
            "limitranges",
            "{spec: {limits: [{type: Container, max: {cpu: 2000m}, min: {memory: 1Mi}}]}}",
            expect![[r#"
                metadata: {}
                spec:
                  limits:
                  - default:
                      cpu: "2"
                    defaultRequest:
                      cpu: "2"
                      memory: 1Mi
                    max:
                      cpu: "2"
                    min:
                      memory: 1Mi
                    type: Container
            "#]],
        );
    }

    #[test]
    fn rules() {
        check(
            "limitranges",
            "{metadata: {name: a, namespace: b}, spec: {limits: [{type: Foo}, {type: PersistentVolumeClaim}, {type: a.b/c}, \
             {type: Container, max: {cpu: 4, a.b/c: 1, x: 1}, min: {cpu: 2}, default: {cpu: 1}, defaultRequest: {cpu: 1}, \
             maxLimitRequestRatio: {cpu: 3, memory: 500m}}]}}",
            expect![[r#"
                spec.limits[0].type: Invalid value: "Foo": must be a standard limit type or fully qualified
                spec.limits[1].limits: Required value: either minimum or maximum storage value is required, but neither was provided
                spec.limits[3].max[x]: Invalid value: "x": must be a standard resource type or fully qualified
                spec.limits[3].max[x]: Invalid value: "x": must be a standard resource for containers
                spec.limits[3].default[x]: Invalid value: "x": must be a standard resource type or fully qualified
                spec.limits[3].default[x]: Invalid value: "x": must be a standard resource for containers
                spec.limits[3].defaultRequest[x]: Invalid value: "x": must be a standard resource type or fully qualified
                spec.limits[3].defaultRequest[x]: Invalid value: "x": must be a standard resource for containers
                spec.limits[3].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1
                spec.limits[3].default[cpu]: Invalid value: "1": min value 2 is greater than default value 1
                spec.limits[3].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000
                spec.limits[3].maxLimitRequestRatio[memory]: Invalid value: "500m": ratio 500m is less than 1
            "#]],
        );
        check(
            "limitranges",
            "{metadata: {name: a, namespace: b}, spec: {limits: [{type: Pod, default: {cpu: 1}}, {type: Pod, max: {cpu: 1}, min: {cpu: 2}}]}}",
            expect![[r#"
                spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'
                spec.limits[1].type: Duplicate value: "Pod"
                spec.limits[1].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
            "#]],
        );
    }
}
