//! NodeRestriction: a node writes about itself and its own pods, and nothing else.

use async_trait::async_trait;
use k8w_kinds::object::{get, list, map, text};
use serde_json::Value;

use super::forbidden;
use crate::authz::node_name;
use crate::plugins::{Admission, AdmissionRequest, Operation};
use crate::status::Status;

const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels that say which nodes may be trusted with what are not the nodes' to set.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io/";

pub struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(node) = node_name(request.user) else { return Ok(()) };
        let refused = match (&*request.resource.group, &*request.resource.plural) {
            ("", "pods") => pod(request, node),
            ("", "nodes") => own_node(request, node),
            ("", "serviceaccounts") => None,
            ("coordination.k8s.io", "leases") => lease(request, node),
            _ => None,
        };
        refused.map_or(Ok(()), |why| Err(forbidden(request, why)))
    }
}

fn pod(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let runs_here = |pod: &Value| text(pod, &["spec", "nodeName"]) == node;
    let old_runs_here = request.old.is_some_and(runs_here);
    match (request.operation, request.subresource) {
        (Operation::Create, "") => mirror_pod(request.object, node),
        (Operation::Delete, "") if old_runs_here => None,
        (Operation::Delete, "") => Some(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
        (Operation::Update, "status") if old_runs_here => same_labels(request),
        (Operation::Update, "status") => {
            Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        (Operation::Create, "eviction") => None,
        (Operation::Update, "") => {
            Some(format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods"))
        }
        _ => None,
    }
}

fn mirror_pod(pod: &Value, node: &str) -> Option<String> {
    if get(pod, &["metadata", "annotations", MIRROR_ANNOTATION]).is_none() {
        return Some(format!(
            "pod does not have {MIRROR_ANNOTATION:?} annotation, node {node:?} can only create mirror pods"
        ));
    }
    if text(pod, &["spec", "nodeName"]) != node {
        return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owners = list(pod, &["metadata", "ownerReferences"]);
    let own = |owner: &Value| text(owner, &["kind"]) == "Node" && text(owner, &["name"]) == node;
    if owners.len() > 1 || !owners.iter().all(own) {
        return Some(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    let spec = &pod["spec"];
    let secret_things = ["configMap", "secret", "persistentVolumeClaim", "projected"];
    let volumes = list(spec, &["volumes"]);
    let references = !text(spec, &["serviceAccountName"]).is_empty()
        || volumes.iter().any(|volume| secret_things.iter().any(|source| volume.get(source).is_some()));
    references.then(|| format!("node {node:?} can not create pods that reference other API objects"))
}

fn same_labels(request: &AdmissionRequest<'_>) -> Option<String> {
    let labels =
        |pod: Option<&Value>| pod.and_then(|pod| map(pod, &["metadata", "labels"])).cloned().unwrap_or_default();
    (labels(Some(request.object)) != labels(request.old)).then(|| "cannot update labels through pod status".to_owned())
}

fn own_node(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let name = if request.name.is_empty() { text(request.object, &["metadata", "name"]) } else { request.name };
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let restricted = |node: Option<&Value>| -> Vec<(String, Value)> {
        let labels = node.and_then(|node| map(node, &["metadata", "labels"])).into_iter().flatten();
        labels.filter(|(key, _)| key.contains(RESTRICTED_LABELS)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    match request.operation {
        Operation::Create | Operation::Update if restricted(Some(request.object)) != restricted(request.old) => {
            Some(format!("is not allowed to modify labels: {RESTRICTED_LABELS}*"))
        }
        Operation::Update if request.subresource.is_empty() => {
            let taints = |node: &Value| list(node, &["spec", "taints"]).to_vec();
            let changed = request.old.is_some_and(|old| taints(old) != taints(request.object));
            changed.then(|| format!("node {node:?} is not allowed to modify taints"))
        }
        _ => None,
    }
}

fn lease(request: &AdmissionRequest<'_>, node: &str) -> Option<String> {
    let name = if request.name.is_empty() { text(request.object, &["metadata", "name"]) } else { request.name };
    if request.namespace != LEASE_NAMESPACE {
        return Some(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    (name != node).then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::World;
    use super::*;
    use crate::identity::UserInfo;

    async fn world() -> World {
        let user =
            UserInfo { name: "system:node:n1".into(), groups: vec!["system:nodes".into()], ..UserInfo::default() };
        World::new([]).await.acting_as(user)
    }

    fn node(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
    }

    fn pod(node: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": node}})
    }

    #[tokio::test]
    async fn a_node_writes_about_itself_alone() {
        let world = world().await;
        assert!(world.create(&NodeRestriction, node("n1")).await.is_ok());
        let other = world.create(&NodeRestriction, node("n2")).await.unwrap_err();
        assert_eq!(other.message, "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"");
        let mut labelled = node("n1");
        labelled["metadata"]["labels"] = json!({"node-restriction.kubernetes.io/trusted": "yes"});
        assert!(world.update(&NodeRestriction, node("n1"), labelled).await.is_err());
        let mut tainted = node("n1");
        tainted["spec"] = json!({"taints": [{"key": "a", "effect": "NoSchedule"}]});
        assert!(world.update(&NodeRestriction, tainted, node("n1")).await.is_err());
    }

    #[tokio::test]
    async fn a_node_touches_its_own_pods_alone() {
        let world = world().await;
        assert!(world.update_status(&NodeRestriction, pod("n1"), pod("n1")).await.is_ok());
        assert!(world.update_status(&NodeRestriction, pod("n2"), pod("n2")).await.is_err());
        assert!(world.delete(&NodeRestriction, pod("n1")).await.is_ok());
        assert!(world.delete(&NodeRestriction, pod("n2")).await.is_err());
        assert!(world.create(&NodeRestriction, pod("n1")).await.is_err());
        let mut mirror = pod("n1");
        mirror["metadata"]["annotations"] = json!({MIRROR_ANNOTATION: "x"});
        assert!(world.create(&NodeRestriction, mirror.clone()).await.is_ok());
        mirror["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "s"}}]);
        assert!(world.create(&NodeRestriction, mirror).await.is_err());
    }

    #[tokio::test]
    async fn a_node_renews_its_own_lease_alone() {
        let world = world().await;
        let lease = |namespace: &str, name: &str| {
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": name, "namespace": namespace}})
        };
        assert!(world.create(&NodeRestriction, lease("kube-node-lease", "n1")).await.is_ok());
        assert!(world.create(&NodeRestriction, lease("kube-node-lease", "n2")).await.is_err());
        assert!(world.create(&NodeRestriction, lease("default", "n1")).await.is_err());
    }

    #[tokio::test]
    async fn others_are_not_restricted() {
        let world = World::new([]).await;
        assert!(world.create(&NodeRestriction, node("n2")).await.is_ok());
    }
}
