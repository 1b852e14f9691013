//! Rules of containers: regular, init and ephemeral ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{probe, resources, restart, security};
use crate::field::{Field, FieldError};
use crate::names;
use crate::rules;

/// What containers refer to in their pod.
pub struct Context<'a> {
    /// Names of the pod's volumes, and whether each is a claim that may be used as a device.
    pub volumes: &'a BTreeMap<String, bool>,
    pub host_network: bool,
    /// Names of the pod's resource claims.
    pub claims: &'a BTreeSet<&'a str>,
    /// What the pod has to end, in seconds.
    pub grace: Option<i64>,
}

/// Checks the three lists of containers and that names differ across them.
pub fn validate_all(spec: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    let containers = spec.get("containers");
    if containers.is_empty() {
        errors.push(containers.required(""));
    }
    let mut names = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for container in containers.items() {
        common(&container, context, &mut names, errors);
        probe::container(&container, context.grace, errors);
        self::host_ports(&container, &mut host_ports, errors);
        restart::validate(&container, errors);
    }
    for container in spec.get("initContainers").items() {
        common(&container, context, &mut names, errors);
        init(&container, context, errors);
    }
    for container in spec.get("ephemeralContainers").items() {
        common(&container, context, &mut names, errors);
        ephemeral(&container, &containers, errors);
    }
}

fn common<'v>(
    container: &Field<'v, '_>,
    context: &Context,
    names: &mut BTreeSet<&'v str>,
    errors: &mut Vec<FieldError>,
) {
    let name = container.get("name");
    if rules::required(&name, errors) {
        rules::form(&name, names::dns_label, errors);
        if !names.insert(name.text()) {
            errors.push(name.duplicate());
        }
    }
    let image = container.get("image");
    if image.is_empty() {
        errors.push(image.required(""));
    } else if image.text().trim() != image.text() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
    rules::one_of(&container.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"], errors);
    rules::one_of(&container.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"], errors);
    ports(&container.get("ports"), context, errors);
    environment(&container.get("env"), errors);
    for source in container.get("envFrom").items() {
        environment_source(&source, errors);
    }
    mounts(container, context, errors);
    devices(&container.get("volumeDevices"), context, errors);
    resources::validate(&container.get("resources"), errors);
    claims(container, context, errors);
    security::container(&container.get("securityContext"), errors);
}

/// A container uses claims of its pod.
fn claims(container: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    let resources = container.get("resources");
    for claim in resources.get("claims").items() {
        let name = claim.get("name").text();
        if name.is_empty() {
            errors.push(claim.required(""));
        } else if !context.claims.contains(name) {
            let known: Vec<&str> = context.claims.iter().copied().collect();
            let list = if known.is_empty() { " which is empty".to_owned() } else { format!(": {}", known.join(", ")) };
            let detail = format!("must be one of the names in pod.spec.resourceClaims{list}");
            errors.push(FieldError { detail, ..FieldError::not_found(&claim.path, name) });
        }
    }
}

fn ports(ports: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for port in ports.items() {
        let (name, number, host) = (port.get("name"), port.get("containerPort"), port.get("hostPort"));
        if !name.is_empty() {
            let wrong = names::port_name(name.text());
            if wrong.is_empty() && !names.insert(name.text()) {
                errors.push(name.duplicate());
            }
            errors.extend(wrong.into_iter().map(|wrong| name.invalid(wrong)));
        }
        if number.int().unwrap_or_default() == 0 {
            errors.push(number.required(""));
        } else {
            rules::port(&number, errors);
        }
        match host.int().unwrap_or_default() {
            0 => {}
            _ => rules::port(&host, errors),
        }
        if context.host_network && host.int() != number.int() {
            errors.push(number.invalid("must match `hostPort` when `hostNetwork` is true"));
        }
        rules::one_of(&port.get("protocol"), &["TCP", "UDP", "SCTP"], errors);
    }
}

/// A port of the node can be taken once for an address and protocol.
fn host_ports(container: &Field, taken: &mut BTreeSet<String>, errors: &mut Vec<FieldError>) {
    for port in container.get("ports").items() {
        let host = port.get("hostPort");
        let number = host.int().unwrap_or_default();
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !taken.insert(key.clone()) {
            errors.push(FieldError::duplicate(&host.path, key));
        }
    }
}

fn environment(variables: &Field, errors: &mut Vec<FieldError>) {
    for variable in variables.items() {
        let (name, source) = (variable.get("name"), variable.get("valueFrom"));
        if rules::required(&name, errors) {
            rules::form(&name, names::env_var, errors);
        }
        if source.is_set() {
            value_source(&source, !variable.get("value").is_empty(), errors);
        }
    }
}

fn value_source(source: &Field, has_value: bool, errors: &mut Vec<FieldError>) {
    const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
    let set = SOURCES.iter().filter(|name| source.get(name).is_set()).count();
    if set == 0 {
        let detail =
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`";
        errors.push(FieldError::invalid(&source.path, "", detail));
    } else if has_value {
        errors.push(FieldError::invalid(&source.path, "", "may not be specified when `value` is not empty"));
    } else if set > 1 {
        errors.push(FieldError::invalid(&source.path, "", "may not have more than one field specified at a time"));
    }
    let field = source.get("fieldRef");
    if field.is_set() {
        field_reference(&field, ENVIRONMENT_FIELDS, errors);
    }
    let resource = source.get("resourceFieldRef");
    if resource.is_set() {
        resource_reference(&resource, errors);
    }
    for name in ["configMapKeyRef", "secretKeyRef"] {
        let reference = source.get(name);
        if reference.is_set() {
            rules::required(&reference.get("name"), errors);
            rules::name(&reference.get("key"), names::config_key, errors);
        }
    }
}

/// Fields of the pod that variables can show.
const ENVIRONMENT_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields of the pod that files can show.
pub const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Checks a `fieldRef`.
pub fn field_reference(reference: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    rules::required(&reference.get("apiVersion"), errors);
    let path = reference.get("fieldPath");
    if !rules::required(&path, errors) {
        return;
    }
    let subscript = path.text().strip_suffix("']").and_then(|p| p.split_once("['"));
    match subscript {
        Some(("metadata.annotations" | "metadata.labels", key)) => {
            let wrong = names::qualified_name(&key.to_lowercase());
            errors.extend(wrong.into_iter().map(|wrong| path.invalid(wrong)));
        }
        Some((field, _)) => {
            let detail = format!("error converting fieldPath: field label does not support subscript: {field}");
            errors.push(path.invalid(detail));
        }
        None if !supported.contains(&path.text()) => errors.push(path.not_supported(supported)),
        None => {}
    }
}

/// Checks a `resourceFieldRef`.
pub fn resource_reference(reference: &Field, errors: &mut Vec<FieldError>) {
    const SUPPORTED: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = reference.get("resource");
    let hugepages = |r: &str| r.starts_with("limits.hugepages-") || r.starts_with("requests.hugepages-");
    if rules::required(&resource, errors) && !hugepages(resource.text()) && !SUPPORTED.contains(&resource.text()) {
        errors.push(resource.not_supported(&SUPPORTED));
    }
    divisor(reference, errors);
}

/// Checks what an amount is divided by: nothing, or a unit of the resource.
fn divisor(reference: &Field, errors: &mut Vec<FieldError>) {
    const CPU: &[&str] = &["1m", "1"];
    const BYTES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];
    let (resource, divisor) = (reference.get("resource").text(), reference.get("divisor"));
    let Some(amount) = divisor.value().and_then(resources::parse) else { return };
    let amount = amount.to_string();
    let (units, noun) = match resource.split_once('.').unwrap_or_default().1 {
        "cpu" => (CPU, "cpu"),
        "memory" => (BYTES, "memory"),
        "ephemeral-storage" => (BYTES, "local ephemeral storage"),
        name if name.starts_with("hugepages-") => (BYTES, "hugepages"),
        _ => return,
    };
    if amount != "0" && !units.contains(&amount.as_str()) {
        let units = if units == CPU { "1m and 1".to_owned() } else { units.join(", ") };
        let detail = format!("only divisor's values {units} are supported with the {noun} resource");
        errors.push(FieldError::invalid(&divisor.path, resource, detail));
    }
}

fn environment_source(source: &Field, errors: &mut Vec<FieldError>) {
    rules::maybe_form(&source.get("prefix"), names::env_var, errors);
    let references = ["configMapRef", "secretRef"].map(|name| source.get(name).is_set());
    match references {
        [false, false] => {
            errors.push(FieldError::invalid(&source.path, "", "must specify one of: `configMapRef` or `secretRef`"));
        }
        [true, true] => {
            errors.push(FieldError::invalid(&source.path, "", "may not have more than one field specified at a time"));
        }
        _ => {}
    }
    for name in ["configMapRef", "secretRef"] {
        let reference = source.get(name);
        if reference.is_set() {
            rules::required(&reference.get("name"), errors);
        }
    }
}

fn mounts(container: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    let privileged = container.get("securityContext").get("privileged").bool() == Some(true);
    let mut places = BTreeSet::new();
    for mount in container.get("volumeMounts").items() {
        let (name, place) = (mount.get("name"), mount.get("mountPath"));
        rules::required(&name, errors);
        if !context.volumes.contains_key(name.text()) {
            errors.push(name.not_found());
        }
        if rules::required(&place, errors) && !places.insert(place.text()) {
            errors.push(place.invalid("must be unique"));
        }
        rules::path_below(&mount.get("subPath"), errors);
        rules::path_below(&mount.get("subPathExpr"), errors);
        if !mount.get("subPath").is_empty() && !mount.get("subPathExpr").is_empty() {
            errors.push(mount.get("subPathExpr").invalid("subPathExpr and subPath are mutually exclusive"));
        }
        let propagation = ["Bidirectional", "HostToContainer", "None"];
        rules::maybe_one_of(&mount.get("mountPropagation"), &propagation, errors);
        if mount.get("mountPropagation").text() == "Bidirectional" && !privileged {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(mount.get("mountPropagation").forbidden(detail));
        }
        recursive_read_only(&mount, errors);
    }
}

fn recursive_read_only(mount: &Field, errors: &mut Vec<FieldError>) {
    let (recursive, propagation) = (mount.get("recursiveReadOnly"), mount.get("mountPropagation"));
    rules::maybe_one_of(&recursive, &["Disabled", "Enabled", "IfPossible"], errors);
    if !matches!(recursive.text(), "Enabled" | "IfPossible") {
        return;
    }
    if mount.get("readOnly").bool() != Some(true) {
        errors.push(recursive.forbidden("may only be specified when readOnly is true"));
    }
    if !matches!(propagation.text(), "" | "None") {
        errors.push(recursive.forbidden("may only be specified when mountPropagation is None or not specified"));
    }
}

fn devices(devices: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    let mut paths = BTreeSet::new();
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if rules::required(&name, errors) {
            match context.volumes.get(name.text()) {
                None => errors.push(name.not_found()),
                Some(false) => {
                    errors.push(name.invalid(
                        "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                    ));
                }
                Some(true) => {}
            }
            if !names.insert(name.text()) {
                errors.push(name.invalid("must be unique"));
            }
        }
        if rules::required(&path, errors) {
            if !paths.insert(path.text()) {
                errors.push(path.invalid("must be unique"));
            }
            rules::no_parent_steps(&path, errors);
        }
    }
}

fn init(container: &Field, context: &Context, errors: &mut Vec<FieldError>) {
    restart::validate(container, errors);
    if container.get("restartPolicy").text() == "Always" {
        probe::container(container, context.grace, errors);
        return;
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.get(name);
        if field.is_set() {
            errors.push(field.forbidden("may not be set for init containers without restartPolicy=Always"));
        }
    }
}

fn ephemeral(container: &Field, targets: &Field, errors: &mut Vec<FieldError>) {
    for name in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
        let field = container.get(name);
        if !field.is_empty() {
            errors.push(field.forbidden("cannot be set for an Ephemeral Container"));
        }
    }
    if !container.get("resources").is_empty() {
        errors.push(container.get("resources").forbidden("cannot be set for an Ephemeral Container"));
    }
    let target = container.get("targetContainerName");
    if !target.is_empty() && !targets.items().any(|t| t.get("name").text() == target.text()) {
        errors.push(target.not_found());
    }
}
