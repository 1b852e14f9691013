//! DeviceClass: a kind of devices that claims can ask for by name.

use serde_json::Value;

use super::request;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Shape, Strategy};
use crate::{names, rules};

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
        for config in spec.get("config").items() {
            request::configuration(&config, &mut errors);
        }
        rules::maybe_form(&spec.get("extendedResourceName"), names::qualified_name, &mut errors);
        errors
    }
}
