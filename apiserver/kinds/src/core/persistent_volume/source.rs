//! Where a volume's storage is: one source, and the rules of each.

use crate::field::{Field, FieldError};
use crate::{names, rules};

/// A kind of storage.
struct Source {
    name: &'static str,
    /// What must be set.
    required: &'static [&'static str],
    /// What else there is to check.
    check: fn(&Field, &mut Vec<FieldError>),
}

const fn source(name: &'static str, required: &'static [&'static str]) -> Source {
    Source { name, required, check: |_, _| {} }
}

const fn checked(
    name: &'static str,
    required: &'static [&'static str],
    check: fn(&Field, &mut Vec<FieldError>),
) -> Source {
    Source { name, required, check }
}

/// Every source a volume can have, in the order in which the first one counts.
const SOURCES: [Source; 22] = [
    checked("hostPath", &["path"], host_path),
    checked("gcePersistentDisk", &["pdName"], partition),
    checked("awsElasticBlockStore", &["volumeID"], partition),
    checked("glusterfs", &["endpoints", "path"], glusterfs),
    checked("flocker", &[], flocker),
    checked("nfs", &["server", "path"], nfs),
    source("rbd", &["monitors", "image"]),
    checked("quobyte", &[], quobyte),
    source("cephfs", &["monitors"]),
    checked("iscsi", &["targetPortal", "iqn"], iscsi),
    checked("cinder", &["volumeID"], |cinder, errors| secret_parts(&cinder.get("secretRef"), errors)),
    checked("fc", &[], fc),
    checked("flexVolume", &["driver"], flex_volume),
    checked("azureFile", &["secretName", "shareName"], azure_file),
    source("vsphereVolume", &["volumePath"]),
    source("photonPersistentDisk", &["pdID"]),
    source("portworxVolume", &["volumeID"]),
    checked("azureDisk", &["diskName", "diskURI"], azure_disk),
    source("scaleIO", &["gateway", "system", "volumeName"]),
    checked("local", &["path"], |local, errors| rules::no_parent_steps(&local.get("path"), errors)),
    checked("storageos", &["volumeName"], storageos),
    checked("csi", &[], csi),
];

/// The names of all sources.
pub fn names() -> impl Iterator<Item = &'static str> {
    SOURCES.iter().map(|source| source.name)
}

/// Checks that there is one source, and that one.
pub fn validate(spec: &Field, volume: &str, errors: &mut Vec<FieldError>) {
    let mut several = false;
    for source in SOURCES.iter().filter(|source| spec.get(source.name).is_set()) {
        // Some are called otherwise where something is wrong with them.
        let (beneath, forbidden) = match source.name {
            "gcePersistentDisk" => ("persistentDisk", source.name),
            "cephfs" => (source.name, "cephFS"),
            name => (name, name),
        };
        if several && source.name != "flexVolume" {
            errors.push(FieldError::forbidden(&spec.path.child(forbidden), "may not specify more than 1 volume type"));
            continue;
        }
        several = true;
        let field = spec.get(source.name);
        let field = Field::new(field.value(), spec.path.child(beneath));
        for name in source.required {
            rules::required(&field.get(name), errors);
        }
        (source.check)(&field, errors);
        if source.name == "local" && !spec.get("nodeAffinity").is_set() {
            errors.push(spec.get("nodeAffinity").required("Local volume requires node affinity"));
        }
        if source.name == "iscsi" {
            initiator_name(&field, volume, errors);
        }
    }
    if !several {
        errors.push(spec.required("must specify a volume type"));
    }
}

fn host_path(source: &Field, errors: &mut Vec<FieldError>) {
    let path = source.get("path");
    if path.is_empty() {
        return;
    }
    rules::no_parent_steps(&path, errors);
    let types = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    rules::maybe_one_of(&source.get("type"), &types, errors);
}

fn partition(source: &Field, errors: &mut Vec<FieldError>) {
    let partition = source.get("partition");
    if partition.int().is_some_and(|number| !(0..=255).contains(&number)) {
        errors.push(partition.invalid("must be between 1 and 255, inclusive"));
    }
}

fn glusterfs(source: &Field, errors: &mut Vec<FieldError>) {
    let namespace = source.get("endpointsNamespace");
    if namespace.str() == Some("") {
        errors.push(namespace.invalid("if the endpointnamespace is set, it must be a valid namespace name"));
    }
    rules::maybe_form(&namespace, names::dns_label, errors);
}

fn flocker(source: &Field, errors: &mut Vec<FieldError>) {
    let (name, uuid) = (source.get("datasetName"), source.get("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(source.required("one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let detail = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(FieldError::invalid(&source.path, "resource", detail));
    }
    if name.text().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn nfs(source: &Field, errors: &mut Vec<FieldError>) {
    let path = source.get("path");
    if !path.text().starts_with('/') {
        errors.push(path.invalid("must be an absolute path"));
    }
}

fn quobyte(source: &Field, errors: &mut Vec<FieldError>) {
    const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (source.get("registry"), source.get("tenant"));
    if registry.is_empty() {
        errors.push(registry.required(REGISTRY));
    } else if tenant.text().len() >= 65 {
        errors.push(tenant.required("must be a UUID and may not exceed a length of 64 characters"));
    } else {
        let is_pair = |pair: &&str| match pair.rsplit_once(':') {
            Some((host, _)) => host.contains(':') != (host.starts_with('[') && host.ends_with(']')),
            None => true,
        };
        for _ in registry.text().split(',').filter(is_pair) {
            errors.push(registry.invalid(REGISTRY));
        }
    }
    rules::required(&source.get("volume"), errors);
}

fn iscsi(source: &Field, errors: &mut Vec<FieldError>) {
    let iqn = source.get("iqn");
    if !iqn.is_empty() && !is_initiator(iqn.text()) {
        errors.push(iqn.invalid("must be valid format"));
    }
    rules::between(&source.get("lun"), 0, 255, errors);
    let secret = source.get("secretRef");
    let proves = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|name| source.get(name).bool() == Some(true));
    if proves && !secret.is_set() {
        errors.push(secret.required(""));
    }
    if secret.is_set() {
        rules::required(&secret.get("name"), errors);
    }
}

fn initiator_name(source: &Field, volume: &str, errors: &mut Vec<FieldError>) {
    let (name, portal) = (source.get("initiatorName"), source.get("targetPortal").text());
    if !name.is_set() {
        return;
    }
    if volume.len() + 1 + portal.len() > 64 {
        let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is \
                      specified.";
        errors.push(FieldError::invalid(&source.path.child("targetportal"), portal, detail));
    }
    if !is_initiator(name.text()) {
        errors.push(FieldError::invalid(&source.path.child("initiatorname"), name.text(), "must be valid format"));
    }
}

/// A name of RFC 3720: `iqn.YYYY-MM.domain:name`, `eui.` and 16 digits or `naa.` and 32.
fn is_initiator(name: &str) -> bool {
    let bytes = name.as_bytes();
    let digits = |count: usize| bytes.len() == 4 + count && bytes[4..].iter().all(u8::is_ascii_alphanumeric);
    match bytes.get(..3) {
        Some(b"eui") => digits(16),
        Some(b"naa") => digits(32),
        Some(b"iqn") => {
            let Some((authority, rest)) = name[3..].split_once(':') else { return false };
            let date: Option<(&[u8], &[u8])> = authority.as_bytes().split_at_checked(9);
            let Some(([b'.', y1, y2, y3, y4, b'-', m1, m2, b'.'], domain)) = date else { return false };
            let in_domain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
            [y1, y2, y3, y4, m1, m2].iter().all(|digit| digit.is_ascii_digit())
                && !domain.is_empty()
                && domain.iter().all(in_domain)
                && !rest.is_empty()
                && !rest.contains(|c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace())
        }
        _ => false,
    }
}

fn fc(source: &Field, errors: &mut Vec<FieldError>) {
    let (targets, ids, lun) = (source.get("targetWWNs"), source.get("wwids"), source.get("lun"));
    if targets.is_empty() && ids.is_empty() {
        errors.push(targets.required("must specify either targetWWNs or wwids, but not both"));
    }
    if targets.is_empty() {
        return;
    }
    if !ids.is_empty() {
        errors.push(targets.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    if !lun.is_set() {
        errors.push(lun.required("lun is required if targetWWNs is specified"));
    }
    rules::between(&lun, 0, 255, errors);
}

fn flex_volume(source: &Field, errors: &mut Vec<FieldError>) {
    for (key, option) in source.get("options").entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let detail = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(FieldError::invalid(&option.path, key, detail));
        }
    }
}

fn azure_file(source: &Field, errors: &mut Vec<FieldError>) {
    let namespace = source.get("secretNamespace");
    if namespace.str() == Some("") {
        errors.push(namespace.required(""));
    }
}

fn azure_disk(source: &Field, errors: &mut Vec<FieldError>) {
    let (mode, kind, uri) = (source.get("cachingMode"), source.get("kind"), source.get("diskURI"));
    if mode.is_set() && !matches!(mode.text(), "None" | "ReadOnly" | "ReadWrite") {
        errors.push(mode.not_supported(&["None", "ReadOnly", "ReadWrite"]));
    }
    if kind.is_set() && !matches!(kind.text(), "Dedicated" | "Managed" | "Shared") {
        errors.push(kind.not_supported(&["Dedicated", "Managed", "Shared"]));
    }
    let managed = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    let blob = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    let (begins, form) = if kind.text() == "Managed" { ("/subscriptions/", managed) } else { ("https://", blob) };
    if kind.is_set() && !uri.text().starts_with(begins) {
        errors.push(uri.not_supported(&[form]));
    }
}

fn storageos(source: &Field, errors: &mut Vec<FieldError>) {
    for name in ["volumeName", "volumeNamespace"] {
        rules::maybe_form(&source.get(name), names::dns_label, errors);
    }
    secret_parts(&source.get("secretRef"), errors);
}

fn secret_parts(secret: &Field, errors: &mut Vec<FieldError>) {
    if secret.is_set() {
        rules::required(&secret.get("name"), errors);
        rules::required(&secret.get("namespace"), errors);
    }
}

fn csi(source: &Field, errors: &mut Vec<FieldError>) {
    let driver = source.get("driver");
    rules::required(&driver, errors);
    if driver.text().len() > names::DNS_LABEL_MAX_BYTES {
        errors.push(FieldError::too_long(&driver.path, names::DNS_LABEL_MAX_BYTES));
    }
    let wrong = names::dns_subdomain(&driver.text().to_lowercase()).into_iter();
    errors.extend(wrong.map(|wrong| driver.invalid(wrong)));
    rules::required(&source.get("volumeHandle"), errors);
    for name in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let secret = source.get(name);
        if secret.is_set() {
            rules::name(&secret.get("name"), names::dns_subdomain, errors);
            rules::name(&secret.get("namespace"), names::dns_label, errors);
        }
    }
}

/// What is said of sources that nothing can mount any more.
pub fn warnings(spec: &Field) -> Vec<String> {
    const GONE: [(&str, &str, &str); 6] = [
        ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
        ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
        ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
        ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
        ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ];
    let set = GONE.iter().filter(|(name, _, _)| spec.get(name).is_set());
    set.map(|(_, name, since)| format!("{}: {since}", spec.path.child(name))).collect()
}
