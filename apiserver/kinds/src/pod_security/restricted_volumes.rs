//! Volumes come from the cluster, not from the node nor straight from a network.

use super::pod::{Found, called, plural, quoted, use_verb};
use super::{Check, Pod, Violation, host_path_volumes};
use crate::object::{get, text};

pub static CHECK: Check = Check::instead_of(&[(0, v1_0)], &host_path_volumes::CHECK);

const ALLOWED: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

const RESTRICTED: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn v1_0(pod: &Pod) -> Option<Violation> {
    let (mut names, mut types) = (Vec::new(), Found::new());
    for volume in pod.list(&["spec", "volumes"]) {
        let is = |source: &&&str| get(volume, &[source]).is_some();
        if !ALLOWED.iter().any(|source| is(&source)) {
            names.push(text(volume, &["name"]));
            types.insert(RESTRICTED.iter().find(is).copied().unwrap_or("unknown"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let what = plural("restricted volume type", types.len());
    let detail = format!("{} {} {what} {}", called("volume", &names), use_verb(names.len()), quoted(&types));
    Some(Violation::new("restricted volume types", detail))
}
