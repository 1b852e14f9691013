//! ResourceSlice: devices of one pool, as their driver publishes them.

use serde_json::Value;

use super::device;
use super::names::{driver, many, unique};
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, SelectableField, Shape, Strategy};
use crate::object::{list, text};
use crate::{names, rules};

/// Devices per slice.
const MAX_DEVICES: usize = 128;
/// Devices per slice in which some have taints or draw on counters.
const MAX_ADVANCED_DEVICES: usize = 64;
/// Sets of counters per slice.
const MAX_COUNTER_SETS: usize = 8;

pub fn definition() -> KindDef {
    KindDef::builtin(super::GROUP, "v1", "ResourceSlice", "resourceslices", "io.k8s.api.resource.v1.ResourceSlice")
        .cluster_scoped()
        .columns(vec![
            Column::name(),
            Column::text("Node", |slice, _| match text(slice, &["spec", "nodeName"]) {
                "" => "<unset>".into(),
                node => node.into(),
            }),
            Column::at("Driver", "string", "spec.driver"),
            Column::at("Pool", "string", "spec.pool.name"),
            Column::age(),
        ])
        .selectable(["spec.driver", "spec.nodeName"].map(SelectableField::at).into())
        .answers_deleted()
        .strategy(ResourceSlice)
}

struct ResourceSlice;

impl Strategy for ResourceSlice {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn validate(&self, slice: &Value) -> Vec<FieldError> {
        validate(slice, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        validate(new, Some(old))
    }
}

fn validate(slice: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let root = Field::root(slice);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    driver(&spec.get("driver"), &mut errors);
    let pool = spec.get("pool");
    super::names::pool(&pool.get("name"), &mut errors);
    let count = pool.get("resourceSliceCount");
    if count.int().unwrap_or_default() <= 0 {
        let shown = count.int().unwrap_or_default();
        errors.push(FieldError::invalid(&count.path, shown, "must be greater than zero"));
    }
    let generation = pool.get("generation");
    if generation.int().is_some_and(|generation| generation < 0) {
        errors.push(generation.invalid("must be greater than or equal to zero"));
    }
    if let Some(old) = old {
        let before = Field::root(old);
        let before = before.get("spec");
        rules::immutable(&pool.get("name"), &before.get("pool").get("name"), &mut errors);
        for name in ["driver", "nodeName"] {
            rules::immutable(&spec.get(name), &before.get(name), &mut errors);
        }
    }
    let each = spec.get("perDeviceNodeSelection");
    place(&spec, &each, &mut errors);
    let (counters, devices) = (spec.get("sharedCounters"), spec.get("devices"));
    if counters.is_set() && devices.is_set() {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(&spec.path, "", detail));
    }
    let is_advanced = |device: Field| !device.get("taints").is_empty() || !device.get("consumesCounters").is_empty();
    let max = if devices.items().any(is_advanced) { MAX_ADVANCED_DEVICES } else { MAX_DEVICES };
    let before = old.map(|old| list(old, &["spec", "devices"])).unwrap_or_default();
    many(&devices, max, &mut errors, |device, errors| {
        let name = device.get("name");
        let old = before.iter().find(|known| text(known, &["name"]) == name.text());
        device::validate(&device, old, each.bool() == Some(true), errors);
    });
    unique(&devices, max, &mut errors, |device| device.get("name").text().to_owned());
    many(&counters, MAX_COUNTER_SETS, &mut errors, |set, errors| {
        rules::name(&set.get("name"), names::dns_label, errors);
        device::counters(&set.get("counters"), errors);
    });
    unique(&counters, MAX_COUNTER_SETS, &mut errors, |set| set.get("name").text().to_owned());
    errors
}

/// Where the slice's devices can be used: told in one way.
fn place(spec: &Field, each: &Field, errors: &mut Vec<FieldError>) {
    let selector = spec.get("nodeSelector");
    let empty = "must be either unset or set to a non-empty string";
    let mut set = device::chosen(&spec.get("nodeName"), empty, &selector, &spec.get("allNodes"), errors);
    let terms = selector.get("nodeSelectorTerms");
    if selector.is_set() && terms.len() != 1 {
        let shown = terms.value().cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&terms.path, shown, "must have exactly one node selector term"));
    }
    if each.bool() == Some(true) {
        set.push("`perDeviceNodeSelection`");
    } else if each.is_set() {
        errors.push(each.invalid("must be either unset or set to true"));
    }
    let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(FieldError::required(&spec.path, detail)),
        1 => {}
        _ => {
            let detail = format!("{detail}, but multiple fields are set");
            errors.push(FieldError::invalid(&spec.path, format!("{{{}}}", set.join(", ")), detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    #[test]
    fn rules() {
        check(
            "resourceslices",
            "{metadata: {name: a}, spec: {pool: {name: p}, devices: [{name: d}, {name: d}]}}",
            expect![[r#"
                spec.driver: Required value
                spec.driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
                spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required
                spec.devices[1]: Duplicate value: "d"
            "#]],
        );
        check_update(
            "resourceslices",
            "{metadata: {name: a}, spec: {driver: a.b, allNodes: true, pool: {name: p, resourceSliceCount: 1}}}",
            "{metadata: {name: a}, spec: {driver: a.c, allNodes: true, pool: {name: p, resourceSliceCount: 1}}}",
            expect![[r#"
                spec.driver: Invalid value: "a.c": field is immutable
            "#]],
        );
        check_row(
            "resourceslices",
            "{metadata: {name: a}, spec: {driver: a.b, nodeName: n1, pool: {name: p}}}",
            expect!["Name=a | Node=n1 | Driver=a.b | Pool=p | Age=<unknown>"],
        );
    }

    #[test]
    fn devices() {
        check(
            "resourceslices",
            "{metadata: {name: a}, spec: {driver: a.b, nodeName: node, allNodes: false, perDeviceNodeSelection: true, pool: {name: p/Q, resourceSliceCount: 1, generation: -1},
              sharedCounters: [{name: c, counters: {A: {value: 1}}}, {name: c}],
              devices: [{name: D, allNodes: true, nodeName: m, attributes: {a.b/c: {}, 1x: {int: 1, bool: true}, v: {version: '1'}},
                capacity: {q: {value: 1, requestPolicy: {}}}, taints: [{key: a, effect: Odd}], consumesCounters: [{}], bindingConditions: [a, a]},
                {name: e, allowMultipleAllocations: true, capacity: {r: {value: 10, requestPolicy: {default: 1, validValues: [2, 1, 20, 20]}},
                s: {value: 10, requestPolicy: {default: 3, validRange: {min: 2, max: 11, step: 2}}}, t: {value: 1, requestPolicy: {validRange: {min: 1}}}}}]}}",
            expect![[r#"
                spec.pool.name: Invalid value: "Q": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.pool.generation: Invalid value: -1: must be greater than or equal to zero
                spec.allNodes: Invalid value: false: must be either unset or set to true
                spec: Invalid value: "{`nodeName`, `perDeviceNodeSelection`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set
                spec: Invalid value: "": only one of `sharedCounters` or `devices` is allowed
                spec.devices[0].name: Invalid value: "D": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.devices[0].attributes[1x]: Invalid value: "1x": a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')
                spec.devices[0].attributes[1x]: Invalid value: {"bool":true,"int":1}: exactly one value must be specified
                spec.devices[0].attributes[a.b/c]: Invalid value: "": exactly one value must be specified
                spec.devices[0].attributes[v].version: Invalid value: "1": must be a string compatible with semver.org spec 2.0.0
                spec.devices[0].capacity[q].requestPolicy: Forbidden: allowMultipleAllocations must be true
                spec.devices[0].taints[0].effect: Unsupported value: "Odd": supported values: "NoExecute", "NoSchedule", "None"
                spec.devices[0].consumesCounters[0].counterSet: Required value
                spec.devices[0].consumesCounters[0].counters: Required value
                spec.devices[0]: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec
                spec.devices[0].bindingConditions[1]: Duplicate value: "a"
                spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions
                spec.devices[1].capacity[r].requestPolicy.validValues[1]: Invalid value: 1: values must be sorted in ascending order
                spec.devices[1].capacity[r].requestPolicy.validValues[2]: Invalid value: 20: option is larger than capacity value: 10
                spec.devices[1].capacity[r].requestPolicy.validValues[3]: Invalid value: 20: option is larger than capacity value: 10
                spec.devices[1].capacity[r].requestPolicy.validValues[3]: Duplicate value: "20"
                spec.devices[1].capacity[s].requestPolicy.validRange.max: Invalid value: "11": max is larger than capacity value: 10
                spec.devices[1].capacity[s].requestPolicy.validRange.step: Invalid value: "3": value is not a multiple of a given step (2) from (2)
                spec.devices[1].capacity[s].requestPolicy.validRange.step: Invalid value: "11": value is not a multiple of a given step (2) from (2)
                spec.devices[1].capacity[t].requestPolicy.default: Required value: required when validRange is defined
                spec.devices[1]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec
                spec.sharedCounters[0].counters[A]: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.sharedCounters[1].counters: Required value
                spec.sharedCounters[1]: Duplicate value: "c"
            "#]],
        );
    }
}
