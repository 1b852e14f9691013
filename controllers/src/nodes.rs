//! What controllers ask of a node.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8w_kinds::core::node::RUNS_WASM;
use k8w_kinds::core::selection::{Labels, NO_LABELS};

pub fn name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

pub fn labels(node: &Node) -> &Labels {
    node.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
}

/// Whether it is cordoned.
pub fn is_unschedulable(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.status == "True")
}

pub fn runs_wasm(node: &Node) -> bool {
    labels(node).get(RUNS_WASM).is_some_and(|value| value == "true")
}
