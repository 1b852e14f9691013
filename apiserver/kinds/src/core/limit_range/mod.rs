//! LimitRange: bounds and defaults for what pods of a namespace ask for.

pub mod enforce;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::core::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Strategy};
use crate::object;
use crate::quantity::{Quantity, QuantityError};
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "LimitRange", "limitranges", "io.k8s.api.core.v1.LimitRange")
        .short_names(&["limits"])
        .columns(vec![Column::name(), Column::created_at()])
        .strategy(LimitRange)
}

struct LimitRange;

impl Strategy for LimitRange {
    /// One that nobody names is called by its UID.
    fn prepare_for_create(&self, range: &mut Value) {
        kind::prepare_for_create(self.shape(), range);
        let uid = object::text(range, &["metadata", "uid"]).to_owned();
        if let Some(metadata) = object::ensure(range, &["metadata"]).filter(|_| !uid.is_empty()) {
            object::set_default_text(metadata, "name", &uid);
        }
    }

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
            let (type_, known) = (item.get("type"), errors.len());
            rules::form(&type_, names::qualified_name, &mut errors);
            if errors.len() == known && !type_.text().contains('/') && !TYPES.contains(&type_.text()) {
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
    let [max, min, default, request, ratio] = &lists;
    let type_ = item.get("type").text();
    let is_pod = type_ == "Pod";
    for list in [max, min] {
        resource_names(list, type_, errors);
    }
    for list in [default, request] {
        if is_pod && !list.is_empty() {
            errors.push(list.forbidden("may not be specified when `type` is 'Pod'"));
        } else {
            resource_names(list, type_, errors);
        }
    }
    if type_ == "PersistentVolumeClaim" && [min, max].iter().all(|list| !list.key("storage").is_set()) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(item.get("limits").required(detail));
    }
    resource_names(ratio, type_, errors);
    let mut counted = vec![max, min, ratio];
    if !is_pod {
        counted.extend([default, request]);
    }
    let of = |list: &Field| list.entries().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    let names: BTreeSet<String> = counted.into_iter().flat_map(of).collect();
    for name in names {
        amounts(&name, &lists, is_pod, errors);
    }
}

/// Compares what an item says of one resource.
fn amounts(name: &str, lists: &[Field; 5], is_pod: bool, errors: &mut Vec<FieldError>) {
    let amount = |list: &Field| list.key(name).value().and_then(resources::parse);
    let [max, min, default, request, ratio] = lists;
    let of_containers = |list: &Field| amount(list).filter(|_| !is_pod);
    let (most, least, limit, asked) = (amount(max), amount(min), of_containers(default), of_containers(request));
    // Which field is blamed, and which amount is shown, is Kubernetes' own.
    for (low, low_name, high, high_name, blamed, shown) in [
        (least, "min", most, "max", min, least),
        (least, "min", asked, "default request", request, asked),
        (asked, "default request", most, "max", request, asked),
        (asked, "default request", limit, "default limit", request, asked),
        (least, "min", limit, "default", default, least),
        (limit, "default", most, "max", default, most),
    ] {
        if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
            && low > high
        {
            let detail = format!("{low_name} value {low} is greater than {high_name} value {high}");
            errors.push(FieldError::invalid(&blamed.path.key(name), shown.to_string(), detail));
        }
    }
    if let Some(times) = amount(ratio) {
        let mut refuse = |detail| errors.push(FieldError::invalid(&ratio.path.key(name), times.to_string(), detail));
        if times < Quantity::from_int(1) {
            refuse(format!("ratio {times} is less than 1"));
        }
        if let (Some(least), Some(most)) = (least, most) {
            // Shown only; a ratio needs no more digits than a float has.
            let widest = most.milli_value() as f64 / least.milli_value() as f64;
            if times.milli_value() as f64 > widest * 1000.0 {
                refuse(format!("ratio {times} is greater than max/min = {widest:.6}"));
            }
        }
    }
    if let (Some(limit), Some(asked)) = (limit, asked)
        && !resources::overcommits(name)
        && limit != asked
    {
        let detail = format!("default value {limit} must equal to defaultRequest value {asked} in {name}");
        errors.push(FieldError::invalid(&request.path.key(name), asked.to_string(), detail));
    }
}

fn resource_names(list: &Field, type_: &str, errors: &mut Vec<FieldError>) {
    for (name, amount) in list.entries() {
        match type_ {
            "Pod" | "Container" => resources::container_resource_name(name, &amount, errors),
            _ => _ = resources::resource_name(name, &amount, errors),
        }
        if amount.value().is_some_and(|value| resources::parse(value).is_none()) {
            errors.push(amount.invalid(QuantityError::Format.to_string()));
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
                spec.limits[3].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1
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
