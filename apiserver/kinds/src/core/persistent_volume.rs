//! PersistentVolume: storage that a claim can have.

use serde_json::{Value, json};

use super::persistent_volume_claim::{access_modes, or_unset, validate_access_modes};
use super::pod::{node_selector, resources};
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{names, rules};

/// Every source a volume can have.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "PersistentVolume", "persistentvolumes", "io.k8s.api.core.v1.PersistentVolume")
        .cluster_scoped()
        .short_names(&["pv"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::at("Capacity", "string", "spec.capacity.storage"),
            Column::text("Access Modes", |volume, _| access_modes(list(volume, &["spec", "accessModes"])).into()),
            Column::at("Reclaim Policy", "string", "spec.persistentVolumeReclaimPolicy"),
            Column::text("Status", |volume, _| phase(volume).into()),
            Column::text("Claim", |volume, _| claim(volume).into()),
            Column::at("StorageClass", "string", "spec.storageClassName"),
            Column::text("VolumeAttributesClass", |volume, _| {
                or_unset(text(volume, &["spec", "volumeAttributesClassName"])).into()
            }),
            Column::at("Reason", "string", "status.reason"),
            Column::age(),
            Column::text("VolumeMode", |volume, _| or_unset(text(volume, &["spec", "volumeMode"])).into()).wide(),
        ])
        .answers_deleted()
        .strategy(PersistentVolume)
}

fn phase(volume: &Value) -> &str {
    match get(volume, &["metadata", "deletionTimestamp"]) {
        Some(_) => "Terminating",
        None => text(volume, &["status", "phase"]),
    }
}

fn claim(volume: &Value) -> String {
    match get(volume, &["spec", "claimRef"]) {
        Some(claim) => format!("{}/{}", text(claim, &["namespace"]), text(claim, &["name"])),
        None => String::new(),
    }
}

struct PersistentVolume;

impl Strategy for PersistentVolume {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn default(&self, volume: &mut Value) {
        let Some(spec) = object::ensure(volume, &["spec"]) else { return };
        object::set_default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
        object::set_default_text(spec, "volumeMode", "Filesystem");
        if let Some(Value::Object(capacity)) = spec.get_mut("capacity") {
            resources::canonicalize_list(capacity);
        }
        if let Some(Value::Object(path)) = spec.get_mut("hostPath") {
            object::set_default(path, "type", "");
        }
        if let Some(Value::Object(target)) = spec.get_mut("iscsi") {
            object::set_default_text(target, "iscsiInterface", "default");
        }
        if let Some(Value::Object(image)) = spec.get_mut("rbd") {
            object::set_default_text(image, "pool", "rbd");
            object::set_default_text(image, "user", "admin");
            object::set_default_text(image, "keyring", "/etc/ceph/keyring");
        }
    }

    fn prepare_for_create(&self, volume: &mut Value) {
        kind::prepare_for_create(self.shape(), volume);
        if let Some(object) = volume.as_object_mut() {
            object.insert("status".to_owned(), json!({"phase": "Pending"}));
        }
    }

    fn validate(&self, volume: &Value) -> Vec<FieldError> {
        let root = Field::root(volume);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        validate_access_modes(&spec.get("accessModes"), &mut errors);
        let capacity = spec.get("capacity");
        if capacity.is_empty() {
            errors.push(capacity.required(""));
        } else if !capacity.key("storage").is_set() || capacity.len() > 1 {
            errors.push(FieldError::not_supported(
                &capacity.path,
                capacity.value().cloned().unwrap_or_default(),
                &["storage"],
            ));
        }
        for (name, amount) in capacity.entries() {
            resources::quantity(name, &amount, &mut errors);
        }
        let policies = ["Delete", "Recycle", "Retain"];
        let policy = spec.get("persistentVolumeReclaimPolicy");
        rules::maybe_one_of(&policy, &policies, &mut errors);
        let host = spec.get("hostPath");
        let path = host.get("path").text();
        let is_root = path.starts_with('/') && path.split('/').all(|step| matches!(step, "" | "."));
        if policy.text() == "Recycle" && is_root {
            errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
        }
        rules::maybe_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], &mut errors);
        rules::maybe_form(&spec.get("storageClassName"), names::dns_subdomain, &mut errors);
        source(&spec, &mut errors);
        let affinity = spec.get("nodeAffinity");
        let required = affinity.get("required");
        if affinity.is_set() && !required.is_set() {
            errors.push(required.required("must specify required node constraints"));
        } else if required.is_set() {
            node_selector(&required, &mut errors);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        for name in SOURCES {
            if !object::same(new.get(name).value(), old.get(name).value()) {
                let detail = "spec.persistentvolumesource is immutable after creation";
                errors.push(new.get("persistentvolumesource").forbidden(detail));
                break;
            }
        }
        rules::immutable(&new.get("volumeMode"), &old.get("volumeMode"), &mut errors);
        if old.get("nodeAffinity").is_set() {
            rules::immutable(&new.get("nodeAffinity"), &old.get("nodeAffinity"), &mut errors);
        }
        errors
    }
}

fn source(spec: &Field, errors: &mut Vec<FieldError>) {
    let set: Vec<&&str> = SOURCES.iter().filter(|name| spec.get(name).is_set()).collect();
    match set[..] {
        [] => errors.push(spec.required("must specify a volume type")),
        [_] => {}
        [_, ref more @ ..] => {
            errors.extend(more.iter().map(|name| spec.get(name).forbidden("may not specify more than 1 volume type")));
        }
    }
    for name in ["hostPath", "local", "nfs"] {
        let source = spec.get(name);
        if source.is_set() {
            rules::required(&source.get("path"), errors);
            rules::no_parent_steps(&source.get("path"), errors);
        }
    }
    if spec.get("nfs").is_set() {
        rules::required(&spec.get("nfs").get("server"), errors);
    }
    if spec.get("csi").is_set() {
        rules::name(&spec.get("csi").get("driver"), names::dns_subdomain, errors);
        rules::required(&spec.get("csi").get("volumeHandle"), errors);
    }
    if spec.get("local").is_set() && !spec.get("nodeAffinity").is_set() {
        errors.push(FieldError::required(&spec.path.child("nodeAffinity"), "Local volume requires node affinity"));
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "persistentvolumes",
            "{metadata: {name: a}, spec: {hostPath: {path: ../x}, nfs: {}}}",
            expect![[r#"
            spec.accessModes: Required value: at least 1 access mode is required
            spec.capacity: Required value
            spec.nfs: Forbidden: may not specify more than 1 volume type
            spec.hostPath.path: Invalid value: "../x": must not contain '..'
            spec.nfs.path: Required value
            spec.nfs.server: Required value
        "#]],
        );
        check(
            "persistentvolumes",
            "{metadata: {name: a}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, hostPath: {path: /./}, \
             persistentVolumeReclaimPolicy: Recycle}}",
            expect![[r#"
                spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'
            "#]],
        );
    }

    #[test]
    fn row() {
        check_row(
            "persistentvolumes",
            "{metadata: {name: a}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], claimRef: {namespace: b, name: c}, persistentVolumeReclaimPolicy: Retain}, status: {phase: Bound}}",
            expect![
                "Name=a | Capacity=1Gi | Access Modes=RWO | Reclaim Policy=Retain | Status=Bound | Claim=b/c | StorageClass= | VolumeAttributesClass=<unset> | Reason= | Age=<unknown> | VolumeMode=<unset>"
            ],
        );
    }
}
