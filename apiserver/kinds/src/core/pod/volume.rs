//! Rules of a pod's volumes.

use std::collections::{BTreeMap, BTreeSet};

use super::projection::{self, mode};
use super::resources;
use crate::core::persistent_volume_claim;
use crate::field::{Field, FieldError};
use crate::{metadata, names, rules};

/// The names of a pod's volumes, and whether each may be used as a device.
pub type Volumes = BTreeMap<String, bool>;

/// Checks the volumes of the pod `pod` (empty for a template); those of which nothing is wrong.
pub fn validate(volumes: &Field, pod: &str, errors: &mut Vec<FieldError>) -> Volumes {
    let claims = |name: &str| format!("{pod}-{name}");
    let made: BTreeSet<String> = volumes
        .items()
        .filter(|volume| !pod.is_empty() && volume.get("ephemeral").is_set())
        .map(|volume| claims(volume.get("name").text()))
        .collect();
    let mut known = Volumes::new();
    for volume in volumes.items() {
        let (name, before) = (volume.get("name"), errors.len());
        source(&volume, pod, errors);
        rules::name(&name, names::dns_label, errors);
        if known.contains_key(name.text()) {
            errors.push(name.duplicate());
        }
        let claim = volume.get("persistentVolumeClaim");
        if errors.len() == before {
            known.insert(name.text().to_owned(), claim.is_set() || volume.get("ephemeral").is_set());
        }
        let claim = claim.get("claimName");
        if made.contains(claim.text()) {
            errors.push(claim.invalid("must not reference a PVC that gets created for an ephemeral volume"));
        }
    }
    known
}

/// A rule of one source.
type Rule = fn(&Field, &mut Vec<FieldError>);

/// Every source a volume can have, with its rules, in the order in which the first counts.
const SOURCES: &[(&str, Rule)] = &[
    ("emptyDir", empty_dir),
    ("hostPath", host_path),
    ("gitRepo", |s, e| {
        rules::required(&s.get("repository"), e);
        rules::path_below(&s.get("directory"), e);
    }),
    ("gcePersistentDisk", gce_disk),
    ("awsElasticBlockStore", |s, e| disk(s, "volumeID", e)),
    ("secret", |s, e| {
        rules::required(&s.get("secretName"), e);
        files(s, e);
    }),
    ("nfs", nfs),
    ("iscsi", iscsi),
    ("glusterfs", |s, e| all_required(s, &["endpoints", "path"], e)),
    ("flocker", flocker),
    ("persistentVolumeClaim", |s, e| all_required(s, &["claimName"], e)),
    ("rbd", |s, e| all_required(s, &["monitors", "image"], e)),
    ("cinder", |s, e| {
        rules::required(&s.get("volumeID"), e);
        secret_reference(s, e);
    }),
    ("cephfs", |s, e| all_required(s, &["monitors"], e)),
    ("quobyte", quobyte),
    ("downwardAPI", |s, e| {
        mode(&s.get("defaultMode"), e);
        projection::downward_items(s, e);
    }),
    ("fc", fibre_channel),
    ("flexVolume", flex),
    ("configMap", |s, e| {
        rules::required(&s.get("name"), e);
        files(s, e);
    }),
    ("azureFile", |s, e| all_required(s, &["secretName", "shareName"], e)),
    ("vsphereVolume", |s, e| all_required(s, &["volumePath"], e)),
    ("photonPersistentDisk", |s, e| all_required(s, &["pdID"], e)),
    ("portworxVolume", |s, e| all_required(s, &["volumeID"], e)),
    ("azureDisk", azure_disk),
    ("storageos", storage_os),
    ("projected", projection::validate),
    ("scaleIO", |s, e| all_required(s, &["gateway", "system", "volumeName"], e)),
    ("csi", csi),
    ("ephemeral", ephemeral),
    ("image", |s, e| {
        rules::required(&s.get("reference"), e);
        rules::one_of(&s.get("pullPolicy"), &["Always", "IfNotPresent", "Never"], e);
    }),
];

/// What Kubernetes calls a source that is one too many, where it is not its name.
const ODD_NAMES: [(&str, &str); 2] = [("cephfs", "cephFS"), ("downwardAPI", "downwarAPI")];

fn source(volume: &Field, pod: &str, errors: &mut Vec<FieldError>) {
    let mut set = false;
    for (name, rule) in SOURCES {
        let source = volume.get(name);
        if !source.is_set() {
            continue;
        }
        if set {
            let shown = ODD_NAMES.iter().find(|(own, _)| own == name).map_or(*name, |(_, shown)| shown);
            let detail = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(&volume.path.child(shown), detail));
        } else {
            rule(&source, errors);
            if *name == "ephemeral" {
                claim_name(volume, pod, errors);
            }
        }
        if *name == "iscsi" {
            iscsi_length(volume, &source, errors);
        }
        set = true;
    }
    if !set {
        errors.push(volume.required("must specify a volume type"));
    }
}

fn all_required(source: &Field, fields: &[&str], errors: &mut Vec<FieldError>) {
    for field in fields {
        rules::required(&source.get(field), errors);
    }
}

fn empty_dir(source: &Field, errors: &mut Vec<FieldError>) {
    let limit = source.get("sizeLimit");
    match limit.value().map(resources::parse) {
        Some(None) => errors.push(limit.invalid(crate::quantity::QuantityError::Format.to_string())),
        Some(Some(size)) if size.is_negative() => {
            errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
        }
        _ => {}
    }
}

/// A disk of a cloud, and which partition of it.
fn disk(source: &Field, name: &str, errors: &mut Vec<FieldError>) {
    rules::required(&source.get(name), errors);
    let partition = source.get("partition");
    if partition.int().is_some_and(|number| !(0..=255).contains(&number)) {
        errors.push(partition.invalid("must be between 1 and 255, inclusive"));
    }
}

/// Kubernetes calls it by an older name.
fn gce_disk(source: &Field, errors: &mut Vec<FieldError>) {
    let mut wrong = Vec::new();
    disk(source, "pdName", &mut wrong);
    for mut error in wrong {
        error.field = error.field.replacen(".gcePersistentDisk.", ".persistentDisk.", 1);
        errors.push(error);
    }
}

fn fibre_channel(source: &Field, errors: &mut Vec<FieldError>) {
    let (targets, lun) = (source.get("targetWWNs"), source.get("lun"));
    match (targets.is_empty(), source.get("wwids").is_empty()) {
        (true, true) => errors.push(targets.required("must specify either targetWWNs or wwids, but not both")),
        (false, false) => {
            errors.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously"));
        }
        _ => {}
    }
    if !targets.is_empty() && !lun.is_set() {
        errors.push(lun.required("lun is required if targetWWNs is specified"));
    } else if !targets.is_empty() {
        rules::between(&lun, 0, 255, errors);
    }
}

fn host_path(source: &Field, errors: &mut Vec<FieldError>) {
    let (path, kind) = (source.get("path"), source.get("type"));
    if !rules::required(&path, errors) {
        return;
    }
    rules::no_parent_steps(&path, errors);
    let types = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if !types.contains(&kind.text()) {
        errors.push(kind.not_supported(&types));
    }
}

fn nfs(source: &Field, errors: &mut Vec<FieldError>) {
    all_required(source, &["server", "path"], errors);
    let path = source.get("path");
    if !path.text().starts_with('/') {
        errors.push(path.invalid("must be an absolute path"));
    }
}

fn iscsi(source: &Field, errors: &mut Vec<FieldError>) {
    rules::required(&source.get("targetPortal"), errors);
    let (iqn, initiator) = (source.get("iqn"), source.get("initiatorName"));
    if rules::required(&iqn, errors) {
        iscsi_name(&iqn, iqn.text(), errors);
    }
    rules::between(&source.get("lun"), 0, 255, errors);
    let asked = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|field| source.get(field).bool() == Some(true));
    if asked && !source.get("secretRef").is_set() {
        errors.push(source.get("secretRef").required(""));
    }
    if initiator.is_set() {
        // Kubernetes writes the field's name in small letters here.
        let shown = Field::new(initiator.value(), source.path.child("initiatorname"));
        iscsi_name(&shown, initiator.text(), errors);
    }
}

/// A name of iSCSI (RFC 3720): `iqn.YEAR-MONTH.DOMAIN:UNIQUE`, `eui.` and 16 digits, or `naa.` and 32.
fn iscsi_name(field: &Field, name: &str, errors: &mut Vec<FieldError>) {
    let digits = |prefix: &str, count: usize| {
        let rest = name.strip_prefix(prefix).unwrap_or_default();
        let mut rest = rest.chars();
        rest.next().is_some() && rest.clone().count() == count && rest.all(|c| c.is_ascii_alphanumeric())
    };
    let is_name = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => digits("eui", 16),
        Some("naa") => digits("naa", 32),
        _ => return errors.push(field.invalid("must be valid format starting with iqn, eui, or naa")),
    };
    if !is_name {
        errors.push(field.invalid("must be valid format"));
    }
}

fn is_iqn(name: &str) -> bool {
    let Some((authority, unique)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let (date, domain) = authority.split_at_checked(8).unwrap_or_default();
    let dated = date.bytes().enumerate().all(|(at, byte)| match at {
        4 => byte == b'-',
        7 => byte == b'.',
        _ => byte.is_ascii_digit(),
    });
    let in_domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let in_unique = |c: char| !c.is_whitespace() && !matches!(c, ',' | ';' | '*' | '&' | '$' | '|');
    !domain.is_empty() && dated && domain.chars().all(in_domain) && !unique.is_empty() && unique.chars().all(in_unique)
}

fn iscsi_length(volume: &Field, source: &Field, errors: &mut Vec<FieldError>) {
    const MAX_BYTES: usize = 64;
    let (name, portal) = (volume.get("name"), source.get("targetPortal"));
    if source.get("initiatorName").is_set() && name.text().len() + 1 + portal.text().len() > MAX_BYTES {
        errors.push(name.invalid(
            "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is \
             specified.",
        ));
    }
}

fn flocker(source: &Field, errors: &mut Vec<FieldError>) {
    let name = source.get("datasetName");
    match (name.is_empty(), source.get("datasetUUID").is_empty()) {
        (true, true) => errors.push(source.required("one of datasetName and datasetUUID is required")),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(FieldError::invalid(&source.path, "resource", detail));
        }
        _ => {}
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn quobyte(source: &Field, errors: &mut Vec<FieldError>) {
    const MAX_TENANT_BYTES: usize = 64;
    const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (source.get("registry"), source.get("tenant"));
    if registry.is_empty() {
        errors.push(registry.required(REGISTRY));
    } else if tenant.text().len() > MAX_TENANT_BYTES {
        errors.push(tenant.required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let wrong = registry.text().split(',').filter(|pair| !is_host_and_port(pair));
        errors.extend(wrong.map(|_| registry.invalid(REGISTRY)));
    }
    rules::required(&source.get("volume"), errors);
}

/// `HOST:PORT`, with a host that has colons itself in brackets.
fn is_host_and_port(pair: &str) -> bool {
    let plain = |text: &str| !text.contains([':', '[', ']']);
    match pair.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => !host.contains('[') && port.strip_prefix(':').is_some_and(plain),
        None => pair.rsplit_once(':').is_some_and(|(host, port)| plain(host) && plain(port)),
    }
}

fn flex(source: &Field, errors: &mut Vec<FieldError>) {
    rules::required(&source.get("driver"), errors);
    for (key, option) in source.get("options").entries() {
        let domain = format!(".{}", key.split_once('/').map_or(key, |(domain, _)| domain).to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&option.path, key, detail));
        }
    }
}

fn azure_disk(source: &Field, errors: &mut Vec<FieldError>) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    all_required(source, &["diskName", "diskURI"], errors);
    for (field, supported) in
        [("cachingMode", ["None", "ReadOnly", "ReadWrite"]), ("kind", ["Dedicated", "Managed", "Shared"])]
    {
        let field = source.get(field);
        if field.is_set() && !supported.contains(&field.text()) {
            errors.push(field.not_supported(&supported));
        }
    }
    let uri = source.get("diskURI");
    let (start, form) = match source.get("kind").str() {
        None => return,
        Some("Managed") => ("/subscriptions/", MANAGED),
        Some(_) => ("https://", BLOB),
    };
    if !uri.text().starts_with(start) {
        errors.push(uri.not_supported(&[form]));
    }
}

fn storage_os(source: &Field, errors: &mut Vec<FieldError>) {
    rules::name(&source.get("volumeName"), names::dns_label, errors);
    rules::maybe_form(&source.get("volumeNamespace"), names::dns_label, errors);
    secret_reference(source, errors);
}

fn secret_reference(source: &Field, errors: &mut Vec<FieldError>) {
    let secret = source.get("secretRef");
    if secret.is_set() {
        rules::required(&secret.get("name"), errors);
    }
}

fn csi(source: &Field, errors: &mut Vec<FieldError>) {
    let driver = source.get("driver");
    if rules::required(&driver, errors) {
        if driver.text().len() > names::DNS_LABEL_MAX_BYTES {
            errors.push(FieldError::too_long(&driver.path, names::DNS_LABEL_MAX_BYTES));
        }
        let wrong = names::dns_subdomain(&driver.text().to_lowercase());
        errors.extend(wrong.into_iter().map(|wrong| driver.invalid(wrong)));
    }
    let secret = source.get("nodePublishSecretRef");
    let name = secret.get("name");
    if secret.is_set() && rules::required(&name, errors) {
        rules::form(&Field::new(name.value(), source.path.child("name")), names::dns_subdomain, errors);
    }
}

/// The files that a ConfigMap or Secret becomes.
fn files(source: &Field, errors: &mut Vec<FieldError>) {
    mode(&source.get("defaultMode"), errors);
    projection::key_items(source, errors);
}

fn ephemeral(source: &Field, errors: &mut Vec<FieldError>) {
    let claim = source.get("volumeClaimTemplate");
    if !claim.is_set() {
        errors.push(claim.required(""));
        return;
    }
    let meta = claim.get("metadata");
    metadata::annotations(&meta.get("annotations"), errors);
    metadata::labels(&meta.get("labels"), errors);
    let fields = meta.value().and_then(serde_json::Value::as_object).into_iter().flatten();
    for (field, _) in fields.filter(|(field, _)| !matches!(field.as_str(), "annotations" | "labels")) {
        if !meta.get(field).is_empty() {
            errors.push(meta.get(field).forbidden("cannot be set"));
        }
    }
    persistent_volume_claim::validate_spec(&claim.get("spec"), None, errors);
}

/// The claim of an ephemeral volume is called after its pod and the volume.
fn claim_name(volume: &Field, pod: &str, errors: &mut Vec<FieldError>) {
    let name = volume.get("name");
    if pod.is_empty() || name.is_empty() {
        return;
    }
    let claim = format!("{pod}-{}", name.text());
    let wrong = names::dns_subdomain(&claim).into_iter();
    errors.extend(wrong.map(|wrong| name.invalid(format!("PVC name {claim:?}: {wrong}"))));
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::check_specs;

    #[test]
    fn sources_of_volumes() {
        let volume = |source: &str| format!("volumes: [{{name: v, {source}}}]");
        for (source, expected) in [
            ("emptyDir: {medium: Odd}", ""),
            (
                "emptyDir: {sizeLimit: -1}",
                "emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
            ),
            (
                "gitRepo: {repository: r, directory: /x}",
                "gitRepo.directory: Invalid value: \"/x\": must be a relative path",
            ),
            (
                "gcePersistentDisk: {pdName: '', partition: 256}",
                "persistentDisk.pdName: Required value\nspec.volumes[0].persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ),
            (
                "nfs: {server: s}",
                "nfs.path: Required value\nspec.volumes[0].nfs.path: Invalid value: \"\": must be an absolute path",
            ),
            (
                "iscsi: {targetPortal: p, iqn: foo, lun: 0}",
                "iscsi.iqn: Invalid value: \"foo\": must be valid format starting with iqn, eui, or naa",
            ),
            ("iscsi: {targetPortal: p, iqn: 'iqn.2015-02.example.com:test', lun: 0}", ""),
            (
                "iscsi: {targetPortal: p, iqn: 'iqn.2015.example.com:test', lun: 256, chapAuthSession: true}",
                "iscsi.iqn: Invalid value: \"iqn.2015.example.com:test\": must be valid format\nspec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive\nspec.volumes[0].iscsi.secretRef: Required value",
            ),
            (
                "iscsi: {targetPortal: p, iqn: eui.0123456789abcdef, lun: 0, initiatorName: eui.1}",
                "iscsi.initiatorname: Invalid value: \"eui.1\": must be valid format",
            ),
            ("flocker: {}", "flocker: Required value: one of datasetName and datasetUUID is required"),
            (
                "flocker: {datasetName: a/b, datasetUUID: c}",
                "flocker: Invalid value: \"resource\": datasetName and datasetUUID can not be specified simultaneously\nspec.volumes[0].flocker.datasetName: Invalid value: \"a/b\": must not contain '/'",
            ),
            (
                "quobyte: {registry: 'a:1,b', volume: v}",
                "quobyte.registry: Invalid value: \"a:1,b\": must be a host:port pair or multiple pairs separated by commas",
            ),
            (
                "flexVolume: {driver: d, options: {a.k8s.io/b: c}}",
                "flexVolume.options[a.k8s.io/b]: Invalid value: \"a.k8s.io/b\": kubernetes.io and k8s.io namespaces are reserved",
            ),
            (
                "azureDisk: {diskName: d, diskURI: u, cachingMode: x}",
                "azureDisk.cachingMode: Unsupported value: \"x\": supported values: \"None\", \"ReadOnly\", \"ReadWrite\"\nspec.volumes[0].azureDisk.diskURI: Unsupported value: \"u\": supported values: \"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd\"",
            ),
            (
                "storageos: {secretRef: {}}",
                "storageos.volumeName: Required value\nspec.volumes[0].storageos.secretRef.name: Required value",
            ),
            (
                "csi: {driver: a_b, nodePublishSecretRef: {name: A}}",
                "csi.driver: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\nspec.volumes[0].csi.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (
                "configMap: {name: m, items: [{key: k, path: ..}, {key: k, path: ..a}]}",
                "configMap.items[0].path: Invalid value: \"..\": must not contain '..'\nspec.volumes[0].configMap.items[0].path: Invalid value: \"..\": must not start with '..'\nspec.volumes[0].configMap.items[1].path: Invalid value: \"..a\": must not start with '..'",
            ),
            ("emptyDir: {}, cephfs: {}", "cephFS: Forbidden: may not specify more than 1 volume type"),
            ("emptyDir: {}, downwardAPI: {}", "downwarAPI: Forbidden: may not specify more than 1 volume type"),
        ] {
            let expected = if expected.is_empty() { String::new() } else { format!("spec.volumes[0].{expected}") };
            check_specs(&[(&volume(source), &expected)]);
        }
    }

    #[test]
    fn volumes_and_what_their_pod_makes() {
        let claim =
            "{metadata: {labels: {a: b}}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
        check_specs(&[
            (&format!("volumes: [{{name: v, ephemeral: {{volumeClaimTemplate: {claim}}}}}]"), ""),
            (
                &format!(
                    "volumes: [{{name: v, ephemeral: {{volumeClaimTemplate: {claim}}}}}, {{name: w, persistentVolumeClaim: {{claimName: a-v}}}}]"
                ),
                "spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: \"a-v\": must not reference a PVC that gets created for an ephemeral volume",
            ),
            (
                "volumes: [{name: v, ephemeral: {volumeClaimTemplate: {metadata: {name: x}, spec: {}}}}]",
                "spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set\nspec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required\nspec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
            ),
            // A volume of which something is wrong cannot be mounted either.
            (
                "containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /x}]}], volumes: [{name: v, configMap: {}}]",
                "spec.volumes[0].configMap.name: Required value\nspec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            ),
        ]);
    }
}
