//! DeviceClass: a kind of devices that claims can ask for by name.

use serde_json::Value;

use super::names::many;
use super::request;
use crate::core::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin(super::GROUP, "v1", "DeviceClass", "deviceclasses", "io.k8s.api.resource.v1.DeviceClass")
        .cluster_scoped()
        .columns(vec![Column::name(), Column::age()])
        .answers_deleted()
        .strategy(DeviceClass)
}

struct DeviceClass;

impl Strategy for DeviceClass {
    fn shape(&self) -> Shape {
        Shape::SPEC
    }

    fn validate(&self, class: &Value) -> Vec<FieldError> {
        let root = Field::root(class);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        request::selectors(&spec.get("selectors"), &mut errors);
        many(&spec.get("config"), request::MAX_ITEMS, &mut errors, |config, errors| {
            request::configuration(&config, errors);
        });
        let extended = spec.get("extendedResourceName");
        if extended.is_set() && !resources::is_extended(extended.text()) {
            errors.push(extended.invalid("must be a valid extended resource name"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::check;

    #[test]
    fn rules() {
        check(
            "deviceclasses",
            "{metadata: {name: a}, spec: {extendedResourceName: cpu, selectors: [{}], config: [{}, {opaque: {driver: A_b, parameters: 1}}]}}",
            expect![[r#"
                spec.selectors[0].cel: Required value
                spec.config[0].opaque: Required value
                spec.config[1].opaque.driver: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
                spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name
            "#]],
        );
    }
}
