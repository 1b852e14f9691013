//! Defaults of pods and of pod templates.
//!
//! Source: the API reference's "Defaults to …" sentences; a template gets what does not depend on being a real pod.

use serde_json::{Map, Value, json};

use super::resources;
use crate::object::{self, set_default, set_default_text};

/// Permissions of projected files where a volume names none: 0644.
const FILE_MODE: i64 = 0o644;
/// Life of a projected token where none is asked for.
const TOKEN_SECONDS: i64 = 3600;

/// Defaults of a Pod: those of a spec, and those that only a real pod gets.
pub fn pod(pod: &mut Value) {
    let Some(spec) = object::ensure(pod, &["spec"]) else { return };
    set_default(spec, "enableServiceLinks", true);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for container in all_containers(spec) {
        resources::requests_from_limits(container);
        if host_network {
            host_ports(container);
        }
    }
    pod_spec(spec);
    resources::pod_level(pod);
}

/// Defaults of a pod template at `spec.template`.
pub fn template(template: &mut Value) {
    if let Some(spec) = object::ensure(template, &["spec"]) {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Map<String, Value>) {
    without_alpha(spec);
    set_default_text(spec, "restartPolicy", "Always");
    set_default_text(spec, "dnsPolicy", "ClusterFirst");
    set_default_text(spec, "schedulerName", "default-scheduler");
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default(spec, "securityContext", json!({}));
    service_account(spec);
    for container in all_containers(spec) {
        self::container(container);
    }
    for volume in items(spec, "volumes") {
        self::volume(volume);
    }
    if let Some(Value::Object(resources)) = spec.get_mut("resources") {
        resources::canonicalize(resources);
    }
    if let Some(Value::Object(overhead)) = spec.get_mut("overhead") {
        resources::canonicalize_list(overhead);
    }
}

/// Drops what belongs to features that are off by default, as if it were not known.
fn without_alpha(spec: &mut Map<String, Value>) {
    // GenericWorkload
    spec.remove("schedulingGroup");
    // ContainerStopSignals
    for container in all_containers(spec) {
        let Some(lifecycle) = child(container, "lifecycle") else { continue };
        let had = lifecycle.remove("stopSignal").is_some();
        if had && lifecycle.values().all(Value::is_null) {
            container.remove("lifecycle");
        }
    }
    // PodCertificateRequest
    for volume in items(spec, "volumes") {
        if let Some(projected) = child(volume, "projected") {
            items(projected, "sources").for_each(|source| _ = source.remove("podCertificate"));
        }
    }
}

/// The deprecated `serviceAccount` always says what `serviceAccountName` says.
pub fn service_account(spec: &mut Map<String, Value>) {
    let named = |spec: &Map<String, Value>, field: &str| {
        spec.get(field).and_then(Value::as_str).filter(|s| !s.is_empty()).map(str::to_owned)
    };
    if let Some(name) = named(spec, "serviceAccountName").or_else(|| named(spec, "serviceAccount")) {
        spec.insert("serviceAccount".to_owned(), name.clone().into());
        spec.insert("serviceAccountName".to_owned(), name.into());
    }
}

/// The containers of every sort.
fn all_containers(spec: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let lists =
        spec.iter_mut().filter(|(k, _)| matches!(k.as_str(), "containers" | "initContainers" | "ephemeralContainers"));
    lists.filter_map(|(_, v)| v.as_array_mut()).flatten().filter_map(Value::as_object_mut)
}

fn items<'v>(object: &'v mut Map<String, Value>, field: &str) -> impl Iterator<Item = &'v mut Map<String, Value>> {
    object.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

fn child<'v>(object: &'v mut Map<String, Value>, field: &str) -> Option<&'v mut Map<String, Value>> {
    object.get_mut(field).and_then(Value::as_object_mut)
}

fn container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    let policy = pull_policy(image);
    set_default_text(container, "imagePullPolicy", policy);
    set_default_text(container, "terminationMessagePath", "/dev/termination-log");
    set_default_text(container, "terminationMessagePolicy", "File");
    set_default(container, "resources", json!({}));
    if let Some(resources) = child(container, "resources") {
        resources::canonicalize(resources);
    }
    for port in items(container, "ports") {
        set_default_text(port, "protocol", "TCP");
    }
    for variable in items(container, "env") {
        if let Some(source) = child(variable, "valueFrom") {
            field_source(source);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = child(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = child(container, "lifecycle") {
        for name in ["postStart", "preStop"] {
            if let Some(handler) = child(lifecycle, name) {
                self::handler(handler);
            }
        }
    }
}

/// `Always` for the tag `latest` (also of an image without a tag), else `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let tag = name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'));
    match tag {
        Some("latest") => "Always",
        None if !digest && !name.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn host_ports(container: &mut Map<String, Value>) {
    for port in items(container, "ports") {
        let unset = port.get("hostPort").and_then(Value::as_i64).unwrap_or_default() == 0;
        if let (true, Some(number)) = (unset, port.get("containerPort").cloned()) {
            port.insert("hostPort".to_owned(), number);
        }
    }
}

fn probe(probe: &mut Map<String, Value>) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        if probe.get(field).and_then(Value::as_i64).unwrap_or_default() == 0 {
            probe.insert(field.to_owned(), value.into());
        }
    }
    handler(probe);
}

fn handler(handler: &mut Map<String, Value>) {
    if let Some(http) = child(handler, "httpGet") {
        set_default_text(http, "path", "/");
        set_default_text(http, "scheme", "HTTP");
    }
    if let Some(grpc) = child(handler, "grpc") {
        set_default(grpc, "service", "");
    }
}

/// `fieldRef` and `resourceFieldRef`, in environments and in volumes.
fn field_source(source: &mut Map<String, Value>) {
    if let Some(field) = child(source, "fieldRef") {
        set_default_text(field, "apiVersion", "v1");
    }
    if let Some(resource) = child(source, "resourceFieldRef") {
        set_default(resource, "divisor", "0");
        resources::canonicalize_field(resource, "divisor");
    }
}

fn volume(volume: &mut Map<String, Value>) {
    if volume.iter().all(|(field, value)| field == "name" || value.is_null()) {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for name in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = child(volume, name) {
            set_default(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = child(volume, "downwardAPI") {
        items(source, "items").for_each(field_source);
    }
    if let Some(source) = child(volume, "projected") {
        for projection in items(source, "sources") {
            if let Some(token) = child(projection, "serviceAccountToken") {
                set_default(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = child(projection, "downwardAPI") {
                items(downward, "items").for_each(field_source);
            }
        }
    }
    if let Some(source) = child(volume, "emptyDir") {
        resources::canonicalize_field(source, "sizeLimit");
    }
    if let Some(source) = child(volume, "image") {
        let reference = source.get("reference").and_then(Value::as_str).unwrap_or_default();
        let policy = pull_policy(reference);
        set_default_text(source, "pullPolicy", policy);
    }
    storage(volume);
    let claim = child(volume, "ephemeral").and_then(|e| child(e, "volumeClaimTemplate")).and_then(|t| child(t, "spec"));
    if let Some(claim) = claim {
        set_default(claim, "volumeMode", "Filesystem");
        if let Some(resources) = child(claim, "resources") {
            resources::canonicalize(resources);
        }
    }
}

/// Defaults of storage that a pod can name itself as well as a PersistentVolume.
pub fn storage(volume: &mut Map<String, Value>) {
    if let Some(source) = child(volume, "hostPath") {
        set_default(source, "type", "");
    }
    if let Some(source) = child(volume, "iscsi") {
        set_default_text(source, "iscsiInterface", "default");
    }
    if let Some(source) = child(volume, "rbd") {
        set_default_text(source, "pool", "rbd");
        set_default_text(source, "user", "admin");
        set_default_text(source, "keyring", "/etc/ceph/keyring");
    }
    if let Some(source) = child(volume, "azureDisk") {
        set_default(source, "cachingMode", "ReadWrite");
        set_default(source, "kind", "Shared");
        set_default(source, "fsType", "ext4");
        set_default(source, "readOnly", false);
    }
    if let Some(source) = child(volume, "scaleIO") {
        set_default_text(source, "storageMode", "ThinProvisioned");
        set_default_text(source, "fsType", "xfs");
    }
}
