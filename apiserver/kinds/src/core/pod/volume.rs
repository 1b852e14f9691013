//! Rules of a pod's volumes.

use std::collections::BTreeMap;

use super::{container, resources};
use crate::field::{Field, FieldError};
use crate::names;
use crate::rules;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks the volumes; their names, and whether each may be used as a device.
pub fn validate(volumes: &Field, errors: &mut Vec<FieldError>) -> BTreeMap<String, bool> {
    let mut known = BTreeMap::new();
    for volume in volumes.items() {
        let name = volume.get("name");
        if rules::required(&name, errors) {
            rules::form(&name, names::dns_label, errors);
            if known.contains_key(name.text()) {
                errors.push(name.duplicate());
            }
        }
        source(&volume, errors);
        let device = volume.get("persistentVolumeClaim").is_set() || volume.get("ephemeral").is_set();
        known.insert(name.text().to_owned(), device);
    }
    known
}

/// A rule of one source.
type Rule = fn(&Field, &mut Vec<FieldError>);

/// Every source a volume can have, with its rules.
const SOURCES: &[(&str, Rule)] = &[
    ("emptyDir", empty_dir),
    ("hostPath", host_path),
    ("gitRepo", |s, e| _ = rules::required(&s.get("repository"), e)),
    ("gcePersistentDisk", |s, e| _ = rules::required(&s.get("pdName"), e)),
    ("awsElasticBlockStore", |s, e| _ = rules::required(&s.get("volumeID"), e)),
    ("secret", |s, e| {
        rules::required(&s.get("secretName"), e);
        files(s, e);
    }),
    ("nfs", nfs),
    ("iscsi", |s, e| {
        rules::required(&s.get("targetPortal"), e);
        rules::required(&s.get("iqn"), e);
    }),
    ("glusterfs", |s, e| {
        rules::required(&s.get("endpoints"), e);
        rules::required(&s.get("path"), e);
    }),
    ("flocker", |_, _| {}),
    ("persistentVolumeClaim", |s, e| _ = rules::required(&s.get("claimName"), e)),
    ("rbd", |s, e| {
        rules::required(&s.get("monitors"), e);
        rules::required(&s.get("image"), e);
    }),
    ("cinder", |s, e| _ = rules::required(&s.get("volumeID"), e)),
    ("cephfs", |s, e| _ = rules::required(&s.get("monitors"), e)),
    ("quobyte", |s, e| {
        rules::required(&s.get("registry"), e);
        rules::required(&s.get("volume"), e);
    }),
    ("downwardAPI", downward),
    ("fc", fibre_channel),
    ("flexVolume", |s, e| _ = rules::required(&s.get("driver"), e)),
    ("configMap", |s, e| {
        rules::required(&s.get("name"), e);
        files(s, e);
    }),
    ("azureFile", |s, e| {
        rules::required(&s.get("secretName"), e);
        rules::required(&s.get("shareName"), e);
    }),
    ("vsphereVolume", |s, e| _ = rules::required(&s.get("volumePath"), e)),
    ("photonPersistentDisk", |s, e| _ = rules::required(&s.get("pdID"), e)),
    ("portworxVolume", |s, e| _ = rules::required(&s.get("volumeID"), e)),
    ("azureDisk", |s, e| {
        rules::required(&s.get("diskName"), e);
        rules::required(&s.get("diskURI"), e);
    }),
    ("storageos", |_, _| {}),
    ("scaleIO", |s, e| {
        rules::required(&s.get("gateway"), e);
        rules::required(&s.get("system"), e);
        rules::required(&s.get("volumeName"), e);
    }),
    ("projected", projected),
    ("csi", |s, e| rules::name(&s.get("driver"), names::dns_subdomain, e)),
    ("ephemeral", ephemeral),
    ("image", |s, e| {
        rules::required(&s.get("reference"), e);
        rules::maybe_one_of(&s.get("pullPolicy"), &["Always", "IfNotPresent", "Never"], e);
    }),
];

fn source(volume: &Field, errors: &mut Vec<FieldError>) {
    let mut set = false;
    for (name, rule) in SOURCES {
        let source = volume.get(name);
        if !source.is_set() {
            continue;
        }
        if set {
            errors.push(source.forbidden("may not specify more than 1 volume type"));
        } else {
            rule(&source, errors);
        }
        set = true;
    }
    if !set {
        errors.push(volume.required("must specify a volume type"));
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
    let medium = source.get("medium");
    if !matches!(medium.text(), "" | "Memory" | "HugePages") && !medium.text().starts_with("HugePages-") {
        errors.push(medium.not_supported(&["", "HugePages", "Memory"]));
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
    let path = source.get("path");
    if rules::required(&path, errors) {
        rules::no_parent_steps(&path, errors);
    }
    let types = ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if !types.contains(&source.get("type").text()) {
        errors.push(source.get("type").not_supported(&types));
    }
}

fn nfs(source: &Field, errors: &mut Vec<FieldError>) {
    rules::required(&source.get("server"), errors);
    let path = source.get("path");
    if rules::required(&path, errors) && !path.text().starts_with('/') {
        errors.push(path.invalid("must be an absolute path"));
    }
}

fn mode(mode: &Field, errors: &mut Vec<FieldError>) {
    if mode.int().is_some_and(|m| !(0..=0o777).contains(&m)) {
        errors.push(mode.invalid(MODE));
    }
}

/// A path below the volume that does not look like the volume's own files.
fn file_path(path: &Field, errors: &mut Vec<FieldError>) {
    if !rules::required(path, errors) {
        return;
    }
    rules::path_below(path, errors);
    if path.text().starts_with("..") && !path.text().starts_with("../") && path.text() != ".." {
        errors.push(path.invalid("must not start with '..'"));
    }
}

/// The files that a ConfigMap or Secret becomes.
fn files(source: &Field, errors: &mut Vec<FieldError>) {
    mode(&source.get("defaultMode"), errors);
    key_items(source, errors);
}

fn key_items(source: &Field, errors: &mut Vec<FieldError>) {
    for item in source.get("items").items() {
        rules::required(&item.get("key"), errors);
        file_path(&item.get("path"), errors);
        mode(&item.get("mode"), errors);
    }
}

fn downward(source: &Field, errors: &mut Vec<FieldError>) {
    mode(&source.get("defaultMode"), errors);
    downward_items(source, errors);
}

fn downward_items(source: &Field, errors: &mut Vec<FieldError>) {
    for item in source.get("items").items() {
        file_path(&item.get("path"), errors);
        mode(&item.get("mode"), errors);
        let (field, resource) = (item.get("fieldRef"), item.get("resourceFieldRef"));
        match (field.is_set(), resource.is_set()) {
            (true, true) => {
                errors.push(item.invalid("fieldRef and resourceFieldRef can not be specified simultaneously"));
            }
            (true, false) => container::field_reference(&field, container::VOLUME_FIELDS, errors),
            (false, true) => {
                container::resource_reference(&resource, errors);
                if resource.get("containerName").is_empty() {
                    errors.push(resource.get("containerName").required(""));
                }
            }
            (false, false) => errors.push(item.required("one of fieldRef and resourceFieldRef is required")),
        }
    }
}

fn projected(source: &Field, errors: &mut Vec<FieldError>) {
    mode(&source.get("defaultMode"), errors);
    const KINDS: [&str; 6] =
        ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];
    for projection in source.get("sources").items() {
        let mut set = false;
        for kind in KINDS {
            let part = projection.get(kind);
            if !part.is_set() {
                continue;
            }
            if set {
                errors.push(part.forbidden("may not specify more than 1 volume type per source"));
                continue;
            }
            set = true;
            match kind {
                "secret" | "configMap" => {
                    rules::required(&part.get("name"), errors);
                    key_items(&part, errors);
                }
                "downwardAPI" => downward_items(&part, errors),
                "serviceAccountToken" => token(&part, errors),
                "clusterTrustBundle" => file_path(&part.get("path"), errors),
                _ => {}
            }
        }
        if !set {
            errors.push(projection.required("must specify a volume type"));
        }
    }
}

fn token(token: &Field, errors: &mut Vec<FieldError>) {
    const MIN_SECONDS: i64 = 600;
    let seconds = token.get("expirationSeconds");
    if seconds.int().is_some_and(|s| s < MIN_SECONDS) {
        errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
    }
    if seconds.int().is_some_and(|s| s > 1 << 32) {
        errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
    }
    file_path(&token.get("path"), errors);
}

fn ephemeral(source: &Field, errors: &mut Vec<FieldError>) {
    let claim = source.get("volumeClaimTemplate");
    if !claim.is_set() {
        errors.push(claim.required(""));
        return;
    }
    let spec = claim.get("spec");
    if spec.get("accessModes").is_empty() {
        errors.push(spec.get("accessModes").required("at least 1 access mode is required"));
    }
    let requests = spec.get("resources");
    let requests = requests.get("requests");
    if !requests.key("storage").is_set() {
        errors.push(FieldError::required(&requests.path.key("storage"), ""));
    }
}
