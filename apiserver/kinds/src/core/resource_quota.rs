//! ResourceQuota: how much a namespace may use.

use serde_json::{Value, json};

use super::pod::resources;
use crate::field::{Field, FieldError};
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
        for scope in scopes.items() {
            if !SCOPES.contains(&scope.text()) {
                errors.push(FieldError::invalid(
                    &scopes.path,
                    scopes.value().cloned().unwrap_or_default(),
                    "unsupported scope",
                ));
            }
            reach(scope.text(), &spec, &scopes, &mut errors);
        }
        let has = |name: &str| scopes.items().any(|s| s.text() == name);
        for (a, b) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
            if has(a) && has(b) {
                errors.push(FieldError::invalid(
                    &scopes.path,
                    scopes.value().cloned().unwrap_or_default(),
                    "conflicting scopes",
                ));
            }
        }
        let selector = spec.get("scopeSelector");
        let expressions = selector.get("matchExpressions");
        for expression in expressions.items() {
            let (name, operator, values) =
                (expression.get("scopeName"), expression.get("operator"), expression.get("values"));
            if !SCOPES.contains(&name.text()) {
                errors.push(name.invalid("unsupported scope"));
            }
            reach(name.text(), &spec, &expressions, &mut errors);
            if !matches!(name.text(), "PriorityClass" | "VolumeAttributesClass") && operator.text() != "Exists" {
                errors.push(operator.invalid(
                    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                     ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                     ResourceQuotaScopeCrossNamespacePodAffinity",
                ));
            }
            match operator.text() {
                "In" | "NotIn" if values.is_empty() => {
                    let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                    errors.push(values.required(detail));
                }
                "Exists" | "DoesNotExist" if !values.is_empty() => {
                    let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                    errors.push(values.invalid(detail));
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                _ => errors.push(operator.invalid("not a valid selector operator")),
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = self.validate(new);
        let (new, old) = (Field::root(new), Field::root(old));
        let (new, old) = (new.get("spec"), old.get("spec"));
        rules::immutable(&new.get("scopes"), &old.get("scopes"), &mut errors);
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

/// A scope chooses among pods or among claims: what counts other things would never count any.
fn reach(scope: &str, spec: &Field, chosen_by: &Field, errors: &mut Vec<FieldError>) {
    let compute =
        ["pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"].as_slice();
    let reached = match scope {
        "BestEffort" => &compute[..1],
        "VolumeAttributesClass" => &["persistentvolumeclaims", "requests.storage"],
        _ if SCOPES.contains(&scope) => compute,
        _ => return,
    };
    let hard = spec.get("hard");
    let unreached = |(name, _): &(&str, Field)| STANDARD.contains(name) && !reached.contains(name);
    for _ in hard.entries().filter(unreached) {
        let value = chosen_by.value().cloned().unwrap_or_default();
        errors.push(FieldError::invalid(&chosen_by.path, value, "unsupported scope applied to resource"));
    }
}

fn amounts(list: &Field, errors: &mut Vec<FieldError>) {
    for (name, amount) in list.entries() {
        errors.extend(
            names::qualified_name(name).into_iter().map(|wrong| FieldError::invalid(&amount.path, name, wrong)),
        );
        if !name.contains('/') && !is_standard(name) {
            errors.push(FieldError::invalid(&amount.path, name, "must be a standard resource for quota"));
        }
        let native = name.ends_with("cpu") || name.ends_with("memory") || name.ends_with("storage");
        resources::quantity(if native { "cpu" } else { name }, &amount, errors);
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
                spec.scopeSelector.matchExpressions[0].operator: Invalid value: "In": must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
                spec.scopeSelector.matchExpressions: Invalid value: [{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Exists","scopeName":"VolumeAttributesClass"},{"operator":"Exists","scopeName":"PriorityClass"}]: unsupported scope applied to resource
                spec.scopeSelector.matchExpressions: Invalid value: [{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Exists","scopeName":"VolumeAttributesClass"},{"operator":"Exists","scopeName":"PriorityClass"}]: unsupported scope applied to resource
            "#]],
        );
        check_row(
            "resourcequotas",
            "{metadata: {name: a}, status: {hard: {limits.cpu: '2', pods: '3'}, used: {pods: '1'}}}",
            expect!["Name=a | Request=pods: 1/3 | Limit=limits.cpu: 0/2 | Age=<unknown>"],
        );
    }
}
