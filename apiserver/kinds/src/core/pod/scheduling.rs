//! Rules of where a pod may run: affinities, tolerations, spreading, gates.

use std::collections::BTreeSet;

use super::label_keys;
use crate::field::{Field, FieldError};
use crate::object::same;
use crate::{names, rules};

/// Checks a list of tolerations; also those of a RuntimeClass.
pub fn tolerations(tolerations: &Field, errors: &mut Vec<FieldError>) {
    for toleration in tolerations.items() {
        let (key, operator, value) = (toleration.get("key"), toleration.get("operator"), toleration.get("value"));
        let (effect, seconds) = (toleration.get("effect"), toleration.get("tolerationSeconds"));
        rules::maybe_form(&key, names::qualified_name, errors);
        if key.is_empty() && operator.text() != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(operator.invalid(detail));
        }
        if seconds.is_set() && effect.text() != "NoExecute" {
            errors.push(effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        // What is wrong with the value is found at the operator.
        let at_operator = |shown: &str, detail: String| FieldError::invalid(&operator.path, shown, detail);
        match operator.text() {
            "" | "Equal" => {
                let wrong = names::label_value(value.text());
                if !wrong.is_empty() {
                    errors.push(at_operator(value.text(), wrong.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.push(at_operator(value.text(), "value must be empty when `operator` is 'Exists'".to_owned()));
            }
            "Exists" => {}
            // Known by name; the feature is off by default.
            "Gt" | "Lt" => errors.push(operator.not_supported(&["Equal", "Exists", "Gt", "Lt"])),
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        rules::maybe_one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
    }
}

/// Checks which nodes and which pods a pod wants to be near to, or far from.
pub fn affinity(affinity: &Field, errors: &mut Vec<FieldError>) {
    let node = affinity.get("nodeAffinity");
    let required = node.get("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(&required, errors);
    }
    for preferred in node.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred, errors);
        // A preference may be for what no label can be.
        node_selector_term(&preferred.get("preference"), false, errors);
    }
    for name in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(name);
        for term in pods.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            pod_term(&term, errors);
        }
        for preferred in pods.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            weight(&preferred, errors);
            pod_term(&preferred.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Field, errors: &mut Vec<FieldError>) {
    let weight = preferred.get("weight");
    if !(1..=100).contains(&weight.int().unwrap_or_default()) {
        errors.push(FieldError::invalid(&weight.path, weight.int().unwrap_or_default(), "must be in the range 1-100"));
    }
}

/// Checks a `NodeSelector`; also those of volumes.
pub fn node_selector(selector: &Field, errors: &mut Vec<FieldError>) {
    let terms = selector.get("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(terms.required("must have at least one node selector term"));
    }
    for term in terms.items() {
        node_selector_term(&term, true, errors);
    }
}

fn node_selector_term(term: &Field, checks_values: bool, errors: &mut Vec<FieldError>) {
    for expression in term.get("matchExpressions").items() {
        let (key, operator, values) = (expression.get("key"), expression.get("operator"), expression.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Gt" | "Lt" if values.len() != 1 => {
                errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
        rules::form(&key, names::qualified_name, errors);
        if checks_values {
            values.items().for_each(|value| rules::form(&value, names::label_value, errors));
        }
    }
    for expression in term.get("matchFields").items() {
        let (key, operator, values) = (expression.get("key"), expression.get("operator"), expression.get("values"));
        match operator.text() {
            "In" | "NotIn" if values.len() != 1 => {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.push(values.required(detail));
            }
            "In" | "NotIn" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
        if key.text() == "metadata.name" {
            values.items().for_each(|value| rules::form(&value, names::dns_subdomain, errors));
        } else {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn pod_term(term: &Field, errors: &mut Vec<FieldError>) {
    rules::label_selector(&term.get("labelSelector"), errors);
    rules::label_selector(&term.get("namespaceSelector"), errors);
    for namespace in term.get("namespaces").items() {
        let shown = Field::new(namespace.value(), term.path.child("namespace"));
        rules::form(&shown, names::dns_label, errors);
    }
    label_keys::validate(term, errors);
    let topology = term.get("topologyKey");
    if topology.is_empty() {
        errors.push(topology.required("can not be empty"));
    }
    rules::form(&topology, names::qualified_name, errors);
}

/// Checks how a pod's likes are to be spread.
pub fn spread(constraints: &Field, errors: &mut Vec<FieldError>) {
    const POSITIVE: &str = "must be greater than zero";
    const WHEN: [&str; 2] = ["DoNotSchedule", "ScheduleAnyway"];
    const POLICIES: [&str; 2] = ["Honor", "Ignore"];
    for (index, constraint) in constraints.items().enumerate() {
        let (skew, domains) = (constraint.get("maxSkew"), constraint.get("minDomains"));
        let (topology, unsatisfiable) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if skew.int().unwrap_or_default() <= 0 {
            errors.push(FieldError::invalid(&skew.path, skew.int().unwrap_or_default(), POSITIVE));
        }
        if topology.is_empty() {
            errors.push(topology.required("can not be empty"));
        }
        if !WHEN.contains(&unsatisfiable.text()) {
            errors.push(unsatisfiable.not_supported(&WHEN));
        }
        let repeats = |other: &Field| {
            other.get("topologyKey").text() == topology.text()
                && other.get("whenUnsatisfiable").text() == unsatisfiable.text()
        };
        if constraints.items().skip(index + 1).any(|other| repeats(&other)) {
            let pair = format!("{{{}, {}}}", topology.text(), unsatisfiable.text());
            errors.push(FieldError::duplicate(&constraint.path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        if domains.int().is_some_and(|n| n <= 0) {
            errors.push(domains.invalid(POSITIVE));
        }
        if domains.is_set() && unsatisfiable.text() != "DoNotSchedule" {
            let when = unsatisfiable.text();
            let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
            errors.push(domains.invalid(detail));
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let policy = constraint.get(name);
            if policy.is_set() && !POLICIES.contains(&policy.text()) {
                errors.push(policy.not_supported(&POLICIES));
            }
        }
        label_keys::validate(&constraint, errors);
        rules::label_selector(&constraint.get("labelSelector"), errors);
    }
}

/// Checks what holds a pod back from being placed.
pub fn gates(gates: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for gate in gates.items() {
        let name = gate.get("name").text();
        let wrong = names::qualified_name(name).into_iter();
        errors.extend(wrong.map(|wrong| FieldError::invalid(&gate.path, name, wrong)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&gate.path, name));
        }
    }
}

/// A pod that waits for its gates may only narrow down where it can run.
pub fn narrowed(new: &Field, old: &Field, errors: &mut Vec<FieldError>) {
    let (selector, before) = (new.get("nodeSelector"), old.get("nodeSelector"));
    if before.entries().any(|(key, label)| !same(selector.key(key).value(), label.value())) {
        let shown = selector.value().cloned().unwrap_or_default();
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(&selector.path, shown, detail));
    }
    let (affinity, before) = (new.get("affinity"), old.get("affinity"));
    let (nodes, before) = (affinity.get("nodeAffinity"), before.get("nodeAffinity"));
    let (required, before) = (nodes.get(REQUIRED), before.get(REQUIRED));
    let (terms, before) = (required.get("nodeSelectorTerms"), before.get("nodeSelectorTerms"));
    if !before.is_empty() && terms.len() != before.len() {
        let shown = terms.value().cloned().unwrap_or_default();
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&terms.path, shown, detail));
        return;
    }
    for (term, before) in terms.items().zip(before.items()) {
        if !only_adds(&term, &before) {
            errors.push(term.invalid("only additions are allowed (no mutations or deletions)"));
        }
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Whether a term has what it had before, in this order; one that selected nothing has to stay so.
fn only_adds(term: &Field, before: &Field) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    if LISTS.iter().all(|list| before.get(list).is_empty()) {
        return LISTS.iter().all(|list| term.get(list).is_empty());
    }
    LISTS.iter().all(|list| {
        let (now, before) = (term.get(list), before.get(list));
        now.len() >= before.len() && now.items().zip(before.items()).all(|(a, b)| same(a.value(), b.value()))
    })
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::{check_changes, check_specs};

    #[test]
    fn where_pods_may_run() {
        check_specs(&[
            (
                "tolerations: [{key: a, value: 'x y'}, {key: a, operator: Gt, value: '1'}]",
                "spec.tolerations[0].operator: Invalid value: \"x y\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')\nspec.tolerations[1].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\", \"Gt\", \"Lt\"",
            ),
            (
                "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [A]}]}]}, preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: a, operator: In, values: ['x y']}]}}]}}",
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].values[0]: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (
                "topologySpreadConstraints: [{topologyKey: 'a b', whenUnsatisfiable: ScheduleAnyway, labelSelector: {}}, {maxSkew: 1, topologyKey: 'a b', whenUnsatisfiable: ScheduleAnyway, minDomains: 0, nodeTaintsPolicy: '', labelSelector: {}}]",
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero\nspec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{a b, ScheduleAnyway}\"\nspec.topologySpreadConstraints[1].minDomains: Invalid value: 0: must be greater than zero\nspec.topologySpreadConstraints[1].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway\nspec.topologySpreadConstraints[1].nodeTaintsPolicy: Unsupported value: \"\": supported values: \"Honor\", \"Ignore\"",
            ),
            (
                "schedulingGates: [{name: a/b/c}, {name: d}, {name: d}]",
                "spec.schedulingGates[0]: Invalid value: \"a/b/c\": a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')\nspec.schedulingGates[2]: Duplicate value: \"d\"",
            ),
        ]);
    }

    #[test]
    fn a_gated_pod_only_narrows_where_it_may_run() {
        let pod = |rest: &str| format!("schedulingGates: [{{name: g}}], {rest}");
        let terms = |terms: &str| {
            pod(&format!(
                "affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: {{nodeSelectorTerms: [{terms}]}}}}}}"
            ))
        };
        let expression = |key: &str| format!("{{key: {key}, operator: Exists}}");
        let (a, b) = (expression("a"), expression("b"));
        let path = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
        let one = format!("{{matchExpressions: [{a}]}}");
        let (shown, other) = (
            "{\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"Exists\"}]}",
            "only additions are allowed (no mutations or deletions)",
        );
        for (old, new, expected) in [
            (pod("nodeSelector: {a: b}"), pod("nodeSelector: {a: b, c: d}"), String::new()),
            (
                pod("nodeSelector: {a: b}"),
                pod("nodeSelector: {a: c}"),
                "spec.nodeSelector: Invalid value: {\"a\":\"c\"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)".into(),
            ),
            (pod(""), terms(&one), String::new()),
            (terms(&one), terms(&format!("{{matchExpressions: [{a}, {b}]}}")), String::new()),
            (terms(&one), terms(&format!("{{matchExpressions: [{a}], matchFields: [{{key: metadata.name, operator: In, values: [node]}}]}}")), String::new()),
            (
                terms(&one),
                terms(&format!("{one}, {one}")),
                format!("{path}: Invalid value: [{shown},{shown}]: no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
            ),
            (
                terms(&format!("{{matchExpressions: [{b}]}}")),
                terms(&one),
                format!("{path}[0]: Invalid value: {shown}: {other}"),
            ),
            (
                terms(&one),
                pod(""),
                format!("{path}: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed"),
            ),
            ("schedulingGates: [{name: g}]".into(), "schedulingGates: []".into(), String::new()),
            (
                "schedulingGates: [{name: g}]".into(),
                "schedulingGates: [{name: g}, {name: h}]".into(),
                "spec.schedulingGates[1].name: Forbidden: only deletion is allowed, but found new scheduling gate 'h'".into(),
            ),
        ] {
            check_changes(&[(&old, &new, &expected)]);
        }
    }
}
