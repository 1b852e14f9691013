//! PersistentVolumeClaim: a wish for storage that outlives pods.

use serde_json::{Value, json};

use super::persistent_volume::CLASS_ANNOTATION;
use super::pod::resources;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::quantity::{Quantity, QuantityError};
use crate::{difference, names, rules};

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

/// Checks the access modes of a claim or a volume; `none` is what is said where there are none.
pub fn validate_access_modes(modes: &Field, none: &str, errors: &mut Vec<FieldError>) {
    const SUPPORTED: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
    if modes.is_empty() {
        errors.push(modes.required(none));
    }
    for mode in modes.items() {
        if !SUPPORTED.contains(&mode.text()) {
            errors.push(FieldError::not_supported(&modes.path, mode.text(), &SUPPORTED));
        }
    }
    let has = |single: bool| {
        modes.items().any(|mode| SUPPORTED.contains(&mode.text()) && (mode.text() == "ReadWriteOncePod") == single)
    };
    if has(true) && has(false) {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
}

/// Checks an amount of storage that there is to be.
pub fn positive(amount: &Field, errors: &mut Vec<FieldError>) {
    basic(amount, errors);
    let parsed = amount.value().and_then(resources::parse);
    if let Some(size) = parsed.filter(|size| size.is_zero() || size.is_negative()) {
        errors.push(FieldError::invalid(&amount.path, size.to_string(), "must be greater than zero"));
    }
}

/// Checks an amount of storage that there is.
fn basic(amount: &Field, errors: &mut Vec<FieldError>) {
    match amount.value().map(resources::parse) {
        Some(None) => errors.push(amount.invalid(QuantityError::Format.to_string())),
        Some(Some(size)) if size.value() < 0 => {
            errors.push(FieldError::invalid(&amount.path, size.value(), "must be a valid resource quantity"));
        }
        _ => {}
    }
}

/// Defaults of a claim's spec.
fn default_spec(claim: &mut Value) {
    let Some(spec) = object::ensure(claim, &["spec"]) else { return };
    object::set_default_text(spec, "volumeMode", "Filesystem");
    if let Some(Value::Object(amounts)) = spec.get_mut("resources") {
        resources::canonicalize(amounts);
    }
}

/// What a claim's volume is filled from has two spellings that say the same (KEP-1495). The older one takes claims and
/// snapshots alone, and drops what else it is given; neither reaches into another namespace.
fn settle_sources(claim: &mut Value, old: Option<&Value>) {
    let set = |claim: &Value, name: &str| get(claim, &["spec", name]).cloned();
    let had = |name: &str| old.is_some_and(|old| set(old, name).is_some());
    let elsewhere = !text(claim, &["spec", "dataSourceRef", "namespace"]).is_empty();
    let (source, reference) = (set(claim, "dataSource"), set(claim, "dataSourceRef"));
    let Some(spec) = object::ensure(claim, &["spec"]) else { return };
    let reference = reference.filter(|_| !elsewhere || had("dataSourceRef"));
    if reference.is_none() {
        spec.remove("dataSourceRef");
    }
    let source = source.filter(|source| {
        let known = [("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
        let of = (text(source, &["apiGroup"]), text(source, &["kind"]));
        reference.is_some() || had("dataSource") || had("dataSourceRef") || known.contains(&of)
    });
    if source.is_none() {
        spec.remove("dataSource");
    }
    match (source, reference) {
        (Some(source), None) => _ = spec.insert("dataSourceRef".to_owned(), source),
        (None, Some(mut reference)) if text(&reference, &["namespace"]).is_empty() => {
            object::remove(&mut reference, "namespace");
            spec.insert("dataSource".to_owned(), reference);
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
        settle_sources(claim, None);
    }

    fn prepare_for_update(&self, new: &mut Value, old: &Value) {
        kind::prepare_for_update(self.shape(), new, old);
        settle_sources(new, Some(old));
    }

    fn validate(&self, claim: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate_spec(&Field::root(claim).get("spec"), None, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let (root, before) = (Field::root(new), Field::root(old));
        let (spec, was) = (root.get("spec"), before.get("spec"));
        validate_spec(&spec, Some(&was), &mut errors);
        let annotation = |claim: &Value| get(claim, &["metadata", "annotations", CLASS_ANNOTATION]).cloned();
        if !takes_class_of_annotation(new, old) && annotation(new) != annotation(old) {
            let (metadata, shown) = (root.get("metadata"), annotation(new).unwrap_or_else(|| "".into()));
            let annotations = metadata.path.child("annotations");
            errors.push(FieldError::invalid(&annotations.child(CLASS_ANNOTATION), shown, rules::IMMUTABLE));
        }
        let (fixed, before) = fixed(new, old);
        if !object::same(Some(&fixed), Some(&before)) {
            let changes = difference::lines(Some(&before), Some(&fixed), &spec.path);
            errors.push(spec.forbidden(format!(
                "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                 claims\n{changes}"
            )));
        }
        let nothing = Quantity::from_int(0);
        let size = |claim: &Value, path: &[&str]| get(claim, path).and_then(resources::parse).unwrap_or(nothing);
        let requested = ["spec", "resources", "requests", "storage"];
        let asked = size(new, &requested);
        if asked < size(old, &requested) && asked <= size(old, &["status", "capacity", "storage"]) {
            let (resources, requests) = (spec.path.child("resources"), "requests");
            let path = resources.child(requests);
            errors.push(FieldError::forbidden(&path.child("storage"), "field can not be less than status.capacity"));
        }
        // This is named without the spec.
        let mode = Field::new(spec.get("volumeMode").value(), FieldPath::new("volumeMode"));
        rules::immutable(&mode, &was.get("volumeMode"), &mut errors);
        let (class, decided) = (
            spec.get("volumeAttributesClassName"),
            get(old, &["status", "currentVolumeAttributesClassName"]).is_some(),
        );
        if decided && was.get("volumeAttributesClassName").value() != class.value() && class.is_empty() {
            let what = if class.is_set() { "empty string" } else { "nil" };
            let detail =
                format!("update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil");
            errors.push(class.forbidden(detail));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        const RESIZES: [&str; 5] = [
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ];
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        for (_, amount) in status.get("capacity").entries() {
            basic(&amount, &mut errors);
        }
        let states = status.get("allocatedResourceStatuses");
        for (name, state) in states.entries() {
            resource_key(name, &states.path, &mut errors);
            if !RESIZES.contains(&state.text()) {
                errors.push(FieldError::not_supported(&states.path, name, &RESIZES));
            }
        }
        let allocated = status.get("allocatedResources");
        for (name, amount) in allocated.entries() {
            if resource_key(name, &allocated.path, &mut errors) {
                basic(&amount, &mut errors);
            }
        }
        errors
    }

    fn warnings(&self, claim: &Value) -> Vec<String> {
        let root = Field::root(claim);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        let annotations = metadata.get("annotations");
        let class = annotations.key(CLASS_ANNOTATION);
        let mut warnings = Vec::new();
        if class.is_set() {
            warnings.push(format!("{}: deprecated since v1.8; use \"storageClassName\" attribute instead", class.path));
        }
        warnings.extend(spec_warnings(&spec));
        warnings
    }
}

/// What is said of amounts of storage that are not whole.
pub fn spec_warnings(spec: &Field) -> Vec<String> {
    let (amounts, mut warnings) = (spec.get("resources"), Vec::new());
    for list in ["requests", "limits"] {
        let list = amounts.get(list);
        let amount = list.key("storage");
        if let Some(size) = amount.value().and_then(resources::parse).filter(|size| !size.is_whole()) {
            let path = amount.path;
            warnings.push(format!("{path}: fractional byte value \"{size}\" is invalid, must be an integer"));
        }
    }
    warnings
}

/// Checks what a claim asks for. What an `old` one refers to may stay as it is.
pub fn validate_spec(spec: &Field, old: Option<&Field>, errors: &mut Vec<FieldError>) {
    let modes = spec.get("accessModes");
    rules::label_selector(&spec.get("selector"), errors);
    validate_access_modes(&modes, "at least 1 access mode is required", errors);
    let amounts = spec.get("resources");
    let (requests, path) = (amounts.get("requests"), amounts.path.key("storage"));
    let storage = requests.key("storage");
    if storage.is_set() {
        positive_request(&Field::new(storage.value(), path), errors);
    } else {
        errors.push(FieldError::required(&path, ""));
    }
    rules::maybe_form(&spec.get("storageClassName"), names::dns_subdomain, errors);
    rules::maybe_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], errors);
    let (source, reference) = (spec.get("dataSource"), spec.get("dataSourceRef"));
    let referred = |name: &str| old.is_some_and(|old| old.get(name).get("apiGroup").is_set());
    let lax = referred("dataSource") || referred("dataSourceRef");
    for source in [&source, &reference].into_iter().filter(|source| source.is_set()) {
        data_source(source, lax, errors);
    }
    let elsewhere = reference.get("namespace");
    rules::maybe_form(&elsewhere, names::dns_label, errors);
    let mut refuse = |detail| errors.push(FieldError::invalid(&spec.path, json!({}), detail));
    if !elsewhere.is_empty() {
        if source.is_set() {
            refuse("may not be specified when dataSourceRef.namespace is specified");
        }
    } else if source.is_set() && reference.is_set() {
        let differs = |name: &&str| source.get(name).value() != reference.get(name).value();
        if ["apiGroup", "kind", "name"].iter().any(differs) {
            refuse("must match dataSourceRef");
        }
    }
    rules::maybe_form(&spec.get("volumeAttributesClassName"), names::dns_subdomain, errors);
}

/// Kubernetes says one thing of a request.
fn positive_request(amount: &Field, errors: &mut Vec<FieldError>) {
    let known = errors.len();
    positive(amount, errors);
    if errors.len() > known + 1 {
        errors.remove(known);
    }
}

fn data_source(source: &Field, lax: bool, errors: &mut Vec<FieldError>) {
    rules::required(&source.get("name"), errors);
    rules::required(&source.get("kind"), errors);
    let (group, kind) = (source.get("apiGroup"), source.get("kind").text());
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(&source.path, kind, detail));
    }
    if !lax {
        rules::maybe_form(&group, names::dns_subdomain, errors);
    }
}

/// Checks the name of something that grows: storage, or what is somebody's own. Whether it is one.
fn resource_key(name: &str, path: &FieldPath, errors: &mut Vec<FieldError>) -> bool {
    let known = errors.len();
    errors.extend(names::qualified_name(name).into_iter().map(|wrong| FieldError::invalid(path, name, wrong)));
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    if errors.len() == known && is_native && name != "storage" {
        errors.push(FieldError::not_supported(path, name, &["storage"]));
    }
    errors.len() == known
}

/// Whether the claim's class moves from the annotation to the spec.
fn takes_class_of_annotation(new: &Value, old: &Value) -> bool {
    let annotation = |claim| get(claim, &["metadata", "annotations", CLASS_ANNOTATION]);
    let class = |claim| get(claim, &["spec", "storageClassName"]);
    let before = annotation(old);
    before.is_some()
        && class(old).is_none()
        && class(new) == before
        && annotation(new).is_none_or(|after| Some(after) == before)
}

/// What may not change, of both: without what was not decided before, and of a bound claim without its size and
/// attributes class.
fn fixed(new: &Value, old: &Value) -> (Value, Value) {
    let spec = |claim: &Value| claim.get("spec").cloned().unwrap_or_default();
    let (mut fixed, mut before) = (spec(new), spec(old));
    if text(old, &["spec", "volumeName"]).is_empty() {
        object::remove(&mut fixed, "volumeName");
        object::remove(&mut before, "volumeName");
    }
    let annotation = get(old, &["metadata", "annotations", CLASS_ANNOTATION]);
    let class = |claim| get(claim, &["spec", "storageClassName"]);
    let is_first = class(old).is_none() && class(new).is_some();
    if is_first && annotation.is_none_or(|annotation| Some(annotation) == class(new)) {
        object::remove(&mut fixed, "storageClassName");
    }
    if text(old, &["status", "phase"]) == "Bound" {
        for spec in [&mut fixed, &mut before] {
            object::remove(spec, "volumeAttributesClassName");
            if let Some(requests) = object::get_mut(spec, &["resources", "requests"]) {
                object::remove(requests, "storage");
            }
        }
    }
    (fixed, before)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, check_update, kind, updated, yaml};

    const CLAIM: &str = "{metadata: {name: a, namespace: b}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";

    #[test]
    fn rules() {
        check(
            "persistentvolumeclaims",
            "{metadata: {name: a, namespace: b}, spec: {accessModes: [Odd], volumeMode: Odd}}",
            expect![[r#"
                spec.accessModes: Unsupported value: "Odd": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
                spec.resources[storage]: Required value
                spec.volumeMode: Unsupported value: "Odd": supported values: "Block", "Filesystem"
            "#]],
        );
        check("persistentvolumeclaims", CLAIM, expect![[r#""#]]);
        check_update(
            "persistentvolumeclaims",
            CLAIM,
            &CLAIM.replace("1Gi", "512Mi"),
            expect![[r#"
                spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
                - spec.resources.requests.storage: "1Gi"
                + spec.resources.requests.storage: "512Mi"

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
                - spec.accessModes[0]: "ReadWriteOnce"
                + spec.accessModes[0]: "ReadWriteMany"

            "#]],
        );
    }

    #[test]
    fn sources() {
        let of = |source: &str| {
            let strategy = &kind("persistentvolumeclaims").strategy;
            let mut claim = yaml(&CLAIM.replace("spec: {", &format!("spec: {{{source}, ")));
            strategy.prepare_for_create(&mut claim);
            let errors: String = strategy.validate(&claim).iter().map(|error| format!("  {error}\n")).collect();
            format!("{source}\n  {} {}\n{errors}", claim["spec"]["dataSource"], claim["spec"]["dataSourceRef"])
        };
        let rows = [
            "dataSource: {kind: PersistentVolumeClaim, name: c}",
            "dataSource: {kind: Odd, apiGroup: a.b, name: c}",
            "dataSourceRef: {kind: Odd, apiGroup: a.b, name: c}",
            "dataSourceRef: {kind: Odd, apiGroup: A, name: c}",
            "dataSourceRef: {kind: Odd}",
            "dataSourceRef: {kind: PersistentVolumeClaim, name: c, namespace: other}",
            "dataSource: {kind: PersistentVolumeClaim, name: c}, dataSourceRef: {kind: PersistentVolumeClaim, name: d}",
        ];
        expect![[r#"
            dataSource: {kind: PersistentVolumeClaim, name: c}
              {"kind":"PersistentVolumeClaim","name":"c"} {"kind":"PersistentVolumeClaim","name":"c"}
            dataSource: {kind: Odd, apiGroup: a.b, name: c}
              null null
            dataSourceRef: {kind: Odd, apiGroup: a.b, name: c}
              {"apiGroup":"a.b","kind":"Odd","name":"c"} {"apiGroup":"a.b","kind":"Odd","name":"c"}
            dataSourceRef: {kind: Odd, apiGroup: A, name: c}
              {"apiGroup":"A","kind":"Odd","name":"c"} {"apiGroup":"A","kind":"Odd","name":"c"}
              spec.dataSource.apiGroup: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
              spec.dataSourceRef.apiGroup: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            dataSourceRef: {kind: Odd}
              {"kind":"Odd"} {"kind":"Odd"}
              spec.dataSource.name: Required value
              spec.dataSource: Invalid value: "Odd": must be 'PersistentVolumeClaim' when referencing the default apiGroup
              spec.dataSourceRef.name: Required value
              spec.dataSourceRef: Invalid value: "Odd": must be 'PersistentVolumeClaim' when referencing the default apiGroup
            dataSourceRef: {kind: PersistentVolumeClaim, name: c, namespace: other}
              null null
            dataSource: {kind: PersistentVolumeClaim, name: c}, dataSourceRef: {kind: PersistentVolumeClaim, name: d}
              {"kind":"PersistentVolumeClaim","name":"c"} {"kind":"PersistentVolumeClaim","name":"d"}
              spec: Invalid value: {}: must match dataSourceRef
        "#]].assert_eq(&rows.map(of).concat());
    }

    #[test]
    fn sizes() {
        let of = |size: &str| check_text(&CLAIM.replace("1Gi", size));
        expect![[r#"
            spec.resources[storage]: Invalid value: "0": must be greater than zero
            spec.resources[storage]: Invalid value: "-1": must be greater than zero
            spec.resources.requests[storage]: fractional byte value "500m" is invalid, must be an integer
        "#]]
        .assert_eq(&["0", "-1", "500m"].map(of).concat());
        let bound = |size: &str, more: &str| {
            let claim = CLAIM.replace("1Gi", size).replace("spec: {", &format!("spec: {{volumeName: v, {more}"));
            let status = "{phase: Bound, currentVolumeAttributesClassName: a, capacity: {storage: 1Gi}}";
            claim.replace("metadata: ", &format!("status: {status}, metadata: "))
        };
        let old = bound("2Gi", "volumeAttributesClassName: a, ");
        let rows = [
            ("3Gi", "volumeAttributesClassName: b, "),
            ("1536Mi", "volumeAttributesClassName: a, "),
            ("1Gi", "volumeAttributesClassName: '', "),
            ("2Gi", "volumeMode: Block, "),
        ];
        let lines =
            rows.map(|(size, more)| updated("persistentvolumeclaims", &old, &bound(size, more)) + "--\n").concat();
        expect![[r#"
            --
            --
            spec.resources.requests.storage: Forbidden: field can not be less than status.capacity
            spec.volumeAttributesClassName: Forbidden: update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil
            --
            spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
            - spec.volumeMode: "Filesystem"
            + spec.volumeMode: "Block"

            volumeMode: Invalid value: "Block": field is immutable
            spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil
            --
        "#]].assert_eq(&lines);
    }

    fn check_text(claim: &str) -> String {
        let strategy = &kind("persistentvolumeclaims").strategy;
        let claim = yaml(claim);
        let mut lines: Vec<String> = strategy.validate(&claim).iter().map(ToString::to_string).collect();
        lines.extend(strategy.warnings(&claim));
        lines.into_iter().map(|line| line + "\n").collect()
    }

    #[test]
    fn a_class_moves_from_the_annotation() {
        let claim = |annotation: &str, class: &str| {
            let annotations = format!("namespace: b, annotations: {{{annotation}}}");
            CLAIM.replace("namespace: b", &annotations).replace("spec: {", &format!("spec: {{{class}"))
        };
        let old = claim("volume.beta.kubernetes.io/storage-class: s", "");
        let rows = [
            claim("", "storageClassName: s, "),
            claim("", "storageClassName: t, "),
            claim("volume.beta.kubernetes.io/storage-class: t", ""),
        ];
        expect![[r#"
            --
            metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: "": field is immutable
            spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
            + spec.storageClassName: "t"

            --
            metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: "t": field is immutable
            --
        "#]].assert_eq(&rows.map(|new| updated("persistentvolumeclaims", &old, &new) + "--\n").concat());
    }

    #[test]
    fn statuses() {
        let claim = yaml(
            "{status: {capacity: {storage: -1}, allocatedResourceStatuses: {storage: Odd, cpu: NodeResizePending}, \
             allocatedResources: {'a b': 1, example.com/x: -2}}}",
        );
        let errors = kind("persistentvolumeclaims").strategy.validate_status_update(&claim, &claim);
        let lines: String = errors.iter().map(|error| format!("{error}\n")).collect();
        expect![[r#"
            status.capacity[storage]: Invalid value: -1: must be a valid resource quantity
            status.allocatedResourceStatuses: Unsupported value: "cpu": supported values: "storage"
            status.allocatedResourceStatuses: Unsupported value: "storage": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending"
            status.allocatedResources: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            status.allocatedResources[example.com/x]: Invalid value: -2: must be a valid resource quantity
        "#]].assert_eq(&lines);
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
