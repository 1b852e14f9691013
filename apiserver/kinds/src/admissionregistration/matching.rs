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
            self::rule(&rule, errors);
        }
    }
}

/// Operations on resources.
pub fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    for name in ["apiGroups", "apiVersions"] {
        let list = rule.get(name);
        if rules::required(&list, errors) {
            alone(&list, errors);
        }
        if name == "apiVersions" {
            for version in list.items().filter(|version| version.is_empty()) {
                errors.push(version.required(""));
            }
        }
    }
    let resources = rule.get("resources");
    if rules::required(&resources, errors) {
        self::resource_names(&resources, errors);
    }
    let operations = rule.get("operations");
    if rules::required(&operations, errors) {
        alone(&operations, errors);
    }
    for operation in operations.items() {
        if !matches!(operation.text(), "*" | "CONNECT" | "CREATE" | "DELETE" | "UPDATE") {
            errors.push(operation.not_supported(&["*", "CONNECT", "CREATE", "DELETE", "UPDATE"]));
        }
    }
    rules::maybe_one_of(&rule.get("scope"), &["*", "Cluster", "Namespaced"], errors);
}

fn alone(list: &Field, errors: &mut Vec<FieldError>) {
    if list.len() > 1 && list.items().any(|item| item.text() == "*") {
        errors.push(list.invalid("if '*' is present, must not specify other values"));
    }
}

/// `pods`, `pods/log`, `*`, `pods/*`, `*/scale`, `*/*`.
fn resource_names(resources: &Field, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for resource in resources.items() {
        let text = resource.text();
        let (name, subresource) = text.split_once('/').map_or((text, None), |(name, sub)| (name, Some(sub)));
        if text.is_empty() {
            errors.push(resource.required(""));
        }
        if seen.contains(&"*/*") {
            errors.push(resource.invalid("if '*/*' is present, must not specify other resources"));
        } else if name != "*" && seen.contains(&format!("{name}/*").as_str()) {
            errors.push(resource.invalid(format!("if '{name}/*' is present, must not specify {text}")));
        } else if subresource.is_some_and(|sub| seen.contains(&format!("*/{sub}").as_str())) {
            let sub = subresource.unwrap_or_default();
            errors.push(resource.invalid(format!("if '*/{sub}' is present, must not specify {text}")));
        }
        seen.push(text);
    }
    if resources.len() > 1 {
        let has = |wanted: &str| resources.items().any(|item| item.text() == wanted);
        if has("*/*") {
            errors.push(resources.invalid("if '*/*' is present, must not specify other resources"));
        }
        if has("*") && resources.items().any(|item| !item.text().contains('/') && item.text() != "*") {
            let detail = "if '*' is present, must not specify other resources without subresources";
            errors.push(resources.invalid(detail));
        }
    }
}

/// Conditions that a request must meet.
pub fn conditions(conditions: &Field, errors: &mut Vec<FieldError>) {
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(&conditions.path, conditions.len(), MAX_CONDITIONS));
        return;
    }
    let mut seen = Vec::new();
    for condition in conditions.items() {
        expression(&condition, errors);
        let name = condition.get("name");
        rules::name(&name, names::qualified_name, errors);
        if seen.contains(&name.text()) {
            errors.push(name.duplicate());
        }
        seen.push(name.text());
    }
}

/// An expression that must be there.
pub fn expression(holder: &Field, errors: &mut Vec<FieldError>) {
    let expression = holder.get("expression");
    if expression.text().trim().is_empty() {
        errors.push(expression.required(""));
    }
}
