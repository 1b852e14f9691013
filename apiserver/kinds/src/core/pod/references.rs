//! Which other objects a pod names.

use std::borrow::Cow;

use serde_json::Value;

use crate::object::{get, list, text};

/// Whether a pod names the object `name` of its namespace, of the kind `plural`: a Secret, a ConfigMap, a ServiceAccount, a
/// PersistentVolumeClaim or a ResourceClaim.
pub fn refers_to(pod: &Value, plural: &str, name: &str) -> bool {
    let is = |value: &Value, path: &[&str]| text(value, path) == name;
    match plural {
        "serviceaccounts" => is(pod, &["spec", "serviceAccountName"]),
        "persistentvolumeclaims" => list(pod, &["spec", "volumes"]).iter().any(|volume| claim_of(pod, volume) == name),
        "resourceclaims" => {
            let named = list(pod, &["spec", "resourceClaims"]).iter();
            let made = list(pod, &["status", "resourceClaimStatuses"]).iter();
            named.chain(made).any(|claim| is(claim, &["resourceClaimName"]))
        }
        _ => refers_to_data(pod, plural == "secrets", |found| found == name),
    }
}

pub const SERVICE_ACCOUNTS: &str = "serviceaccounts";
pub const SECRETS: &str = "secrets";
pub const TOKENS: &str = "serviceaccounts (via projected volumes)";

/// What of the API a pod needs to run; nothing, where its node can run it without (static pods).
pub fn of_the_api(pod: &Value) -> impl Iterator<Item = &'static str> {
    /// Volumes, and sources of projected ones, beside those with data of Secrets and ConfigMaps.
    const VOLUMES: &[(&str, &str)] = &[
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("serviceAccountToken", TOKENS),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let any = |name: &str| !name.is_empty();
    let named = [
        (any(text(pod, &["spec", "serviceAccountName"])), SERVICE_ACCOUNTS),
        (refers_to_data(pod, true, any), SECRETS),
        (refers_to_data(pod, false, any), "configmaps"),
        (!list(pod, &["spec", "resourceClaims"]).is_empty(), "resourceclaims"),
    ];
    let named = named.into_iter().filter_map(|(is_named, what)| is_named.then_some(what));
    let volumes = list(pod, &["spec", "volumes"]).iter();
    let parts = volumes.flat_map(|volume| list(volume, &["projected", "sources"]).iter().chain([volume]));
    named.chain(
        parts.filter_map(|part| VOLUMES.iter().find(|(kind, _)| get(part, &[kind]).is_some()).map(|(_, what)| *what)),
    )
}

/// The claim that one of a pod's volumes stands for; empty if it stands for none. That of an ephemeral volume is called after
/// the pod and the volume.
pub fn claim_of<'v>(pod: &Value, volume: &'v Value) -> Cow<'v, str> {
    match text(volume, &["persistentVolumeClaim", "claimName"]) {
        "" if get(volume, &["ephemeral"]).is_some() => {
            format!("{}-{}", text(pod, &["metadata", "name"]), text(volume, &["name"])).into()
        }
        claim => claim.into(),
    }
}

/// Whether a pod names a Secret or a ConfigMap that is meant.
fn refers_to_data(pod: &Value, secret: bool, is_meant: impl Fn(&str) -> bool) -> bool {
    /// Sources of volumes that name a secret to mount them with.
    const MOUNTED_WITH: &[&str] =
        &["azureFile", "cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"];
    let is = |value: &Value, path: &[&str]| is_meant(text(value, path));
    let (volume_path, source, from, key) = if secret {
        (["secret", "secretName"], ["secret", "name"], ["secretRef", "name"], "secretKeyRef")
    } else {
        (["configMap", "name"], ["configMap", "name"], ["configMapRef", "name"], "configMapKeyRef")
    };
    let mounted_with = |volume: &Value| {
        MOUNTED_WITH.iter().any(|kind| is(volume, &[kind, "secretRef", "name"]) || is(volume, &[kind, "secretName"]))
            || is(volume, &["csi", "nodePublishSecretRef", "name"])
    };
    let in_volume = |volume: &Value| {
        is(volume, &volume_path)
            || list(volume, &["projected", "sources"]).iter().any(|projected| is(projected, &source))
            || (secret && mounted_with(volume))
    };
    let in_container = |container: &Value| {
        list(container, &["envFrom"]).iter().any(|env| is(env, &from))
            || list(container, &["env"]).iter().any(|env| is(env, &["valueFrom", key, "name"]))
    };
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    list(pod, &["spec", "volumes"]).iter().any(in_volume)
        || containers.iter().any(|containers| list(pod, &["spec", containers]).iter().any(in_container))
        || (secret && list(pod, &["spec", "imagePullSecrets"]).iter().any(|pull| is(pull, &["name"])))
}
