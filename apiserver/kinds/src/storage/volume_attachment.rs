//! VolumeAttachment: a volume that a node has, or is to have.

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{get, text};
use crate::{names, rules};

/// Longest name of whoever attaches, in bytes.
const ATTACHER_MAX_BYTES: usize = 63;

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.storage.v1.VolumeAttachment";
    KindDef::builtin("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", schema)
        .cluster_scoped()
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column { format: "name".into(), ..Column::at("Attacher", "string", "spec.attacher") },
            Column::text("PV", |attachment, _| text(attachment, &["spec", "source", "persistentVolumeName"]).into()),
            Column::at("Node", "string", "spec.nodeName"),
            Column::new("Attached", "boolean", |attachment, _| {
                get(attachment, &["status", "attached"]).and_then(Value::as_bool).unwrap_or_default().into()
            }),
            Column::age(),
        ])
        .answers_deleted()
        .strategy(VolumeAttachment)
}

struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) {
        kind::keep_all_but_status(new, old);
    }

    fn validate(&self, attachment: &Value) -> Vec<FieldError> {
        let root = Field::root(attachment);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        let attacher = spec.get("attacher");
        rules::name(&attacher, names::dns_subdomain, &mut errors);
        if attacher.text().len() > ATTACHER_MAX_BYTES {
            errors.push(FieldError::too_long(&attacher.path, ATTACHER_MAX_BYTES));
        }
        let source = spec.get("source");
        match (source.get("inlineVolumeSpec").is_set(), source.get("persistentVolumeName").is_empty()) {
            (false, true) => {
                errors.push(source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
            }
            (true, false) => {
                errors.push(source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName"))
            }
            _ => {}
        }
        rules::form(&spec.get("nodeName"), names::dns_subdomain, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        rules::immutable(&Field::root(new).get("spec"), &Field::root(old).get("spec"), &mut errors);
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
            "volumeattachments",
            "{metadata: {name: a}, spec: {}}",
            expect![[r#"
            spec.attacher: Required value
            spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
            spec.nodeName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        "#]],
        );
    }
}
