//! Node: a machine (or a process) that runs pods.

use crate::kind::{KindDef, SelectableField, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    let proxy =
        Subresource::other("proxy", ("", "v1", "NodeProxyOptions"), &["create", "delete", "get", "patch", "update"]);
    KindDef::builtin("", "v1", "Node", "nodes", "io.k8s.api.core.v1.Node")
        .cluster_scoped()
        .short_names(&["no"])
        .subresources(vec![proxy, Subresource::status()])
        .selectable(vec![SelectableField::computed("spec.unschedulable", |node| {
            node.pointer("/spec/unschedulable").and_then(serde_json::Value::as_bool).unwrap_or_default().to_string()
        })])
        .strategy(Node)
}

struct Node;

impl Strategy for Node {
    fn shape(&self) -> Shape {
        Shape::STATUS
    }
}
