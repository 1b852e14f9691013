//! PersistentVolume: storage that a claim can have.

mod source;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::node;
use super::persistent_volume_claim::{access_modes, or_unset, positive, validate_access_modes};
use super::pod::{defaults, node_selector, resources};
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, get, list, text};
use crate::{difference, names, rules};

/// What `storageClassName` and `mountOptions` replaced.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";

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

/// Fills in what a source leaves out, and writes the amounts of a capacity as everybody does.
pub fn default_source(spec: &mut Map<String, Value>) {
    if let Some(Value::Object(capacity)) = spec.get_mut("capacity") {
        resources::canonicalize_list(capacity);
    }
    defaults::storage(spec);
}

/// Rules of a volume that an attachment describes itself: no claim is bound to it, and no pod is scheduled by it.
pub fn validate_inline(spec: &Field, errors: &mut Vec<FieldError>) {
    const INLINE: &str = "in the context of inline volumes";
    let unspecified = |name: &str, errors: &mut Vec<FieldError>| {
        if !spec.get(name).is_empty() {
            errors.push(spec.get(name).forbidden(format!("may not be specified {INLINE}")));
        }
    };
    unspecified("claimRef", errors);
    unspecified("capacity", errors);
    let (csi, policy, mode) = (spec.get("csi"), spec.get("persistentVolumeReclaimPolicy"), spec.get("volumeMode"));
    if !csi.is_set() {
        errors.push(csi.required(format!("has to be specified {INLINE}")));
    }
    validate_access_modes(&spec.get("accessModes"), "", errors);
    if !matches!(policy.text(), "" | "Retain") {
        errors.push(policy.forbidden(format!("may only be Retain {INLINE}")));
    }
    unspecified("nodeAffinity", errors);
    source::validate(spec, "", errors);
    root_is_kept(spec, errors);
    unspecified("storageClassName", errors);
    if mode.is_set() && mode.text() != "Filesystem" {
        errors.push(mode.forbidden(format!("may not specify volumeMode other than Filesystem {INLINE}")));
    }
    attributes_class(spec, errors);
}

/// A node's whole file system is not emptied for the next claim.
fn root_is_kept(spec: &Field, errors: &mut Vec<FieldError>) {
    let (host, policy) = (spec.get("hostPath"), spec.get("persistentVolumeReclaimPolicy"));
    let path = host.get("path").text();
    let is_root = path.starts_with('/') && path.split('/').all(|step| matches!(step, "" | "."));
    if policy.text() == "Recycle" && is_root {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
}

fn attributes_class(spec: &Field, errors: &mut Vec<FieldError>) {
    let (class, csi) = (spec.get("volumeAttributesClassName"), spec.get("csi"));
    if !class.is_set() {
        return;
    }
    if class.is_empty() {
        errors.push(class.required("an empty string is disallowed"));
    }
    rules::maybe_form(&class, names::dns_subdomain, errors);
    if !csi.is_set() {
        errors.push(csi.required("has to be specified when using volumeAttributesClassName"));
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
        default_source(spec);
    }

    fn prepare_for_create(&self, volume: &mut Value) {
        kind::prepare_for_create(self.shape(), volume);
        let since = text(volume, &["metadata", "creationTimestamp"]);
        let status = match since {
            "" => json!({"phase": "Pending"}),
            since => json!({"phase": "Pending", "lastPhaseTransitionTime": since}),
        };
        if let Some(object) = volume.as_object_mut() {
            object.insert("status".to_owned(), status);
        }
    }

    /// Who writes a phase need not say since when it is.
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value, now: Timestamp) {
        kind::prepare_for_status_update(new, old);
        let since = ["status", "lastPhaseTransitionTime"];
        let (time, before) = (get(new, &since), get(old, &since).cloned());
        let since = match text(new, &["status", "phase"]) == text(old, &["status", "phase"]) {
            true if time.is_none() => before,
            false if time.is_none() || time == before.as_ref() => Some(format!("{now:.0}").into()),
            _ => return,
        };
        if let (Some(since), Some(status)) = (since, object::ensure(new, &["status"])) {
            status.insert("lastPhaseTransitionTime".to_owned(), since);
        }
    }

    fn validate(&self, volume: &Value) -> Vec<FieldError> {
        let root = Field::root(volume);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        validate_access_modes(&spec.get("accessModes"), "", &mut errors);
        capacity(&spec.get("capacity"), &mut errors);
        let policies = ["Delete", "Recycle", "Retain"];
        let policy = spec.get("persistentVolumeReclaimPolicy");
        rules::maybe_one_of(&policy, &policies, &mut errors);
        let affinity = spec.get("nodeAffinity");
        let required = affinity.get("required");
        if affinity.is_set() && !required.is_set() {
            errors.push(required.required("must specify required node constraints"));
        } else if required.is_set() {
            node_selector(&required, &mut errors);
        }
        source::validate(&spec, root.get("metadata").get("name").text(), &mut errors);
        root_is_kept(&spec, &mut errors);
        rules::maybe_form(&spec.get("storageClassName"), names::dns_subdomain, &mut errors);
        rules::maybe_one_of(&spec.get("volumeMode"), &["Block", "Filesystem"], &mut errors);
        attributes_class(&spec, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let (is, was) = (fixed(&new, &old), fixed(&old, &old));
        if !object::same(Some(&is), Some(&was)) {
            let changes = difference::lines(Some(&was), Some(&is), &new.path);
            let detail = format!("spec.persistentvolumesource is immutable after creation\n{changes}");
            errors.push(new.get("persistentvolumesource").forbidden(detail));
        }
        // These two are named without the spec.
        let (mode, affinity) = (FieldPath::new("volumeMode"), FieldPath::new("nodeAffinity"));
        let (is, was) = (new.get("volumeMode"), old.get("volumeMode"));
        rules::immutable(&Field::new(is.value(), mode), &was, &mut errors);
        let (is, was) = (new.get("nodeAffinity"), old.get("nodeAffinity"));
        if was.is_set() && !node::same_but_for_newer_labels(is.value(), was.value()) {
            let shown = is.value().cloned().unwrap_or_default();
            let detail = format!("{}, except for updating from beta label to GA", rules::IMMUTABLE);
            errors.push(FieldError::invalid(&affinity, shown, detail));
        }
        let class = new.get("volumeAttributesClassName");
        if old.get("volumeAttributesClassName").is_set() && !class.is_set() {
            errors.push(class.forbidden("update from non-nil value to nil is forbidden"));
        }
        errors
    }

    fn warnings(&self, volume: &Value) -> Vec<String> {
        let root = Field::root(volume);
        let (spec, metadata) = (root.get("spec"), root.get("metadata"));
        let annotations = metadata.get("annotations");
        let mut warnings = Vec::new();
        for (name, since, instead) in
            [(CLASS_ANNOTATION, "v1.8", "storageClassName"), (OPTIONS_ANNOTATION, "v1.31", "mountOptions")]
        {
            let annotation = annotations.key(name);
            if annotation.is_set() {
                warnings
                    .push(format!("{}: deprecated since {since}; use {instead:?} attribute instead", annotation.path));
            }
        }
        let policy = spec.get("persistentVolumeReclaimPolicy");
        if policy.text() == "Recycle" {
            let instead = "Instead, the recommended approach is to use dynamic provisioning.";
            warnings.push(format!("{}: The Recycle reclaim policy is deprecated. {instead}", policy.path));
        }
        let affinity = spec.get("nodeAffinity");
        warnings.extend(node::selector_warnings(&affinity.get("required")));
        warnings.extend(source::warnings(&spec));
        warnings
    }
}

fn capacity(capacity: &Field, errors: &mut Vec<FieldError>) {
    if capacity.is_empty() {
        errors.push(capacity.required(""));
    }
    if !capacity.key("storage").is_set() || capacity.len() > 1 {
        let shown = capacity.value().cloned().unwrap_or_default();
        errors.push(FieldError::not_supported(&capacity.path, shown, &["storage"]));
    }
    for (_, amount) in capacity.entries() {
        positive(&amount, errors);
    }
}

/// The source of a volume; without the secret for its growth, which may be added.
fn fixed(spec: &Field, old: &Field) -> Value {
    let expands = "controllerExpandSecretRef";
    let mut sources: Map<String, Value> =
        source::names().filter_map(|name| Some((name.to_owned(), spec.get(name).value().cloned()?))).collect();
    if let Some(csi) = sources.get_mut("csi")
        && old.get("csi").is_set()
        && !old.get("csi").get(expands).is_set()
    {
        object::remove(csi, expands);
    }
    sources.into()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row, kind, updated, yaml};

    #[test]
    fn rules() {
        check(
            "persistentvolumes",
            "{metadata: {name: a}, spec: {hostPath: {path: ../x}, nfs: {}}}",
            expect![[r#"
            spec.accessModes: Required value
            spec.capacity: Required value
            spec.capacity: Unsupported value: null: supported values: "storage"
            spec.hostPath.path: Invalid value: "../x": must not contain '..'
            spec.nfs: Forbidden: may not specify more than 1 volume type
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
    fn sources() {
        let of = |source: &str| {
            let spec = "accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}";
            let volume = yaml(&format!("{{metadata: {{name: a}}, spec: {{{spec}, {source}}}}}"));
            kind("persistentvolumes")
                .strategy
                .validate(&volume)
                .iter()
                .map(|error| format!("{error}\n"))
                .collect::<String>()
        };
        let rows = [
            "hostPath: {path: ''}",
            "hostPath: {path: /x, type: Odd}",
            "gcePersistentDisk: {partition: 256}",
            "glusterfs: {endpointsNamespace: ''}",
            "flocker: {datasetName: a/b, datasetUUID: u}",
            "nfs: {server: s, path: x}",
            "quobyte: {registry: 'a:1,b', volume: v}",
            "iscsi: {targetPortal: p, iqn: iqn.2015-02.example.com:test, lun: 256, chapAuthSession: true, initiatorName: odd}",
            "iscsi: {targetPortal: p, iqn: 'iqn.2015-2.example.com:test'}",
            "cinder: {volumeID: v, secretRef: {}}",
            "fc: {targetWWNs: [a]}",
            "flexVolume: {driver: d, options: {a.k8s.io/x: y}}",
            "azureFile: {secretName: s, secretNamespace: ''}",
            "azureDisk: {diskName: d, diskURI: u, kind: Managed, cachingMode: Odd}",
            "storageos: {volumeName: A}",
            "local: {path: /x}",
            "csi: {driver: A.B, volumeHandle: h, nodePublishSecretRef: {name: A}}",
            "csi: {}",
            "nfs: {server: s, path: /x}, volumeAttributesClassName: ''",
        ];
        let lines: String = rows.map(|row| format!("{row}\n{}", of(row))).concat();
        expect![[r#"
            hostPath: {path: ''}
            spec.hostPath.path: Required value
            hostPath: {path: /x, type: Odd}
            spec.hostPath.type: Unsupported value: "Odd": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
            gcePersistentDisk: {partition: 256}
            spec.persistentDisk.pdName: Required value
            spec.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive
            glusterfs: {endpointsNamespace: ''}
            spec.glusterfs.endpoints: Required value
            spec.glusterfs.path: Required value
            spec.glusterfs.endpointsNamespace: Invalid value: "": if the endpointnamespace is set, it must be a valid namespace name
            flocker: {datasetName: a/b, datasetUUID: u}
            spec.flocker: Invalid value: "resource": datasetName and datasetUUID can not be specified simultaneously
            spec.flocker.datasetName: Invalid value: "a/b": must not contain '/'
            nfs: {server: s, path: x}
            spec.nfs.path: Invalid value: "x": must be an absolute path
            quobyte: {registry: 'a:1,b', volume: v}
            spec.quobyte.registry: Invalid value: "a:1,b": must be a host:port pair or multiple pairs separated by commas
            iscsi: {targetPortal: p, iqn: iqn.2015-02.example.com:test, lun: 256, chapAuthSession: true, initiatorName: odd}
            spec.iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive
            spec.iscsi.secretRef: Required value
            spec.iscsi.initiatorname: Invalid value: "odd": must be valid format
            iscsi: {targetPortal: p, iqn: 'iqn.2015-2.example.com:test'}
            spec.iscsi.iqn: Invalid value: "iqn.2015-2.example.com:test": must be valid format
            cinder: {volumeID: v, secretRef: {}}
            spec.cinder.secretRef.name: Required value
            spec.cinder.secretRef.namespace: Required value
            fc: {targetWWNs: [a]}
            spec.fc.lun: Required value: lun is required if targetWWNs is specified
            flexVolume: {driver: d, options: {a.k8s.io/x: y}}
            spec.flexVolume.options[a.k8s.io/x]: Invalid value: "a.k8s.io/x": kubernetes.io and k8s.io namespaces are reserved
            azureFile: {secretName: s, secretNamespace: ''}
            spec.azureFile.shareName: Required value
            spec.azureFile.secretNamespace: Required value
            azureDisk: {diskName: d, diskURI: u, kind: Managed, cachingMode: Odd}
            spec.azureDisk.cachingMode: Unsupported value: "Odd": supported values: "None", "ReadOnly", "ReadWrite"
            spec.azureDisk.diskURI: Unsupported value: "u": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
            storageos: {volumeName: A}
            spec.storageos.volumeName: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
            local: {path: /x}
            spec.nodeAffinity: Required value: Local volume requires node affinity
            csi: {driver: A.B, volumeHandle: h, nodePublishSecretRef: {name: A}}
            spec.csi.nodePublishSecretRef.name: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.csi.nodePublishSecretRef.namespace: Required value
            csi: {}
            spec.csi.driver: Required value
            spec.csi.driver: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            spec.csi.volumeHandle: Required value
            nfs: {server: s, path: /x}, volumeAttributesClassName: ''
            spec.volumeAttributesClassName: Required value: an empty string is disallowed
            spec.csi: Required value: has to be specified when using volumeAttributesClassName
        "#]].assert_eq(&lines);
    }

    #[test]
    fn a_disk_that_does_not_say_of_which_kind_it_is_is_shared() {
        check(
            "persistentvolumes",
            "{metadata: {name: a}, spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, azureDisk: {diskName: d, diskURI: u}}}",
            expect![[r#"
                spec.azureDisk.diskURI: Unsupported value: "u": supported values: "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
            "#]],
        );
    }

    #[test]
    fn what_may_change() {
        let volume = |more: &str| {
            format!(
                "{{metadata: {{name: a}}, spec: {{accessModes: [ReadWriteOnce], capacity: {{storage: 1Gi}}, {more}}}}}"
            )
        };
        let affine = |key: &str, value: &str| {
            let expression = format!("{{key: {key}, operator: In, values: [{value}]}}");
            format!(
                "local: {{path: /x}}, nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: [{expression}]}}]}}}}"
            )
        };
        let zone = "failure-domain.beta.kubernetes.io/zone";
        let csi = |more: &str| format!("csi: {{driver: d, volumeHandle: h{more}}}");
        let secret = ", controllerExpandSecretRef: {name: secret, namespace: space}";
        let rows = [
            ("hostPath: {path: /x}".to_owned(), "hostPath: {path: /y}, volumeMode: Block".to_owned()),
            (csi(""), csi(secret)),
            (csi(secret), csi("")),
            (affine(zone, "a"), affine("topology.kubernetes.io/zone", "a")),
            (affine(zone, "a"), affine(zone, "b")),
            (csi("}, volumeAttributesClassName: a, claimRef: {"), csi("")),
        ];
        let lines: String =
            rows.map(|(old, new)| updated("persistentvolumes", &volume(&old), &volume(&new)) + "--\n").concat();
        expect![[r#"
            spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
            - spec.hostPath.path: "/x"
            + spec.hostPath.path: "/y"

            volumeMode: Invalid value: "Block": field is immutable
            --
            --
            spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
            - spec.csi.controllerExpandSecretRef: {"name":"secret","namespace":"space"}

            --
            --
            nodeAffinity: Invalid value: {"required":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"failure-domain.beta.kubernetes.io/zone","operator":"In","values":["b"]}]}]}}: field is immutable, except for updating from beta label to GA
            --
            spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden
            --
        "#]].assert_eq(&lines);
    }

    #[test]
    fn since_when_a_phase_is() {
        let status = |phase: &str, since: &str| yaml(&format!("{{status: {{phase: {phase}{since}}}}}"));
        let (then, given) =
            (", lastPhaseTransitionTime: '2026-01-01T00:00:00Z'", ", lastPhaseTransitionTime: '2026-01-02T00:00:00Z'");
        let now = "2026-01-03T00:00:00.7Z".parse().unwrap();
        for (phase, since, expected) in [
            ("Available", "", "2026-01-01T00:00:00Z"),
            ("Available", given, "2026-01-02T00:00:00Z"),
            ("Bound", "", "2026-01-03T00:00:00Z"),
            ("Bound", then, "2026-01-03T00:00:00Z"),
            ("Bound", given, "2026-01-02T00:00:00Z"),
        ] {
            let (mut new, old) = (status(phase, since), status("Available", then));
            kind("persistentvolumes").strategy.prepare_for_status_update(&mut new, &old, now);
            assert_eq!(new["status"]["lastPhaseTransitionTime"], expected, "{phase}{since}");
        }
    }

    #[test]
    fn warnings() {
        let volume = yaml(
            "{metadata: {annotations: {volume.beta.kubernetes.io/storage-class: a, volume.beta.kubernetes.io/mount-options: b}}, \
             spec: {persistentVolumeReclaimPolicy: Recycle, storageos: {}, nodeAffinity: {required: {nodeSelectorTerms: \
             [{matchExpressions: [{key: beta.kubernetes.io/os}]}]}}}}",
        );
        expect![[r#"
            metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use "storageClassName" attribute instead
            metadata.annotations[volume.beta.kubernetes.io/mount-options]: deprecated since v1.31; use "mountOptions" attribute instead
            spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.
            spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead
            spec.storageOS: deprecated in v1.22, non-functional in v1.25+"#]].assert_eq(&kind("persistentvolumes").strategy.warnings(&volume).join("\n"));
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
