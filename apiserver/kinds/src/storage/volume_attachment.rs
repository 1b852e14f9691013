//! VolumeAttachment: a volume that a node has, or is to have.

use jiff::Timestamp;
use serde_json::Value;

use super::driver_name;
use crate::core::persistent_volume;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{get, get_mut, text};
use crate::{names, rules};

/// All that is said of an attachment, in bytes.
const METADATA_MAX_BYTES: usize = 256 * 1024;
/// The message of an error, in bytes.
const MESSAGE_MAX_BYTES: usize = 1024;

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

    fn default(&self, attachment: &mut Value) {
        if let Some(Value::Object(volume)) = get_mut(attachment, &["spec", "source", "inlineVolumeSpec"]) {
            persistent_volume::default_source(volume);
        }
    }

    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, _now: Timestamp) {
        kind::keep_all_but_status(new, old);
    }

    fn validate(&self, attachment: &Value) -> Vec<FieldError> {
        let root = Field::root(attachment);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        self::spec(&spec, &mut errors);
        driver_name(&spec.get("attacher"), &mut errors);
        let volume = spec.get("source");
        rules::maybe_form(&volume.get("persistentVolumeName"), names::dns_subdomain, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new, old) = (Field::root(new), Field::root(old));
        let mut errors = Vec::new();
        rules::required(&new.get("spec").get("attacher"), &mut errors);
        spec(&new.get("spec"), &mut errors);
        status(&new.get("status"), &mut errors);
        rules::immutable(&new.get("spec"), &old.get("spec"), &mut errors);
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        self.validate_update(new, old)
    }
}

fn spec(spec: &Field, errors: &mut Vec<FieldError>) {
    let source = spec.get("source");
    let (inline, name) = (source.get("inlineVolumeSpec"), source.get("persistentVolumeName"));
    match (inline.is_set(), name.is_set()) {
        (false, false) => {
            errors.push(source.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"));
        }
        (true, true) => {
            errors.push(source.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName"));
        }
        (false, true) if name.is_empty() => {
            errors.push(name.required("must specify non empty persistentVolumeName"));
        }
        (true, false) => persistent_volume::validate_inline(&inline, errors),
        (false, true) => {}
    }
    rules::form(&spec.get("nodeName"), names::dns_subdomain, errors);
}

fn status(status: &Field, errors: &mut Vec<FieldError>) {
    let metadata = status.get("attachmentMetadata");
    if metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum::<usize>() > METADATA_MAX_BYTES {
        errors.push(FieldError::too_long(&metadata.path, METADATA_MAX_BYTES));
    }
    for name in ["attachError", "detachError"] {
        let error = status.get(name);
        let (message, code) = (error.get("message"), error.get("errorCode"));
        if message.text().len() > MESSAGE_MAX_BYTES {
            // Kubernetes names the other bound.
            errors.push(FieldError::too_long(&message.path, METADATA_MAX_BYTES));
        }
        if code.int().is_some_and(|code| code < 0) {
            errors.push(code.invalid(format!("must be between 0 and {}, inclusive", i32::MAX)));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_update, made};

    #[test]
    fn rules() {
        check(
            "volumeattachments",
            "{metadata: {name: a}, spec: {}}",
            expect![[r#"
                spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
                spec.nodeName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.attacher: Required value
                spec.attacher: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
    }

    #[test]
    fn a_volume_of_its_own() {
        let attachment = |volume: &str| {
            made(
                "volumeattachments",
                &format!(
                    "{{metadata: {{name: a}}, spec: {{attacher: d, nodeName: node, source: {{inlineVolumeSpec: {{{volume}}}}}}}}}"
                ),
            )
        };
        assert_eq!(
            attachment("accessModes: [ReadWriteOnce], csi: {driver: d, volumeHandle: h}, volumeMode: Filesystem"),
            ""
        );
        expect![[r#"
            spec.source.inlineVolumeSpec.claimRef: Forbidden: may not be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.accessModes: Required value
            spec.source.inlineVolumeSpec.persistentVolumeReclaimPolicy: Forbidden: may only be Retain in the context of inline volumes
            spec.source.inlineVolumeSpec.nodeAffinity: Forbidden: may not be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.nfs.server: Required value
            spec.source.inlineVolumeSpec.storageClassName: Forbidden: may not be specified in the context of inline volumes
            spec.source.inlineVolumeSpec.volumeMode: Forbidden: may not specify volumeMode other than Filesystem in the context of inline volumes
        "#]]
        .assert_eq(&attachment(
            "claimRef: {name: c}, capacity: {storage: 1Gi}, persistentVolumeReclaimPolicy: Delete, nodeAffinity: {required: {}}, \
             nfs: {path: /x}, storageClassName: s, volumeMode: Block",
        ));
    }

    #[test]
    fn what_an_attacher_says() {
        check_update(
            "volumeattachments",
            "{metadata: {name: a}, spec: {attacher: d, nodeName: node, source: {persistentVolumeName: p}}}",
            "{metadata: {name: a}, spec: {attacher: d, nodeName: node, source: {persistentVolumeName: ''}}}",
            expect![[r#"
                spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName
                spec: Invalid value: {"attacher":"d","nodeName":"node","source":{"persistentVolumeName":""}}: field is immutable
            "#]],
        );
    }
}
