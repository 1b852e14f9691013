//! Rules of what restarts a container: how it exits, or a resize.

use std::collections::BTreeSet;

use crate::field::{Field, FieldError};
use crate::rules;

const MAX_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

/// Checks `restartPolicy`, `restartPolicyRules` and `resizePolicy` of a container.
pub fn validate(container: &Field, errors: &mut Vec<FieldError>) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    rules::maybe_one_of(&policy, &["Always", "OnFailure", "Never"], errors);
    if !policy.is_set() && !rules.is_empty() {
        errors.push(policy.required("must specify restartPolicy when restart rules are used"));
    }
    if rules.len() > MAX_RULES {
        errors.push(FieldError::too_many(&rules.path, rules.len(), MAX_RULES));
    }
    for rule in rules.items() {
        self::rule(&rule, errors);
    }
    let policies = container.get("resizePolicy");
    resize(&policies, errors);
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

/// Kubernetes finds what is wrong with one policy at the list of them.
fn resize(policies: &Field, errors: &mut Vec<FieldError>) {
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
    }
}
