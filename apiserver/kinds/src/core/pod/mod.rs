//! Pod: containers (or components) that run together on a node.

use crate::kind::{KindDef, SelectableField, Shape, Strategy, Subresource};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Pod", "pods", "io.k8s.api.core.v1.Pod")
        .short_names(&["po"])
        .categories(&["all"])
        .subresources(subresources())
        .selectable(selectable())
        .strategy(Pod)
}

fn subresources() -> Vec<Subresource> {
    const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
    vec![
        Subresource::other("attach", ("", "v1", "PodAttachOptions"), &["create", "get"]),
        Subresource::other("binding", ("", "v1", "Binding"), &["create"]),
        Subresource::of_parent("ephemeralcontainers", &["get", "patch", "update"]),
        Subresource::other("eviction", ("policy", "v1", "Eviction"), &["create"]),
        Subresource::other("exec", ("", "v1", "PodExecOptions"), &["create", "get"]),
        Subresource::of_parent("log", &["get"]),
        Subresource::other("portforward", ("", "v1", "PodPortForwardOptions"), &["create", "get"]),
        Subresource::other("proxy", ("", "v1", "PodProxyOptions"), PROXY),
        Subresource::of_parent("resize", &["get", "patch", "update"]),
        Subresource::status(),
    ]
}

fn selectable() -> Vec<SelectableField> {
    vec![
        SelectableField::at("spec.nodeName"),
        SelectableField::at("spec.restartPolicy"),
        SelectableField::at("spec.schedulerName"),
        SelectableField::at("spec.serviceAccountName"),
        SelectableField::computed("spec.hostNetwork", |pod| {
            pod.pointer("/spec/hostNetwork").and_then(serde_json::Value::as_bool).unwrap_or_default().to_string()
        }),
        SelectableField::at("status.phase"),
        SelectableField::at("status.podIP"),
        SelectableField::at("status.nominatedNodeName"),
    ]
}

struct Pod;

impl Strategy for Pod {
    fn shape(&self) -> Shape {
        Shape::SPEC_AND_STATUS
    }
}
