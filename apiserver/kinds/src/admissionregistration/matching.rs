//! Which requests a webhook or a policy is about: rules, selectors and match conditions.

use serde_json::{Map, Value, json};

use crate::field::{Field, FieldError};
use crate::{names, object, rules};

/// Conditions per webhook or policy.
const MAX_CONDITIONS: usize = 64;

/// What a webhook and a policy's `matchConstraints` default alike.
pub fn default(members: &mut Map<String, Value>) {
    object::set_default(members, "matchPolicy", "Equivalent");
    object::set_default(members, "namespaceSelector", json!({}));
    object::set_default(members, "objectSelector", json!({}));
}

/// Rules are about objects of every scope unless they say otherwise.
pub fn default_rules(rules: Option<&mut Value>) {
    for rule in rules.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        object::set_default(rule, "scope", "*");
    }
}

/// Defaults of a policy's MatchResources.
pub fn default_resources(matching: Option<&mut Value>) {
    let Some(matching) = matching.and_then(Value::as_object_mut) else { return };
    default(matching);
    default_rules(matching.get_mut("resourceRules"));
    default_rules(matching.get_mut("excludeResourceRules"));
}

/// Selectors and the match policy.
pub fn selectors(matching: &Field, errors: &mut Vec<FieldError>) {
    rules::maybe_one_of(&matching.get("matchPolicy"), &["Equivalent", "Exact"], errors);
    for name in ["namespaceSelector", "objectSelector"] {
        rules::label_selector(&matching.get(name), errors);
    }
}

/// A policy's MatchResources.
pub fn resources(matching: &Field, errors: &mut Vec<FieldError>) {
    selectors(matching, errors);
    for name in ["resourceRules", "excludeResourceRules"] {
        for rule in matching.get(name).items() {
            let mut seen = Vec::new();
            for name in rule.get("resourceNames").items() {
                rules::form(&name, names::path_segment, errors);
                if seen.contains(&name.text()) {
                    errors.push(name.duplicate());
                }
                seen.push(name.text());
            }
            self::rule(&rule, errors);
        }
    }
}

/// Operations on resources.
pub fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    let operations = rule.get("operations");
    alone(&operations, "operations", errors);
    for operation in operations.items() {
        if !matches!(operation.text(), "*" | "CONNECT" | "CREATE" | "DELETE" | "UPDATE") {
            errors.push(operation.not_supported(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]));
        }
    }
    alone(&rule.get("apiGroups"), "API groups", errors);
    let versions = rule.get("apiVersions");
    alone(&versions, "API versions", errors);
    for version in versions.items().filter(|version| version.is_empty()) {
        errors.push(version.required(""));
    }
    resource_names(&rule.get("resources"), errors);
    rules::maybe_one_of(&rule.get("scope"), &["*", "Cluster", "Namespaced"], errors);
}

/// A list that must not be empty, and in which `*` stands alone.
fn alone(list: &Field, what: &str, errors: &mut Vec<FieldError>) {
    if rules::required(list, errors) && list.len() > 1 && list.items().any(|item| item.text() == "*") {
        errors.push(list.invalid(format!("if '*' is present, must not specify other {what}")));
    }
}

/// `pods`, `pods/log`, `*`, `pods/*`, `*/scale`, `*/*`.
fn resource_names(resources: &Field, errors: &mut Vec<FieldError>) {
    rules::required(resources, errors);
    let (mut resources_with_all, mut all_with_subresource) = (Vec::new(), Vec::new());
    let mut last_is_plain = false;
    for resource in resources.items() {
        let text = resource.text();
        if text.is_empty() {
            errors.push(resource.required(""));
            continue;
        }
        let Some((name, subresource)) = text.split_once('/') else {
            last_is_plain = text != "*";
            continue;
        };
        if resources_with_all.contains(&name) {
            errors.push(resource.invalid(format!("if '{name}/*' is present, must not specify {text}")));
        }
        if all_with_subresource.contains(&subresource) {
            errors.push(resource.invalid(format!("if '*/{subresource}' is present, must not specify {text}")));
        }
        if subresource == "*" {
            resources_with_all.push(name);
        }
        if name == "*" {
            all_with_subresource.push(subresource);
        }
    }
    let has = |wanted: &str| resources.items().any(|item| item.text() == wanted);
    if resources.len() > 1 && has("*/*") {
        errors.push(resources.invalid("if '*/*' is present, must not specify other resources"));
    }
    if has("*") && last_is_plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(resources.invalid(detail));
    }
}

/// Policies that change objects are about requests that bring some.
pub fn mutable_operations(matching: &Field, errors: &mut Vec<FieldError>) {
    let supported = ["*", "CONNECT", "CREATE", "UPDATE"];
    let rules = matching.get("resourceRules");
    let path = rules.path.child("operations");
    for rule in rules.items() {
        for operation in rule.get("operations").items().filter(|operation| !supported.contains(&operation.text())) {
            errors.push(FieldError::not_supported(&path, operation.text(), &supported));
        }
    }
}

/// Conditions that a request must meet.
pub fn conditions(conditions: &Field, errors: &mut Vec<FieldError>) {
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(&conditions.path, conditions.len(), MAX_CONDITIONS));
    }
    let mut seen = Vec::new();
    for condition in conditions.items() {
        expression(&condition.get("expression"), "", errors);
        let name = condition.get("name");
        rules::name(&name, names::qualified_name, errors);
        if !name.is_empty() && seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
}

/// An expression that must be there.
pub fn expression(expression: &Field, detail: &str, errors: &mut Vec<FieldError>) {
    if expression.text().trim().is_empty() {
        errors.push(expression.required(detail));
    }
}
