//! Rules of what a pod asks of its node: selectors, affinities, tolerations, spreading, overhead.

use std::collections::BTreeSet;

use super::resources;
use crate::field::{Field, FieldError};
use crate::names;
use crate::rules;

pub fn validate(spec: &Field, errors: &mut Vec<FieldError>) {
    crate::metadata::labels(&spec.get("nodeSelector"), errors);
    affinity(&spec.get("affinity"), errors);
    tolerations(&spec.get("tolerations"), errors);
    spread(&spec.get("topologySpreadConstraints"), errors);
    for (name, amount) in spec.get("overhead").entries() {
        resources::quantity(name, &amount, errors);
    }
    resources::validate_pod_level(spec, errors);
}

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
        match operator.text() {
            "" | "Equal" => rules::form(&value, names::label_value, errors),
            "Exists" if !value.is_empty() => {
                // The value shown is the toleration's, as upstream shows it at the operator.
                errors.push(operator.invalid("value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        rules::maybe_one_of(&effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
    }
}

fn affinity(affinity: &Field, errors: &mut Vec<FieldError>) {
    let node = affinity.get("nodeAffinity");
    let required = node.get("requiredDuringSchedulingIgnoredDuringExecution");
    if required.is_set() {
        node_selector(&required, errors);
    }
    for preferred in node.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        weight(&preferred, errors);
        node_selector_term(&preferred.get("preference"), errors);
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
        node_selector_term(&term, errors);
    }
}

fn node_selector_term(term: &Field, errors: &mut Vec<FieldError>) {
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
        if matches!(operator.text(), "In" | "NotIn") {
            for value in values.items() {
                rules::form(&value, names::label_value, errors);
            }
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
        if key.text() != "metadata.name" {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn pod_term(term: &Field, errors: &mut Vec<FieldError>) {
    rules::label_selector(&term.get("labelSelector"), errors);
    rules::label_selector(&term.get("namespaceSelector"), errors);
    for namespace in term.get("namespaces").items() {
        rules::form(&namespace, names::dns_label, errors);
    }
    let topology = term.get("topologyKey");
    if topology.is_empty() {
        errors.push(topology.required("can not be empty"));
    }
    rules::form(&topology, names::qualified_name, errors);
}

fn spread(constraints: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for constraint in constraints.items() {
        for name in ["maxSkew", "minDomains"] {
            let number = constraint.get(name);
            if number.is_set() && number.int().is_some_and(|n| n <= 0) {
                errors.push(number.invalid(rules::POSITIVE));
            }
        }
        let (topology, unsatisfiable) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        if topology.is_empty() {
            errors.push(topology.required("can not be empty"));
        } else {
            rules::form(&topology, names::qualified_name, errors);
        }
        let supported = ["DoNotSchedule", "ScheduleAnyway"];
        if !supported.contains(&unsatisfiable.text()) {
            errors.push(unsatisfiable.not_supported(&supported));
        }
        if constraint.get("minDomains").is_set() && unsatisfiable.text() != "DoNotSchedule" {
            let detail =
                format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}", unsatisfiable.text());
            errors.push(constraint.get("minDomains").invalid(detail));
        }
        for name in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            rules::maybe_one_of(&constraint.get(name), &["Honor", "Ignore"], errors);
        }
        rules::label_selector(&constraint.get("labelSelector"), errors);
        let pair = format!("{{{}, {}}}", topology.text(), unsatisfiable.text());
        if !seen.insert(pair.clone()) {
            errors.push(FieldError::duplicate(&constraint.path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
    }
}
