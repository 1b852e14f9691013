//! The levels and flows that no cluster can do without: their specs are fixed.

use serde_json::{Value, json};

use crate::field::{Field, FieldError};
use crate::object::same;

/// The fixed spec of a FlowSchema.
fn flow_schema(name: &str) -> Option<Value> {
    let rule = |groups: &[&str]| {
        let subjects: Vec<Value> =
            groups.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect();
        json!({"subjects": subjects,
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
    };
    Some(match name {
        "exempt" => json!({"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 1,
            "rules": [rule(&["system:masters"])]}),
        "catch-all" => json!({"priorityLevelConfiguration": {"name": "catch-all"}, "matchingPrecedence": 10_000,
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [rule(&["system:unauthenticated", "system:authenticated"])]}),
        _ => return None,
    })
}

pub fn check_flow_schema(name: &str, spec: &Field, errors: &mut Vec<FieldError>) {
    if flow_schema(name).is_some_and(|fixed| !same(spec.value(), Some(&fixed))) {
        errors.push(spec.invalid(format!("spec of '{name}' must equal the fixed value")));
    }
}

/// How much is exempt may be changed, what is exempt may not.
pub fn check_priority_level(name: &str, spec: &Field, errors: &mut Vec<FieldError>) {
    match name {
        "exempt" if spec.get("type").text() != "Exempt" || spec.get("limited").is_set() => {
            let detail = format!("spec of '{name}' except the 'spec.exempt' field must equal the fixed value");
            errors.push(spec.invalid(detail));
        }
        "catch-all" => {
            let fixed = json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0,
                "limitResponse": {"type": "Reject"}}});
            if !same(spec.value(), Some(&fixed)) {
                errors.push(spec.invalid(format!("spec of '{name}' must equal the fixed value")));
            }
        }
        _ => {}
    }
}

/// Conditions of either kind: each type once.
pub fn conditions(status: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = Vec::new();
    for condition in status.get("conditions").items() {
        let kind = condition.get("type");
        if seen.contains(&kind.text()) {
            errors.push(kind.duplicate());
        }
        seen.push(kind.text());
        if kind.is_empty() {
            errors.push(kind.required("must not be empty"));
        }
    }
}
