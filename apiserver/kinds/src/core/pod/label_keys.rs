//! `matchLabelKeys` and `mismatchLabelKeys`: labels of the pod itself that other pods are compared by (KEP-3243, KEP-3633).

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::field::{Field, FieldError};
use crate::object::{self, get, text};
use crate::{names, rules};

const IN_BOTH: &str = "exists in both matchLabelKeys and";

/// Makes the pod's own labels part of its selectors: who reads the pod later sees whom it meant.
pub fn merge(pod: &mut Value) {
    let labels = object::map(pod, &["metadata", "labels"]).cloned().unwrap_or_default();
    let Some(spec) = pod.get_mut("spec") else { return };
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = object::get_mut(spec, &["affinity", affinity]) else { continue };
        for preferred in object::list_mut(affinity, &["preferredDuringSchedulingIgnoredDuringExecution"]) {
            if let Some(term) = object::get_mut(preferred, &["podAffinityTerm"]) {
                merge_term(term, &labels);
            }
        }
        for term in object::list_mut(affinity, &["requiredDuringSchedulingIgnoredDuringExecution"]) {
            merge_term(term, &labels);
        }
    }
    for constraint in object::list_mut(spec, &["topologySpreadConstraints"]) {
        merge_keys(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn merge_term(term: &mut Value, labels: &Map<String, Value>) {
    merge_keys(term, "matchLabelKeys", "In", labels);
    merge_keys(term, "mismatchLabelKeys", "NotIn", labels);
}

/// Without a selector there is nobody to compare with.
fn merge_keys(term: &mut Value, keys: &str, operator: &str, labels: &Map<String, Value>) {
    if get(term, &["labelSelector"]).is_none() {
        return;
    }
    let keys: Vec<String> = object::list(term, &[keys]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    for key in keys {
        let Some(value) = labels.get(&key) else { continue };
        let requirement = json!({"key": key, "operator": operator, "values": [value]});
        let selector = object::ensure(term, &["labelSelector"]);
        let expressions = selector.map(|s| s.entry("matchExpressions").or_insert_with(|| Value::Array(Vec::new())));
        match expressions {
            Some(Value::Array(expressions)) => expressions.push(requirement),
            Some(expressions @ Value::Null) => *expressions = json!([requirement]),
            _ => {}
        }
    }
}

/// Checks the keys of a term or a constraint. A key of `matchLabelKeys` is in the selector once, by itself.
pub fn validate(term: &Field, errors: &mut Vec<FieldError>) {
    let (matching, differing, selector) =
        (term.get("matchLabelKeys"), term.get("mismatchLabelKeys"), term.get("labelSelector"));
    for keys in [&matching, &differing].into_iter().filter(|keys| !keys.is_empty()) {
        if !selector.is_set() {
            errors.push(keys.forbidden("must not be specified when labelSelector is not set"));
        } else {
            keys.items().for_each(|key| rules::form(&key, names::qualified_name, errors));
        }
    }
    let mut selected: BTreeSet<&str> = selector.get("matchLabels").entries().map(|(key, _)| key).collect();
    for expression in selector.get("matchExpressions").items() {
        let key = expression.value().map_or("", |expression| text(expression, &["key"]));
        let index = matching.items().enumerate().filter(|(_, own)| own.text() == key).map(|(index, _)| index).last();
        if let Some(index) = index
            && selected.contains(key)
        {
            // Kubernetes finds it at the term itself.
            let detail = format!("{IN_BOTH} labelSelector");
            errors.push(FieldError::invalid(&term.path.index(index), key, detail));
        }
        selected.insert(key);
    }
    for key in matching.items() {
        if differing.items().any(|other| other.text() == key.text()) {
            errors.push(key.invalid(format!("{IN_BOTH} mismatchLabelKeys")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::pod::tests::check_specs;
    use crate::testing::yaml;

    #[test]
    fn the_pods_labels_become_part_of_its_selectors() {
        let term = "{topologyKey: t, labelSelector: {}, matchLabelKeys: [app, none], mismatchLabelKeys: [tenant]}";
        let mut pod = yaml(&format!(
            "{{metadata: {{labels: {{app: x, tenant: t1}}}}, spec: {{affinity: {{podAntiAffinity: {{\
             requiredDuringSchedulingIgnoredDuringExecution: [{term}], preferredDuringSchedulingIgnoredDuringExecution: \
             [{{weight: 1, podAffinityTerm: {term}}}]}}}}, topologySpreadConstraints: [{term}, \
             {{matchLabelKeys: [app]}}]}}}}"
        ));
        merge(&mut pod);
        let affinity = &pod["spec"]["affinity"]["podAntiAffinity"];
        let expected = json!({"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["x"]},
            {"key": "tenant", "operator": "NotIn", "values": ["t1"]},
        ]});
        assert_eq!(affinity["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"], expected);
        let preferred = &affinity["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"];
        assert_eq!(preferred["labelSelector"], expected);
        let constraints = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(constraints[0]["labelSelector"]["matchExpressions"].as_array().unwrap().len(), 1);
        assert_eq!(constraints[1]["labelSelector"], Value::Null, "matches nobody");
    }

    #[test]
    fn keys_and_selectors() {
        for (term, expected) in [
            ("labelSelector: {}, matchLabelKeys: [app]", ""),
            ("labelSelector: {matchLabels: {app: x}}, mismatchLabelKeys: [app]", ""),
            (
                "matchLabelKeys: [app]",
                ".matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ),
            (
                "labelSelector: {matchLabels: {app: x}}, matchLabelKeys: [app]",
                "[0]: Invalid value: \"app\": exists in both matchLabelKeys and labelSelector",
            ),
            (
                "labelSelector: {}, matchLabelKeys: [app], mismatchLabelKeys: [app]",
                "[0]: Invalid value: \"app\": exists in both matchLabelKeys and labelSelector\nTERM.matchLabelKeys[0]: Invalid value: \"app\": exists in both matchLabelKeys and mismatchLabelKeys",
            ),
            (
                "labelSelector: {}, matchLabelKeys: ['/x']",
                ".matchLabelKeys[0]: Invalid value: \"/x\": prefix part must be non-empty",
            ),
        ] {
            let path = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0]";
            let expected = if expected.is_empty() { String::new() } else { format!("{path}{expected}") };
            let spec = format!(
                "affinity: {{podAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{topologyKey: t, {term}}}]}}}}"
            );
            check_specs(&[(&spec, &expected.replace("TERM", path))]);
        }
        let spread = "maxSkew: 1, topologyKey: t, whenUnsatisfiable: DoNotSchedule";
        check_specs(&[
            (&format!("topologySpreadConstraints: [{{{spread}, labelSelector: {{}}, matchLabelKeys: [app]}}]"), ""),
            (
                &format!(
                    "topologySpreadConstraints: [{{{spread}, labelSelector: {{matchLabels: {{app: x}}}}, matchLabelKeys: [app]}}]"
                ),
                "spec.topologySpreadConstraints[0][0]: Invalid value: \"app\": exists in both matchLabelKeys and labelSelector",
            ),
        ]);
    }
}
