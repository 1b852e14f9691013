//! What controllers ask of a node.

use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8w_kinds::core::node::RUNS_WASM;

pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.status == "True")
}

pub fn runs_wasm(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(RUNS_WASM)).is_some_and(|value| value == "true")
}
