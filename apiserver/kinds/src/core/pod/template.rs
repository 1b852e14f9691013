//! Pod templates: what workloads make pods from.

use serde_json::{Map, Value};

use super::{annotations, spec, warnings};
use crate::field::{Field, FieldError};
use crate::metadata;
use crate::object;
use crate::rules;
use crate::selector::LabelSelector;

pub use super::defaults::template as default;

/// Checks a template's metadata and spec. Kubernetes finds what is wrong with the metadata at the template.
pub fn validate(template: &Field, errors: &mut Vec<FieldError>) {
    let (meta, spec) = (template.get("metadata"), template.get("spec"));
    let at_template = |name: &'static str| Field::new(meta.get(name).value(), template.path.child(name));
    let marks = at_template("annotations");
    metadata::labels(&at_template("labels"), errors);
    metadata::annotations(&marks, errors);
    annotations::validate(&marks, &spec, errors);
    spec::validate(&spec, spec::Owner::Template, errors);
    annotations::validate_match(&marks, &spec, errors);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_empty() {
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}

/// Checks a workload's selector and template, and that they belong together; pods must always be restarted.
///
/// `kind` is whose template it is: a Deployment's is that of its ReplicaSets.
pub fn validate_workload(spec: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let (selector, template) = (spec.get("selector"), spec.get("template"));
    let noun = if kind == "ReplicaSet" { "deployment".to_owned() } else { kind.to_lowercase() };
    if !selector.is_set() {
        // Of a DaemonSet's no more is said than that it does not match.
        if kind != "DaemonSet" {
            errors.push(selector.required(""));
        }
    } else {
        rules::label_selector(&selector, errors);
        if selector.get("matchLabels").len() + selector.get("matchExpressions").len() == 0 {
            errors.push(selector.invalid(format!("empty selector is invalid for {noun}")));
        }
    }
    if !template.is_set() {
        errors.push(template.required(""));
        return;
    }
    let labels = template.get("metadata");
    let labels = labels.get("labels");
    let parsed = LabelSelector::from_object(selector.value()).unwrap_or_default();
    if !parsed.is_everything() && !parsed.matches(labels.value().and_then(Value::as_object)) {
        let shown = labels.value().cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&labels.path, shown, "`selector` does not match template `labels`"));
    }
    validate(&template, errors);
    validate_restart(&template, kind, errors);
}

/// Pods of workloads that replace their pods are restarted for ever.
pub fn validate_restart(template: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let pod = template.get("spec");
    let (restart, deadline) = (pod.get("restartPolicy"), pod.get("activeDeadlineSeconds"));
    if restart.text() != "Always" && !restart.is_empty() {
        errors.push(restart.not_supported(&["Always"]));
    }
    if deadline.is_set() {
        errors.push(deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// What is allowed in a template, but likely not meant.
pub fn warnings(template: &Field) -> Vec<String> {
    warnings::template(template)
}

/// The names or images of a template's containers, joined as tables show them.
pub fn containers(template: &Value, field: &str) -> String {
    let containers = object::list(template, &["spec", "containers"]).iter();
    containers.map(|c| object::text(c, &[field])).collect::<Vec<_>>().join(",")
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(labels: Option<&Map<String, Value>>) -> String {
    match labels.filter(|l| !l.is_empty()) {
        Some(labels) => LabelSelector::from_map(labels).to_string(),
        None => "<none>".to_owned(),
    }
}

/// A selector as tables show it.
pub fn selector(selector: Option<&Value>) -> String {
    match LabelSelector::from_object(selector) {
        Ok(selector) if selector.requirements().is_empty() => "<none>".to_owned(),
        Ok(selector) => selector.to_string(),
        Err(_) => "<error>".to_owned(),
    }
}
