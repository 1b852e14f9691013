//! The Node authorizer: a node may do what the role `system:node` says, but with secrets, config maps, claims, volumes and
//! tokens only what the pods that run on it need, and with nodes, pods, leases, slices of devices, CSINodes and attachments
//! only what is its own.
//!
//! "Using Node Authorization" in the Kubernetes documentation.

use std::sync::Arc;

use k8w_kinds::KindDef;
use k8w_kinds::core::pod::references::refers_to;
use k8w_kinds::object::{get, text};
use k8w_kinds::registry;
use serde_json::Value;

use super::rbac::rule::Rule;
use super::{is_nameless_node, node_name};
use crate::identity::Attributes;
use crate::plugins::{Authorizer, Decision};
use crate::request_info::RequestInfo;
use crate::watch_cache::{KindCache, Record, WatchCache};

/// Where nodes say that they live.
const LEASES: &str = "kube-node-lease";
/// What a node does with objects that carry its name.
const OWN_VERBS: &[&str] = &["get", "create", "update", "patch", "delete"];

pub struct Node {
    pods: Arc<KindCache>,
    volumes: Arc<KindCache>,
    attachments: Arc<KindCache>,
    slices: Arc<KindCache>,
    kind: Option<&'static KindDef>,
    rules: Vec<Rule>,
}

impl Node {
    /// `rules` are those of the role `system:node`.
    pub fn new(cache: &WatchCache, rules: Vec<Rule>) -> Node {
        Node {
            pods: cache.kind("", "pods"),
            volumes: cache.kind("", "persistentvolumes"),
            attachments: cache.kind("storage.k8s.io", "volumeattachments"),
            slices: cache.kind("resource.k8s.io", "resourceslices"),
            kind: registry::by_resource("", "v1", "pods"),
            rules,
        }
    }

    /// What speaks against a request that the role allows.
    fn objection(&self, node: &str, verb: &str, info: &RequestInfo) -> Result<(), String> {
        let resource = (info.group.as_str(), info.resource.as_str());
        match (resource, info.subresource.as_str()) {
            (("", "nodes"), "") if matches!(verb, "get" | "list" | "watch") => match info.name.as_str() {
                name if name == node => Ok(()),
                "" => Err(format!("node '{node}' cannot read all nodes, only its own Node object")),
                name => Err(format!("node '{node}' cannot read '{name}', only its own Node object")),
            },
            (("", "pods"), "") => match verb {
                "list" | "watch" if info.field_selector.required_value("spec.nodeName") == Some(node) => Ok(()),
                "list" | "watch" if info.name.is_empty() => {
                    Err("can only list/watch pods with spec.nodeName field selector".to_owned())
                }
                "get" | "list" | "watch" => related(node, info, || self.runs(node, info)),
                _ => Ok(()),
            },
            (("resource.k8s.io", "resourceslices"), "") => match verb {
                "create" => Ok(()),
                "list" | "watch" | "deletecollection" => {
                    let is_own = info.field_selector.required_value("spec.nodeName") == Some(node);
                    let why = "can only list/watch/deletecollection resourceslices with spec.nodeName field selector";
                    is_own.then_some(()).ok_or_else(|| why.to_owned())
                }
                _ => related(node, info, || is_on(node, self.slices.get("", &info.name))),
            },
            (("resource.k8s.io", "resourceslices"), _) => Err("cannot authorize ResourceSlice subresources".to_owned()),
            // Every node has an ingress, and it answers for the hosts of all.
            (("", "secrets"), "") if matches!(verb, "list" | "watch") && is_for_ingress(info) => Ok(()),
            (("", "secrets" | "configmaps"), "") if matches!(verb, "get" | "list" | "watch") => {
                related(node, info, || !info.namespace.is_empty() && self.is_needed(node, info))
            }
            (("", "secrets" | "configmaps"), _) => Err("can only read resources of this type".to_owned()),
            (("", "persistentvolumeclaims"), "status") if matches!(verb, "update" | "patch") => {
                related(node, info, || self.is_needed(node, info))
            }
            (("", "persistentvolumeclaims"), _) | (("resource.k8s.io", "resourceclaims"), _) => {
                only_get(verb, info)?;
                related(node, info, || self.is_needed(node, info))
            }
            (("", "persistentvolumes"), _) => {
                only_get(verb, info)?;
                related(node, info, || self.uses_volume(node, &info.name))
            }
            (("storage.k8s.io", "volumeattachments"), _) => {
                only_get(verb, info)?;
                related(node, info, || is_on(node, self.attachments.get("", &info.name)))
            }
            (("", "serviceaccounts"), subresource)
                if matches!((subresource, verb), ("token", "create") | ("", "get")) =>
            {
                related(node, info, || self.is_needed(node, info))
            }
            (("", "serviceaccounts"), _) => Err("can only get service accounts and create tokens for them".to_owned()),
            (("coordination.k8s.io", "leases"), _) => {
                if info.namespace != LEASES {
                    return Err(format!("can only access leases in the {LEASES:?} system namespace"));
                }
                own(node, verb, info, "a node lease", "node lease")
            }
            (("storage.k8s.io", "csinodes"), "") => own(node, verb, info, "a CSINode", "CSINode"),
            (("storage.k8s.io", "csinodes"), _) => Err("cannot authorize CSINode subresources".to_owned()),
            _ => Ok(()),
        }
    }

    /// Whether the pod that is asked for runs on the node.
    fn runs(&self, node: &str, info: &RequestInfo) -> bool {
        let pod = self.pods.get(&info.namespace, &info.name);
        pod.zip(self.kind).is_some_and(|(pod, kind)| pod.field(kind, "spec.nodeName") == Some(node))
    }

    /// Whether a pod on the node, in the request's namespace, refers to the object that is asked for.
    fn is_needed(&self, node: &str, info: &RequestInfo) -> bool {
        let by_pod = self.any_pod(node, &info.namespace, |pod| refers_to(pod, &info.resource, &info.name));
        by_pod || (info.resource == "secrets" && self.is_secret_of_volume(node, &info.namespace, &info.name))
    }

    fn any_pod(&self, node: &str, namespace: &str, found: impl Fn(&Value) -> bool) -> bool {
        let Some(kind) = self.kind.filter(|_| !namespace.is_empty()) else { return false };
        let (pods, _) = self.pods.list(Some(namespace));
        let here = pods.iter().filter(|pod| pod.field(kind, "spec.nodeName") == Some(node));
        here.map(|pod| pod.value()).any(|pod| found(&pod))
    }

    /// Whether a pod on the node uses the claim that a volume is bound to.
    fn uses_volume(&self, node: &str, name: &str) -> bool {
        self.volumes.get("", name).is_some_and(|volume| self.uses_claim_of(node, &volume.value()))
    }

    fn uses_claim_of(&self, node: &str, volume: &Value) -> bool {
        let claim = |field: &str| text(volume, &["spec", "claimRef", field]);
        self.any_pod(node, claim("namespace"), |pod| refers_to(pod, "persistentvolumeclaims", claim("name")))
    }

    /// Whether a volume that the node uses needs the secret to be mounted.
    fn is_secret_of_volume(&self, node: &str, namespace: &str, name: &str) -> bool {
        let (volumes, _) = self.volumes.list(None);
        volumes.iter().map(|volume| volume.value()).any(|volume| {
            let is =
                |reference: &Value| text(reference, &["name"]) == name && text(reference, &["namespace"]) == namespace;
            let csi = ["nodePublishSecretRef", "nodeStageSecretRef", "nodeExpandSecretRef"];
            csi.iter().any(|field| get(&volume, &["spec", "csi", field]).is_some_and(is))
                && self.uses_claim_of(node, &volume)
        })
    }
}

impl Authorizer for Node {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let info = attributes.info;
        if is_nameless_node(attributes.user) {
            return Decision::NoOpinion(format!("unknown node for user {:?}", attributes.user.name));
        }
        let Some(node) = node_name(attributes.user).filter(|_| info.is_resource_request) else {
            return Decision::NoOpinion(String::new());
        };
        if !self.rules.iter().any(|rule| rule.allows(attributes.verb, info)) {
            return Decision::NoOpinion(String::new());
        }
        match self.objection(node, attributes.verb, info) {
            Ok(()) => Decision::Allow,
            Err(why) => Decision::NoOpinion(why),
        }
    }
}

/// Requests that name no object are of no relation to the node, and are not looked into.
fn related(node: &str, info: &RequestInfo, is_related: impl FnOnce() -> bool) -> Result<(), String> {
    if !info.name.is_empty() && is_related() {
        return Ok(());
    }
    Err(format!("no relationship found between node '{node}' and this object"))
}

/// Whether the object says that it belongs to the node.
fn is_on(node: &str, object: Option<Arc<Record>>) -> bool {
    object.is_some_and(|object| text(&object.value(), &["spec", "nodeName"]) == node)
}

/// Whether only Secrets are asked for that hold certificates for TLS.
fn is_for_ingress(info: &RequestInfo) -> bool {
    info.field_selector.required_value("type") == Some("kubernetes.io/tls")
}

fn only_get(verb: &str, info: &RequestInfo) -> Result<(), String> {
    if verb != "get" {
        return Err("can only get individual resources of this type".to_owned());
    }
    if info.subresource.is_empty() { Ok(()) } else { Err("cannot get subresource".to_owned()) }
}

/// An object that carries the node's name. What it is called is only known later when it is created.
fn own(node: &str, verb: &str, info: &RequestInfo, one: &str, what: &str) -> Result<(), String> {
    if !OWN_VERBS.contains(&verb) {
        return Err(format!("can only get, create, update, patch, or delete {one}"));
    }
    if verb != "create" && info.name != node {
        return Err(format!("can only access {what} with the same name as the requesting node"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use k8w_kinds::selector::FieldSelector;

    use super::*;
    use crate::admission::testing::World;
    use crate::bootstrap::node_rules;
    use crate::identity::UserInfo;

    async fn world() -> World {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": "n1", "serviceAccountName": "robot",
                "resourceClaims": [{"name": "gpu", "resourceClaimName": "gpu"}],
                "volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
                    {"name": "w", "secret": {"secretName": "s"}}, {"name": "e", "ephemeral": {}},
                    {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}}],
                "containers": [{"name": "x", "env": [{"valueFrom": {"secretKeyRef": {"name": "t"}}}]}]}});
        let volume = |name: &str, claim: &str| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {"claimRef": {"namespace": "a", "name": claim},
                    "csi": {"nodeStageSecretRef": {"namespace": "a", "name": format!("of-{name}")}}}})
        };
        let attachment = json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": "va"},
            "spec": {"nodeName": "n1"}});
        let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "sl"},
            "spec": {"nodeName": "n1"}});
        let waiting = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "waiting", "namespace": "a"},
            "spec": {"volumes": [{"name": "w", "secret": {"secretName": "of-waiting"}}]}});
        World::new([pod, waiting, volume("pv", "claim"), volume("other", "none"), attachment, slice]).await
    }

    fn decide(world: &World, node: &str, verb: &'static str, resource: &str, object: &str) -> Decision {
        let (object, selector) = object.split_once('?').unwrap_or((object, ""));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let (namespace, name) = object.split_once('/').unwrap_or(("", object));
        let info = RequestInfo {
            verb,
            is_resource_request: true,
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            field_selector: FieldSelector::parse(selector).unwrap(),
            ..RequestInfo::default()
        };
        let user = UserInfo {
            name: format!("system:node:{node}"),
            groups: vec!["system:nodes".into()],
            ..UserInfo::default()
        };
        Node::new(&world.cache, node_rules()).authorize(&Attributes { user: &user, verb, info: &info })
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_need_and_writes_what_is_its_own() {
        let world = world().await;
        for (node, verb, resource, object, allowed) in [
            ("n1", "get", "secrets", "a/s", true),
            ("n1", "watch", "secrets", "a/t", true),
            ("n1", "get", "secrets", "a/of-pv", true),
            ("n1", "get", "secrets", "a/of-other", false),
            ("n1", "get", "configmaps", "a/c", true),
            ("n1", "get", "configmaps", "a/s", false),
            ("n1", "list", "secrets", "a/", false),
            ("n1", "list", "secrets", "?type=kubernetes.io/tls", true),
            ("n1", "watch", "secrets", "?type!=kubernetes.io/tls", false),
            ("n1", "list", "secrets", "?type=Opaque", false),
            ("n1", "get", "secrets", "a/u?type=kubernetes.io/tls", false),
            ("n2", "get", "secrets", "a/s", false),
            ("n1", "delete", "secrets", "a/s", false),
            ("n1", "create", "serviceaccounts/token", "a/robot", true),
            ("n2", "create", "serviceaccounts/token", "a/robot", false),
            ("n1", "get", "pods", "a/p", true),
            ("n2", "get", "pods", "a/p", false),
            ("n1", "watch", "pods", "a/p", true),
            ("n2", "watch", "pods", "a/p", false),
            ("n1", "list", "pods", "?spec.nodeName=n1", true),
            ("n1", "list", "pods", "?spec.nodeName!=n1", false),
            ("n1", "watch", "pods", "?spec.nodeName=n2", false),
            ("n1", "list", "pods", "", false),
            ("n1", "delete", "pods", "a/p", true),
            ("n1", "patch", "pods/status", "a/p", true),
            ("n1", "get", "nodes", "n1", true),
            ("n1", "get", "nodes", "n2", false),
            ("n1", "list", "nodes", "", false),
            ("n1", "create", "nodes", "", true),
            ("n1", "patch", "nodes/status", "n1", true),
            ("n1", "get", "resourceslices.resource.k8s.io", "sl", true),
            ("n2", "delete", "resourceslices.resource.k8s.io", "sl", false),
            ("n1", "list", "resourceslices.resource.k8s.io", "?spec.nodeName=n1", true),
            ("n1", "list", "resourceslices.resource.k8s.io", "", false),
            ("n1", "create", "resourceslices.resource.k8s.io", "", true),
            ("n1", "get", "persistentvolumeclaims", "a/claim", true),
            ("n1", "get", "persistentvolumeclaims", "a/p-e", true),
            ("n1", "patch", "persistentvolumeclaims/status", "a/claim", true),
            ("n2", "get", "persistentvolumeclaims", "a/claim", false),
            ("n1", "get", "persistentvolumes", "pv", true),
            ("n1", "get", "persistentvolumes", "other", false),
            ("n2", "get", "persistentvolumes", "pv", false),
            ("n1", "get", "volumeattachments.storage.k8s.io", "va", true),
            ("n2", "get", "volumeattachments.storage.k8s.io", "va", false),
            ("n1", "get", "resourceclaims.resource.k8s.io", "a/gpu", true),
            ("n2", "get", "resourceclaims.resource.k8s.io", "a/gpu", false),
            ("n1", "update", "leases.coordination.k8s.io", "kube-node-lease/n1", true),
            ("n1", "update", "leases.coordination.k8s.io", "kube-node-lease/n2", false),
            ("n1", "update", "leases.coordination.k8s.io", "default/n1", false),
            ("n1", "create", "leases.coordination.k8s.io", "kube-node-lease/", true),
            ("n1", "get", "csinodes.storage.k8s.io", "n1", true),
            ("n1", "get", "csinodes.storage.k8s.io", "n2", false),
        ] {
            let decision = decide(&world, node, verb, resource, object);
            assert_eq!(decision == Decision::Allow, allowed, "{node} {verb} {resource} {object}: {decision:?}");
        }
    }

    #[tokio::test]
    async fn a_node_without_a_name_is_none() {
        let world = world().await;
        for (verb, resource, object) in [
            ("get", "secrets", "a/of-waiting"),
            ("get", "pods", "a/waiting"),
            ("delete", "pods", "a/waiting"),
            ("list", "pods", "?spec.nodeName="),
            ("list", "nodes", ""),
            ("create", "nodes", ""),
        ] {
            let decision = decide(&world, "", verb, resource, object);
            assert_eq!(
                decision,
                Decision::NoOpinion("unknown node for user \"system:node:\"".to_owned()),
                "{verb} {resource}"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_says_why() {
        let world = world().await;
        for (verb, resource, object, why) in [
            ("get", "secrets", "a/s", "no relationship found between node 'n2' and this object"),
            ("list", "pods", "a/", "can only list/watch pods with spec.nodeName field selector"),
            ("list", "nodes", "", "node 'n2' cannot read all nodes, only its own Node object"),
            ("get", "nodes", "n1", "node 'n2' cannot read 'n1', only its own Node object"),
        ] {
            let decision = decide(&world, "n2", verb, resource, object);
            assert_eq!(decision, Decision::NoOpinion(why.to_owned()));
        }
    }
}
