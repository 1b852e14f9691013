//! VolumeAttributesClass: attributes of a volume that may change while it is used.

use serde_json::Value;

use super::storage_class;
use crate::field::{Field, FieldError};
use crate::kind::{Column, KindDef, Strategy};
use crate::object;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.storage.v1.VolumeAttributesClass";
    KindDef::builtin("storage.k8s.io", "v1", "VolumeAttributesClass", "volumeattributesclasses", schema)
        .cluster_scoped()
        .short_names(&["vac"])
        .columns(vec![Column::name(), Column::at("DriverName", "string", "driverName"), Column::age()])
        .answers_deleted()
        .strategy(VolumeAttributesClass)
}

struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn validate(&self, class: &Value) -> Vec<FieldError> {
        let root = Field::root(class);
        let mut errors = Vec::new();
        super::provisioner(&root.get("driverName"), &mut errors);
        let parameters = root.get("parameters");
        storage_class::parameters(&parameters, &mut errors);
        if parameters.is_empty() {
            errors.push(parameters.required("must contain at least one key/value pair"));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let valid = self.validate(new);
        let mut errors = Vec::new();
        let (new, old) = (Field::root(new), Field::root(old));
        for name in ["driverName", "parameters"] {
            if !object::same(new.get(name).value(), old.get(name).value()) {
                errors.push(new.get(name).forbidden(format!("updates to {name} are forbidden.")));
            }
        }
        errors.extend(valid);
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
            "volumeattributesclasses",
            "{metadata: {name: a}}",
            expect![[r#"
            driverName: Required value
            parameters: Required value: must contain at least one key/value pair
        "#]],
        );
    }
}
