//! ResourceQuota: how much a namespace may use.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::pod::resources;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{self, Column, KindDef, Shape, Strategy, Subresource};
use crate::object::{self, map, text};
use crate::{names, rules};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "ResourceQuota", "resourcequotas", "io.k8s.api.core.v1.ResourceQuota")
        .short_names(&["quota"])
        .subresources(vec![Subresource::status()])
        .columns(vec![
            Column::name(),
            Column::text("Request", |quota, _| used(quota, false).into())
                .describe("Request represents a minimum amount of cpu/memory that a container may consume."),
            Column::text("Limit", |quota, _| used(quota, true).into())
                .describe("Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node."),
            Column::age(),
        ])
        .answers_deleted()
        .strategy(ResourceQuota)
}

/// `cpu: 1/2, memory: 1Gi/2Gi`, of limits or of everything else.
fn used(quota: &Value, limits: bool) -> String {
    let hard = map(quota, &["status", "hard"]).into_iter().flatten();
    let shown = hard.filter(|(name, _)| name.starts_with("limits.") == limits).map(|(name, hard)| {
        let used = text(quota, &["status", "used", name]);
        let used = if used.is_empty() { "0" } else { used };
        format!("{name}: {used}/{}", hard.as_str().unwrap_or_default())
    });
    shown.collect::<Vec<_>>().join(", ")
}

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

struct ResourceQuota;

impl Strategy for ResourceQuota {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }

    fn default(&self, quota: &mut Value) {
        for path in [["spec", "hard"], ["status", "hard"], ["status", "used"]] {
            if let Some(Value::Object(amounts)) = object::get_mut(quota, &path) {
                resources::canonicalize_list(amounts);
            }
        }
    }

    fn prepare_for_create(&self, quota: &mut Value) {
        kind::prepare_for_create(self.shape(), quota);
        if let Some(object) = quota.as_object_mut() {
            object.insert("status".to_owned(), json!({}));
        }
    }

    fn validate(&self, quota: &Value) -> Vec<FieldError> {
        let root = Field::root(quota);
        let spec = root.get("spec");
        let mut errors = Vec::new();
        amounts(&spec.get("hard"), &mut errors);
        let scopes = spec.get("scopes");
        let shown = scopes.value().cloned().unwrap_or_default();
        for scope in scopes.items() {
            if !SCOPES.contains(&scope.text()) {
                errors.push(FieldError::invalid(&scopes.path, shown.clone(), "unsupported scope"));
            }
            reach(scope.text(), &spec, &scopes.path, &shown, &mut errors);
        }
        conflicts(scopes.items().map(|scope| scope.text()).collect(), &scopes.path, &shown, &mut errors);
        selector(&spec, &shown, &mut errors);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        let scopes = new.get("scopes");
        let set =
            |spec: &Field| spec.get("scopes").items().map(|scope| scope.text().to_owned()).collect::<BTreeSet<_>>();
        if set(&new) != set(&old) {
            let shown = scopes.value().cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&scopes.path, shown, rules::IMMUTABLE));
        }
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let root = Field::root(new);
        let status = root.get("status");
        let mut errors = Vec::new();
        amounts(&status.get("hard"), &mut errors);
        amounts(&status.get("used"), &mut errors);
        errors
    }
}

/// What Kubernetes itself counts under a name without a domain.
const STANDARD: &[&str] = &[
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

/// Whether a name without a domain is that of something of which there can be a quota.
pub fn is_standard(name: &str) -> bool {
    let of_pods = name.strip_prefix("requests.").unwrap_or(name);
    of_pods.starts_with(resources::HUGE_PAGES) || STANDARD.contains(&name)
}

/// Checks the scopes that are chosen by expressions. Kubernetes does not say which of these is wrong.
fn selector(spec: &Field, scopes: &Value, errors: &mut Vec<FieldError>) {
    let selector = spec.get("scopeSelector");
    let expressions = selector.get("matchExpressions");
    let (path, mut names) = (expressions.path, Vec::new());
    let requirement = |expression: Field| {
        let values = expression.get("values").value().cloned();
        json!({"ScopeName": expression.get("scopeName").text(), "Operator": expression.get("operator").text(), "Values": values})
    };
    // Kubernetes shows its own structure.
    let shown = json!({"MatchExpressions": expressions.items().map(requirement).collect::<Vec<_>>()});
    for expression in expressions.items() {
        let (name, operator, values) =
            (expression.get("scopeName").text(), expression.get("operator").text(), expression.get("values"));
        if !SCOPES.contains(&name) {
            errors.push(FieldError::invalid(&path.child("scopeName"), name, "unsupported scope"));
        }
        reach(name, spec, &path, &shown, errors);
        let valued = ["PriorityClass", "VolumeAttributesClass"].contains(&name);
        if SCOPES.contains(&name) && !valued && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                          ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&path.child("operator"), operator, detail));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.push(FieldError::required(&path.child("values"), detail));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                let shown = values.value().cloned().unwrap_or_default();
                errors.push(FieldError::invalid(&path.child("values"), shown, detail));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => {
                errors.push(FieldError::invalid(&path.child("operator"), operator, "not a valid selector operator"));
            }
        }
        names.push(name);
    }
    conflicts(names, &path, scopes, errors);
}

fn conflicts(scopes: Vec<&str>, path: &FieldPath, shown: &Value, errors: &mut Vec<FieldError>) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.push(FieldError::invalid(path, shown.clone(), "conflicting scopes"));
        }
    }
}

/// A scope chooses among pods or among claims: what counts other things would never count any.
fn reach(scope: &str, spec: &Field, path: &FieldPath, shown: &Value, errors: &mut Vec<FieldError>) {
    let compute =
        ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"].as_slice();
    let reached = match scope {
        "BestEffort" => &compute[..1],
        "VolumeAttributesClass" => &["persistentvolumeclaims", "requests.storage"],
        _ if SCOPES.contains(&scope) => compute,
        _ => return,
    };
    let hard = spec.get("hard");
    let unreached = |(name, _): &(&str, Field)| is_standard(name) && !reached.contains(name);
    for _ in hard.entries().filter(unreached) {
        errors.push(FieldError::invalid(path, shown.clone(), "unsupported scope applied to resource"));
    }
}

fn amounts(list: &Field, errors: &mut Vec<FieldError>) {
    for (name, amount) in list.entries() {
        let wrong = names::qualified_name(name);
        // What is standard for quotas is what is standard, but for one.
        if wrong.is_empty() && !name.contains('/') && !is_standard(name) && name != "storage" {
            let detail = "must be a standard resource type or fully qualified";
            errors.push(FieldError::invalid(&amount.path, name, detail));
        }
        errors.extend(wrong.into_iter().map(|wrong| FieldError::invalid(&amount.path, name, wrong)));
        if !name.contains('/') && !is_standard(name) {
            errors.push(FieldError::invalid(&amount.path, name, "must be a standard resource for quota"));
        }
        resources::quantity(name, &amount, errors);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::testing::{check, check_row};

    #[test]
    fn rules() {
        check(
            "resourcequotas",
            "{metadata: {name: a, namespace: b}, spec: {hard: {cpu: -1, pods: 500m, odd: 1, count/pods: 3}, scopes: [BestEffort, NotBestEffort]}}",
            expect![[r#"
                spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0
                spec.hard[odd]: Invalid value: "odd": must be a standard resource type or fully qualified
                spec.hard[odd]: Invalid value: "odd": must be a standard resource for quota
                spec.hard[pods]: Invalid value: "500m": must be an integer
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: unsupported scope applied to resource
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort"]: conflicting scopes
            "#]],
        );
        check(
            "resourcequotas",
            "{metadata: {name: a, namespace: b}, spec: {hard: {pods: 1, requests.cpu: 1, count/x: 1}, scopes: [BestEffort], \
             scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: In, values: [a]}, \
             {scopeName: VolumeAttributesClass, operator: Exists}, {scopeName: PriorityClass, operator: Exists}]}}}",
            expect![[r#"
                spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource
                spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
                spec.scopeSelector.matchExpressions: Invalid value: {"MatchExpressions":[{"Operator":"In","ScopeName":"Terminating","Values":["a"]},{"Operator":"Exists","ScopeName":"VolumeAttributesClass","Values":null},{"Operator":"Exists","ScopeName":"PriorityClass","Values":null}]}: unsupported scope applied to resource
                spec.scopeSelector.matchExpressions: Invalid value: {"MatchExpressions":[{"Operator":"In","ScopeName":"Terminating","Values":["a"]},{"Operator":"Exists","ScopeName":"VolumeAttributesClass","Values":null},{"Operator":"Exists","ScopeName":"PriorityClass","Values":null}]}: unsupported scope applied to resource
            "#]],
        );
        check_row(
            "resourcequotas",
            "{metadata: {name: a}, status: {hard: {limits.cpu: '2', pods: '3'}, used: {pods: '1'}}}",
            expect!["Name=a | Request=pods: 1/3 | Limit=limits.cpu: 0/2 | Age=<unknown>"],
        );
    }
}
