//! What controllers ask of a node.

use k8s_openapi::api::core::v1::{Node, NodeCondition};

/// The label of nodes that run wasm pods, as `true`.
const WASM: &str = "k8w.dev/runtime-wasmtime";

pub fn condition<'a>(node: &'a Node, type_: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|c| c.status == "True")
}

pub fn runs_wasm(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(WASM)).is_some_and(|value| value == "true")
}
