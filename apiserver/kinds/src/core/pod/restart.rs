//! Rules of what restarts a container: how it exits, or a resize.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::field::{Field, FieldError};
use crate::object::{list, text};
use crate::rules;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

/// Checks `restartPolicy` and `restartPolicyRules` of a container.
pub fn validate(container: &Field, errors: &mut Vec<FieldError>) {
    const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    if policy.is_set() && !POLICIES.contains(&policy.text()) {
        errors.push(policy.not_supported(&POLICIES));
    }
    if !policy.is_set() && !rules.is_empty() {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&rules.path, rules.len(), MAX_RULES));
    }
    for rule in rules.items() {
        self::rule(&rule, errors);
    }
}

fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
    const OPERATORS: [&str; 2] = ["In", "NotIn"];
    let (action, codes) = (rule.get("action"), rule.get("exitCodes"));
    if !ACTIONS.contains(&action.text()) {
        errors.push(action.not_supported(&ACTIONS));
    }
    if !codes.is_set() {
        errors.push(codes.required("must be specified"));
        return;
    }
    let (operator, values) = (codes.get("operator"), codes.get("values"));
    if !OPERATORS.contains(&operator.text()) {
        errors.push(operator.not_supported(&OPERATORS));
    }
    if values.len() > MAX_EXIT_CODES {
        errors.push(FieldError::too_many(&values.path, values.len(), MAX_EXIT_CODES));
    }
}

/// Checks the `resizePolicy` of a container whose pod is restarted by `pod_policy`. Kubernetes finds what is wrong with one
/// policy at the list of them.
pub fn resize(policies: &Field, pod_policy: &str, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for policy in policies.items() {
        let (resource, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(resource.text()) {
            errors.push(FieldError::duplicate(&policy.path, resource.text()));
        }
        for (field, supported) in [(resource, ["cpu", "memory"]), (restart, ["NotRequired", "RestartContainer"])] {
            let at_list = Field::new(field.value(), policies.path);
            rules::one_of(&at_list, &supported, errors);
        }
        if pod_policy == "Never" && restart.text() != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(&policies.path, restart.text(), detail));
        }
    }
}

/// Whether a container that ended with `code` may be started again.
pub fn may_restart(container: &Value, pod_policy: &str, code: i64) -> bool {
    let by_policy = |policy: &str| match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    };
    let own = text(container, &["restartPolicy"]);
    if own.is_empty() {
        return by_policy(pod_policy);
    }
    list(container, &["restartPolicyRules"]).iter().any(|rule| applies(rule, code)) || by_policy(own)
}

fn applies(rule: &Value, code: i64) -> bool {
    let listed = list(rule, &["exitCodes", "values"]).iter().any(|value| value.as_i64() == Some(code));
    match text(rule, &["exitCodes", "operator"]) {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// Whether some container's end may start all of them again.
pub fn may_restart_all(spec: &Value) -> bool {
    let containers = ["initContainers", "containers"].iter().flat_map(|name| list(spec, &[name]));
    containers
        .flat_map(|container| list(container, &["restartPolicyRules"]))
        .any(|rule| text(rule, &["action"]) == "RestartAllContainers")
}
