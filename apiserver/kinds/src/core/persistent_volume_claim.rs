//! PersistentVolumeClaim: a wish for storage that outlives pods.

use serde_json::{Value, json};

use super::pod::resources;
use crate::field::{Field, FieldError};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{names, rules};

pub fn definition() -> KindDef {
    let schema = "io.k8s.api.core.v1.PersistentVolumeClaim";
    KindDef::builtin("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", schema)
        .short_names(&["pvc"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("Status", |claim, _| phase(claim).into())
                .describe("phase represents the current phase of PersistentVolumeClaim."),
            Column::at("Volume", "string", "spec.volumeName"),
            Column::text("Capacity", |claim, _| bound(claim, text(claim, &["status", "capacity", "storage"])).into()),
            Column::text("Access Modes", |claim, _| {
                bound(claim, &access_modes(list(claim, &["status", "accessModes"]))).into()
            }),
            Column::text("StorageClass", |claim, _| text(claim, &["spec", "storageClassName"]).into()),
            Column::text("VolumeAttributesClass", |claim, _| {
                or_unset(text(claim, &["spec", "volumeAttributesClassName"])).into()
            }),
            Column::age(),
            Column::text("VolumeMode", |claim, _| or_unset(text(claim, &["spec", "volumeMode"])).into()).wide(),
        ])
        .answers_deleted()
        .strategy(PersistentVolumeClaim)
}

/// What is not set, as tables of volumes show it.
pub fn or_unset(text: &str) -> &str {
    if text.is_empty() { "<unset>" } else { text }
}

fn phase(claim: &Value) -> &str {
    match get(claim, &["metadata", "deletionTimestamp"]) {
        Some(_) => "Terminating",
        None => text(claim, &["status", "phase"]),
    }
}

/// Only a claim that has a volume has what the volume has.
fn bound(claim: &Value, text_of_volume: &str) -> String {
    if text(claim, &["spec", "volumeName"]).is_empty() { String::new() } else { text_of_volume.to_owned() }
}

/// `RWO,ROX,RWX,RWOP`, in this order.
pub fn access_modes(modes: &[Value]) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let shown = short.iter().filter(|(long, _)| modes.iter().any(|m| m == long)).map(|(_, short)| *short);
    shown.collect::<Vec<_>>().join(",")
}

/// Checks the access modes of a claim or a volume.
pub fn validate_access_modes(modes: &Field, errors: &mut Vec<FieldError>) {
    const SUPPORTED: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    if modes.is_empty() {
        errors.push(modes.required("at least 1 access mode is required"));
    }
    for mode in modes.items() {
        if !SUPPORTED.contains(&mode.text()) {
            errors.push(FieldError::not_supported(&modes.path, mode.text(), &SUPPORTED));
        }
    }
    let single = modes.items().any(|m| m.text() == "ReadWriteOncePod");
    if single && modes.len() > 1 {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Defaults of a claim's spec.
fn default_spec(claim: &mut Value) {
    let Some(spec) = object::ensure(claim, &["spec"]) else { return };
    object::set_default_text(spec, "volumeMode", "Filesystem");
    if let Some(Value::Object(amounts)) = spec.get_mut("resources") {
        resources::canonicalize(amounts);
    }
    // The older spelling of a source, and the one that replaced it, say the same.
    let (source, reference) = (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned());
    match (source, reference) {
        (Some(source), None) => object::set_default(spec, "dataSourceRef", source),
        (None, Some(reference)) if reference.get("namespace").is_none_or(Value::is_null) => {
            object::set_default(spec, "dataSource", reference);
        }
        _ => {}
    }
}

/// Defaults of a claim that a StatefulSet makes claims from.
pub fn default_template(claim: &mut Value) {
    default_spec(claim);
    if let Some(claim) = claim.as_object_mut() {
        object::set_default(claim, "apiVersion", "v1");
        object::set_default(claim, "kind", "PersistentVolumeClaim");
        claim.insert("status".to_owned(), json!({"phase": "Pending"}));
    }
}

/// Checks the spec of a claim, also of one that is made for a pod's volume.
pub fn validate_spec(spec: &Field, errors: &mut Vec<FieldError>) {
    rules::label_selector(&spec.get("selector"), errors);
    validate_access_modes(&spec.get("accessModes"), errors);
    let amounts = spec.get("resources");
    let requests = amounts.get("requests");
    let storage = requests.key("storage");
    match storage.value().map(resources::parse) {
        None => errors.push(storage.required("")),
        Some(Some(size)) if size.is_zero() || size.is_negative() => {
            errors.push(FieldError::invalid(&storage.path, size.to_string(), "must be greater than zero"));
        }
        Some(Some(_)) => {}
        Some(None) => resources::quantity("storage", &storage, errors),
    }
    for name in ["storageClassName", "volumeAttributesClassName"] {
        rules::maybe_form(&spec.get(name), names::dns_subdomain, errors);
    }
    rules::maybe_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], errors);
    for name in ["dataSource", "dataSourceRef"] {
        let source = spec.get(name);
        if source.is_set() {
            rules::required(&source.get("name"), errors);
            rules::required(&source.get("kind"), errors);
        }
    }
}

struct PersistentVolumeClaim;

impl Strategy for PersistentVolumeClaim {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn default(&self, claim: &mut Value) {
        default_spec(claim);
    }

    fn prepare_for_create(&self, claim: &mut Value) {
        kind::prepare_for_create(self.shape(), claim);
        if let Some(object) = claim.as_object_mut() {
            object.insert("status".to_owned(), json!({"phase": "Pending"}));
        }
    }

    fn validate(&self, claim: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate_spec(&Field::root(claim).get("spec"), &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let bound = old.get("status").get("phase").text() == "Bound";
        let (new, old) = (new.get("spec"), old.get("spec"));
        if !object::same(Some(&fixed(&new, &old)), Some(&fixed(&old, &old))) {
            let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
                          bound claims";
            errors.push(new.forbidden(detail));
        }
        let storage = |spec: &Field| {
            spec.value().and_then(|s| get(s, &["resources", "requests", "storage"])).and_then(resources::parse)
        };
        if let (Some(after), Some(before)) = (storage(&new), storage(&old)) {
            let amounts = new.get("resources");
            let requests = amounts.get("requests");
            if after < before {
                errors.push(requests.key("storage").forbidden("field can not be less than status.capacity"));
            } else if after > before && !bound {
                let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName \
                              for bound claims";
                errors.push(new.forbidden(detail));
            }
        }
        errors
    }
}

/// The spec without what may change: the size, the attributes class, and a volume or class that was not decided before.
fn fixed(spec: &Field, old: &Field) -> Value {
    let mut fixed = spec.value().cloned().unwrap_or_default();
    object::remove(&mut fixed, "volumeAttributesClassName");
    if let Some(requests) = object::get_mut(&mut fixed, &["resources", "requests"]) {
        object::remove(requests, "storage");
    }
    for name in ["volumeName", "storageClassName"] {
        if old.get(name).is_empty() {
            object::remove(&mut fixed, name);
        }
    }
    fixed
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update};

    const CLAIM: &str = "{metadata: {name: a, namespace: b}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";

    #[test]
    fn rules() {
        check(
            "persistentvolumeclaims",
            "{metadata: {name: a, namespace: b}, spec: {accessModes: [Odd], volumeMode: Odd}}",
            expect![[r#"
                spec.accessModes: Unsupported value: "Odd": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
                spec.resources.requests[storage]: Required value
                spec.volumeMode: Unsupported value: "Odd": supported values: "Block", "Filesystem"
            "#]],
        );
        check("persistentvolumeclaims", CLAIM, expect![[r#""#]]);
        check_update(
            "persistentvolumeclaims",
            CLAIM,
            &CLAIM.replace("1Gi", "512Mi"),
            expect![[r#"
            spec.resources.requests[storage]: Forbidden: field can not be less than status.capacity
        "#]],
        );
        check_update(
            "persistentvolumeclaims",
            CLAIM,
            &CLAIM.replace("spec: {", "spec: {volumeName: v, "),
            expect![[r#""#]],
        );
        check_update(
            "persistentvolumeclaims",
            CLAIM,
            &CLAIM.replace("ReadWriteOnce", "ReadWriteMany"),
            expect![[r#"
                spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
            "#]],
        );
    }

    #[test]
    fn row() {
        check_row(
            "persistentvolumeclaims",
            "{metadata: {name: a}, spec: {volumeName: v, storageClassName: s, volumeMode: Filesystem}, status: {phase: Bound, capacity: {storage: 1Gi}, accessModes: [ReadWriteMany, ReadWriteOnce]}}",
            expect![
                "Name=a | Status=Bound | Volume=v | Capacity=1Gi | Access Modes=RWO,RWX | StorageClass=s | VolumeAttributesClass=<unset> | Age=<unknown> | VolumeMode=Filesystem"
            ],
        );
    }
}
