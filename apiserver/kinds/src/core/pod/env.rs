//! Rules of a container's environment.

use serde_json::Value;

use super::resources;
use crate::field::{Field, FieldError};
use crate::object::get;
use crate::{names, rules};

/// Checks `env` and `envFrom` of a container.
pub fn validate(container: &Field, errors: &mut Vec<FieldError>) {
    for variable in container.get("env").items() {
        let (name, source) = (variable.get("name"), variable.get("valueFrom"));
        rules::name(&name, names::env_var, errors);
        if source.is_set() {
            value_source(&source, !variable.get("value").is_empty(), errors);
        }
    }
    sources(&container.get("envFrom"), errors);
}

fn value_source(source: &Field, has_value: bool, errors: &mut Vec<FieldError>) {
    type Rule = fn(&Field, &mut Vec<FieldError>);
    const SOURCES: [(&str, Rule); 5] = [
        ("fieldRef", |reference, errors| field_reference(reference, ENVIRONMENT_FIELDS, errors)),
        ("resourceFieldRef", |reference, errors| resource_reference(reference, false, errors)),
        ("configMapKeyRef", key_reference),
        ("secretKeyRef", key_reference),
        ("fileKeyRef", file_reference),
    ];
    let mut set = 0;
    for (name, rule) in SOURCES {
        let reference = source.get(name);
        if reference.is_set() {
            set += 1;
            rule(&reference, errors);
        }
    }
    let wrong = match set {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if has_value => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(&source.path, "", wrong));
}

/// Checks what names a key of a ConfigMap or a Secret.
fn key_reference(reference: &Field, errors: &mut Vec<FieldError>) {
    rules::form(&reference.get("name"), names::dns_subdomain, errors);
    rules::name(&reference.get("key"), names::config_key, errors);
}

fn file_reference(reference: &Field, errors: &mut Vec<FieldError>) {
    rules::name(&reference.get("key"), names::env_var, errors);
    rules::name(&reference.get("volumeName"), names::dns_label, errors);
    let path = reference.get("path");
    if rules::required(&path, errors) {
        rules::no_parent_steps(&path, errors);
    }
}

/// A file that variables are read from is in an emptyDir of the pod: another container writes it.
pub fn validate_files(container: &Field, volumes: &Field, errors: &mut Vec<FieldError>) {
    for variable in container.get("env").items() {
        let source = variable.get("valueFrom");
        let file = source.get("fileKeyRef");
        if !file.is_set() {
            continue;
        }
        let name = file.get("volumeName");
        let volume = volumes.items().filter(|volume| volume.get("name").text() == name.text()).last();
        match volume.and_then(|volume| volume.value()) {
            None => errors.push(FieldError::not_found(&name.path, name.text())),
            Some(volume) if get(volume, &["emptyDir"]).is_none() => {
                errors.push(name.invalid("referenced volume must be of type emptyDir"));
            }
            Some(_) => {}
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
/// Fields of the pod that have names of their own; not every one can be shown everywhere.
const FIELDS: &[&str] = &["spec.restartPolicy", "spec.schedulerName", "status.phase"];

/// Checks a `fieldRef`.
pub fn field_reference(reference: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    let (version, path) = (reference.get("apiVersion"), reference.get("fieldPath"));
    if !rules::required(&version, errors) || !rules::required(&path, errors) {
        return;
    }
    let unknown = |why: String| path.invalid(format!("error converting fieldPath: {why}"));
    if version.text() != "v1" {
        return errors.push(unknown(format!("unsupported pod version: {}", version.text())));
    }
    let subscript = path.text().strip_suffix("']").and_then(|p| p.split_once("['")).filter(|(p, _)| !p.is_empty());
    let wrong = match subscript {
        Some(("metadata.annotations", key)) => (key.to_lowercase(), names::qualified_name(&key.to_lowercase())),
        Some(("metadata.labels", key)) => (key.to_owned(), names::qualified_name(key)),
        Some(_) => return errors.push(unknown(format!("field label does not support subscript: {}", path.text()))),
        None => {
            // The older name of the first is still understood.
            let field = if path.text() == "spec.host" { "spec.nodeName" } else { path.text() };
            let known = [FIELDS, ENVIRONMENT_FIELDS, VOLUME_FIELDS].iter().any(|fields| fields.contains(&field));
            if !known {
                errors.push(unknown(format!("field label not supported: {field}")));
            } else if !supported.contains(&field) {
                errors.push(FieldError::not_supported(&path.path, field, supported));
            }
            return;
        }
    };
    let (key, wrong) = wrong;
    errors.extend(wrong.into_iter().map(|wrong| FieldError::invalid(&reference.path, key.as_str(), wrong)));
}

/// Checks a `resourceFieldRef`; one of a volume says whose resources it means.
pub fn resource_reference(reference: &Field, of_volume: bool, errors: &mut Vec<FieldError>) {
    const SUPPORTED: [&str; 6] = [
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let (resource, container) = (reference.get("resource"), reference.get("containerName"));
    let hugepages = |r: &str| r.starts_with("limits.hugepages-") || r.starts_with("requests.hugepages-");
    if of_volume && container.is_empty() {
        errors.push(container.required(""));
    } else if rules::required(&resource, errors) && !hugepages(resource.text()) && !SUPPORTED.contains(&resource.text())
    {
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
        name if name.starts_with(resources::HUGE_PAGES) => (BYTES, "hugepages"),
        _ => return,
    };
    if amount != "0" && !units.contains(&amount.as_str()) {
        let units = if units == CPU { "1m and 1".to_owned() } else { units.join(", ") };
        let detail = format!("only divisor's values {units} are supported with the {noun} resource");
        errors.push(FieldError::invalid(&divisor.path, resource, detail));
    }
}

/// Kubernetes finds what is wrong with one source at the list of them.
fn sources(list: &Field, errors: &mut Vec<FieldError>) {
    for source in list.items() {
        rules::maybe_form(&source.get("prefix"), names::env_var, errors);
        let mut set = 0;
        for reference in ["configMapRef", "secretRef"] {
            let reference = source.get(reference);
            if reference.is_set() {
                set += 1;
                rules::name(&reference.get("name"), start_of_name, errors);
            }
        }
        let wrong = match set {
            0 => "must specify one of: `configMapRef` or `secretRef`",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(FieldError::invalid(&list.path, "", wrong));
    }
}

/// A name, or the start of one: it may end in a dash.
fn start_of_name(text: &str) -> Vec<String> {
    match text.strip_suffix('-') {
        Some(start) if !start.is_empty() => names::dns_subdomain(&format!("{start}a")),
        _ => names::dns_subdomain(text),
    }
}

/// A variable that is defined again hides what it was before; one that makes use of that is meant.
pub fn warnings(container: &Field, warnings: &mut Vec<String>) {
    let mut seen = std::collections::BTreeSet::new();
    for variable in container.get("env").items() {
        let (name, value) = (variable.get("name").text(), variable.get("value").text());
        if seen.insert(name) {
            continue;
        }
        let before = format!("$({name})");
        let source = variable.get("valueFrom").value().is_some_and(Value::is_object);
        if source || value == before || !value.contains(&before) {
            let path = variable.path;
            warnings
                .push(format!("{path}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::{check_containers, check_specs};

    #[test]
    fn where_variables_come_from() {
        let env = "spec.containers[0].env[0].valueFrom";
        for (source, expected) in [
            ("{fieldRef: {fieldPath: spec.host}}", String::new()),
            ("{fieldRef: {fieldPath: \"metadata.labels['app']\"}}", String::new()),
            (
                "{fieldRef: {fieldPath: spec.containers}}",
                format!(
                    "{env}.fieldRef.fieldPath: Invalid value: \"spec.containers\": error converting fieldPath: field label not supported: spec.containers"
                ),
            ),
            (
                "{fieldRef: {fieldPath: status.phase}}",
                format!(
                    "{env}.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\""
                ),
            ),
            (
                "{fieldRef: {fieldPath: \"spec.nodeName['a']\"}}",
                format!(
                    "{env}.fieldRef.fieldPath: Invalid value: \"spec.nodeName['a']\": error converting fieldPath: field label does not support subscript: spec.nodeName['a']"
                ),
            ),
            (
                "{fieldRef: {fieldPath: \"metadata.annotations['A/']\"}}",
                format!(
                    "{env}.fieldRef: Invalid value: \"a/\": name part must be non-empty\n{env}.fieldRef: Invalid value: \"a/\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
                ),
            ),
            (
                "{configMapKeyRef: {name: m, key: ..}, secretKeyRef: {name: s, key: k}}",
                format!(
                    "{env}.configMapKeyRef.key: Invalid value: \"..\": must not be '..'\n{env}: Invalid value: \"\": may not have more than one field specified at a time"
                ),
            ),
            (
                "{fileKeyRef: {key: a=b, volumeName: v, path: ../x}}",
                format!(
                    "{env}.fileKeyRef.key: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '=' (regex used for validation is '^[ -<>-~]+$')\n{env}.fileKeyRef.path: Invalid value: \"../x\": must not contain '..'\n{env}.fileKeyRef.volumeName: Not found: \"v\""
                ),
            ),
        ] {
            check_containers(&[(&format!("env: [{{name: a, valueFrom: {source}}}]"), &expected)]);
        }
        let file = "env: [{name: a, valueFrom: {fileKeyRef: {key: k, volumeName: v, path: x}}}]";
        check_specs(&[
            (&format!("containers: [{{name: c, image: i, {file}}}], volumes: [{{name: v, emptyDir: {{}}}}]"), ""),
            (
                &format!("containers: [{{name: c, image: i, {file}}}], volumes: [{{name: v, hostPath: {{path: /x}}}}]"),
                "spec.containers[0].env[0].valueFrom.fileKeyRef.volumeName: Invalid value: \"v\": referenced volume must be of type emptyDir",
            ),
        ]);
        check_containers(&[
            ("envFrom: [{prefix: A_, configMapRef: {name: m-}}]", ""),
            (
                "envFrom: [{prefix: 'A=', secretRef: {}}, {}]",
                "spec.containers[0].envFrom[0].prefix: Invalid value: \"A=\": a valid environment variable name must consist only of printable ASCII characters other than '=' (regex used for validation is '^[ -<>-~]+$')\nspec.containers[0].envFrom[0].secretRef.name: Required value\nspec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
            ),
        ]);
    }
}
