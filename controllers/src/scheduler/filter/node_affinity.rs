//! The pod's node selector and its required node affinity.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod};

use super::{Check, Filter, Refusal, is_node_change};
use crate::scheduler::snapshot::{PodInfo, Snapshot};
use crate::selector::{self, Labels};
use crate::world::Delta;

pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Check<'a>> {
        let spec = pod.pod.spec.as_ref()?;
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        if spec.node_selector.as_ref().is_none_or(Labels::is_empty) && required.is_none() {
            return None;
        }
        Some(Box::new(move |node| {
            if matches_required(&pod.pod, &node.node) {
                Ok(())
            } else {
                Err(Refusal::for_good("node(s) didn't match Pod's node affinity/selector"))
            }
        }))
    }

    fn may_be_helped_by(&self, delta: &Delta) -> bool {
        is_node_change(delta)
    }
}

/// Whether the node has what the pod's node selector and required node affinity ask for.
pub fn matches_required(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selected =
        spec.node_selector.as_ref().is_none_or(|pairs| selector::contains(node.metadata.labels.as_ref(), pairs));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| matches_term(term, node)))
}

/// A term's requirements must all hold; an empty term matches nothing.
pub fn matches_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|l| l.get(key));
    let field = |key: &str| if key == "metadata.name" { node.metadata.name.as_ref() } else { None };
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(|r| holds(r, label(&r.key)))
        && fields.iter().all(|r| holds(r, field(&r.key)))
}

fn holds(requirement: &NodeSelectorRequirement, actual: Option<&String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let compare = |wanted: fn(i64, i64) -> bool| {
        let actual = actual.and_then(|v| v.parse().ok());
        let bound = values.first().and_then(|v| v.parse().ok());
        actual.zip(bound).is_some_and(|(actual, bound)| wanted(actual, bound))
    };
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(|v| values.contains(v)),
        "NotIn" => !actual.is_some_and(|v| values.contains(v)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compare(|actual, bound| actual > bound),
        "Lt" => compare(|actual, bound| actual < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_alternatives_and_requirements_are_not() {
        let node: Node = serde_saphyr::from_str("metadata: {name: n1, labels: {zone: a, cores: '8'}}").unwrap();
        let check = |terms: &str| {
            let yaml = format!(
                "spec: {{containers: [], affinity: {{nodeAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: \
                 {{nodeSelectorTerms: [{terms}]}}}}}}}}"
            );
            matches_required(&serde_saphyr::from_str(&yaml).unwrap(), &node)
        };
        let zone = |value: &str| format!("{{key: zone, operator: In, values: [{value}]}}");
        assert!(check(&format!("{{matchExpressions: [{}]}}", zone("a"))));
        assert!(!check(&format!("{{matchExpressions: [{}, {}]}}", zone("a"), zone("b"))));
        assert!(check(&format!("{{matchExpressions: [{}]}}, {{matchExpressions: [{}]}}", zone("b"), zone("a"))));
        assert!(check("{matchExpressions: [{key: cores, operator: Gt, values: ['7']}]}"));
        assert!(!check("{matchExpressions: [{key: cores, operator: Lt, values: ['8']}]}"));
        assert!(check("{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}"));
        assert!(!check("{}"), "an empty term matches nothing");
        assert!(!check(""), "and so does no term");
    }
}
