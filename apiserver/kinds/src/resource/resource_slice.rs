//! ResourceSlice: devices of one pool, as their driver publishes them.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, SelectableField, Shape, Strategy};
use crate::object::text;
use crate::{names, rules};

/// Devices per slice.
const MAX_DEVICES: usize = 128;

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
        let root = Field::root(slice);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        rules::name(&spec.get("driver"), names::dns_subdomain, &mut errors);
        let pool = spec.get("pool");
        rules::required(&pool.get("name"), &mut errors);
        rules::not_negative(&pool.get("generation"), &mut errors);
        let count = pool.get("resourceSliceCount");
        if count.int().unwrap_or_default() <= 0 {
            let shown = count.int().unwrap_or_default();
            errors.push(FieldError::invalid(&count.path, shown, "must be greater than zero"));
        }
        let is_true = |name: &str| spec.get(name).bool() == Some(true);
        let places = [
            !spec.get("nodeName").is_empty(),
            spec.get("nodeSelector").is_set(),
            is_true("allNodes"),
            is_true("perDeviceNodeSelection"),
        ];
        if places.into_iter().filter(|place| *place).count() != 1 {
            let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            let shown = spec.value().cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&spec.path, shown, detail));
        }
        let devices = spec.get("devices");
        if devices.len() > MAX_DEVICES {
            errors.push(FieldError::too_many(&devices.path, devices.len(), MAX_DEVICES));
        }
        let mut seen = Vec::new();
        for device in devices.items() {
            let name = device.get("name");
            rules::name(&name, names::dns_label, &mut errors);
            if seen.contains(&name.text()) {
                errors.push(name.duplicate());
            }
            seen.push(name.text());
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        for name in ["driver", "nodeName"] {
            rules::immutable(&new.get(name), &old.get(name), &mut errors);
        }
        let (new, old) = (new.get("pool"), old.get("pool"));
        rules::immutable(&new.get("name"), &old.get("name"), &mut errors);
        errors
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
                spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero
                spec: Invalid value: {"devices":[{"name":"d"},{"name":"d"}],"driver":"","pool":{"generation":0,"name":"p","resourceSliceCount":0}}: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required
                spec.devices[1].name: Duplicate value: "d"
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
}
