//! The Node authorizer: a node may do what the role `system:node` says, but reads secrets, config maps, volume claims and
//! token requests of the pods that run on it, and of no others.
//!
//! "Using Node Authorization" in the Kubernetes documentation.

use std::sync::Arc;

use k8w_kinds::KindDef;
use k8w_kinds::object::{list, text};
use k8w_kinds::registry;
use serde_json::Value;

use super::node_name;
use super::rbac::rule::Rule;
use crate::identity::Attributes;
use crate::plugins::{Authorizer, Decision};
use crate::request_info::RequestInfo;
use crate::watch_cache::KindCache;

pub struct Node {
    pods: Arc<KindCache>,
    kind: Option<&'static KindDef>,
    rules: Vec<Rule>,
}

impl Node {
    /// `rules` are those of the role `system:node`.
    pub fn new(pods: Arc<KindCache>, rules: Vec<Rule>) -> Node {
        Node { pods, kind: registry::by_resource("", "v1", "pods"), rules }
    }

    /// Whether a pod on the node, in the request's namespace, refers to the object that is asked for.
    fn is_needed(&self, node: &str, info: &RequestInfo) -> bool {
        let Some(kind) = self.kind else { return false };
        if info.name.is_empty() || info.namespace.is_empty() {
            return false;
        }
        let (pods, _) = self.pods.list(Some(&info.namespace));
        let here = pods.iter().filter(|pod| pod.field(kind, "spec.nodeName") == Some(node));
        here.map(|pod| pod.value()).any(|pod| refers_to(&pod["spec"], &info.resource, &info.name))
    }
}

impl Authorizer for Node {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let info = attributes.info;
        let Some(node) = node_name(attributes.user).filter(|_| info.is_resource_request) else {
            return Decision::NoOpinion(String::new());
        };
        if !self.rules.iter().any(|rule| rule.allows(attributes.verb, info)) {
            return Decision::NoOpinion(String::new());
        }
        let guarded = info.group.is_empty()
            && matches!(
                info.resource.as_str(),
                "secrets" | "configmaps" | "persistentvolumeclaims" | "serviceaccounts"
            );
        if guarded && !self.is_needed(node, info) {
            let why = format!("no relationship found between node '{node}' and this object");
            return Decision::NoOpinion(why);
        }
        Decision::Allow
    }
}

/// Whether a pod's spec names an object of a kind.
fn refers_to(spec: &Value, plural: &str, name: &str) -> bool {
    let is = |value: &Value, path: &[&str]| text(value, path) == name;
    match plural {
        "serviceaccounts" => is(spec, &["serviceAccountName"]),
        "persistentvolumeclaims" => {
            list(spec, &["volumes"]).iter().any(|volume| is(volume, &["persistentVolumeClaim", "claimName"]))
        }
        _ => {
            let secret = plural == "secrets";
            let (volume_path, source, from, key) = if secret {
                (["secret", "secretName"], ["secret", "name"], ["secretRef", "name"], "secretKeyRef")
            } else {
                (["configMap", "name"], ["configMap", "name"], ["configMapRef", "name"], "configMapKeyRef")
            };
            let in_volume = |volume: &Value| {
                is(volume, &volume_path)
                    || list(volume, &["projected", "sources"]).iter().any(|projected| is(projected, &source))
            };
            let in_container = |container: &Value| {
                list(container, &["envFrom"]).iter().any(|env| is(env, &from))
                    || list(container, &["env"]).iter().any(|env| is(env, &["valueFrom", key, "name"]))
            };
            let containers = ["containers", "initContainers", "ephemeralContainers"];
            list(spec, &["volumes"]).iter().any(in_volume)
                || containers.iter().any(|containers| list(spec, &[containers]).iter().any(in_container))
                || (secret && list(spec, &["imagePullSecrets"]).iter().any(|pull| is(pull, &["name"])))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::testing::World;
    use crate::bootstrap::node_rules;
    use crate::identity::UserInfo;

    async fn decide(node: &str, verb: &'static str, resource: &str, name: &str) -> Decision {
        let world =
            World::new([json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": "n1", "serviceAccountName": "robot",
                "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
                    {"name": "w", "secret": {"secretName": "s"}}],
                "containers": [{"name": "x", "env": [{"valueFrom": {"secretKeyRef": {"name": "t"}}}]}]}})])
            .await;
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let info = RequestInfo {
            verb,
            is_resource_request: true,
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "a".into(),
            name: name.into(),
            ..RequestInfo::default()
        };
        let user = UserInfo {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".into()],
            ..UserInfo::default()
        };
        let authorizer = Node::new(world.cache.kind("", "pods"), node_rules());
        authorizer.authorize(&Attributes { user: &user, verb, info: &info })
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_need() {
        for (node, verb, resource, name, allowed) in [
            ("n1", "get", "secrets", "s", true),
            ("n1", "watch", "secrets", "t", true),
            ("n1", "get", "configmaps", "c", true),
            ("n1", "get", "configmaps", "s", false),
            ("n1", "list", "secrets", "", false),
            ("n2", "get", "secrets", "s", false),
            ("n1", "create", "serviceaccounts/token", "robot", true),
            ("n2", "create", "serviceaccounts/token", "robot", false),
            ("n1", "get", "pods", "p", true),
            ("n1", "delete", "secrets", "s", false),
        ] {
            let decision = decide(node, verb, resource, name).await;
            assert_eq!(decision == Decision::Allow, allowed, "{node} {verb} {resource} {name}: {decision:?}");
        }
    }
}
