//! NodeRestriction: a node writes about itself and its own pods, and nothing else.
//!
//! <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>

use async_trait::async_trait;
use k8w_kinds::core::node::WASM_CIDR;
use k8w_kinds::core::pod::{mirror, references};
use k8w_kinds::object::{get, list, map, remove, same, text};
use serde_json::Value;

use super::forbidden;
use crate::authz::{is_nameless_node, node_name};
use crate::plugins::{Admission, AdmissionRequest, Operation};
use crate::status::Status;

const LEASE_NAMESPACE: &str = "kube-node-lease";
/// Labels that say which nodes may be trusted with what are not the nodes' to set.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io";

/// What of Kubernetes' own labels a node sets on itself.
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
const OWN_LABEL_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

pub struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
        if is_nameless_node(request.user) {
            return Err(forbidden(request, format!("could not determine node from user {:?}", request.user.name)));
        }
        let Some(node) = node_name(request.user) else { return Ok(()) };
        let checked = match (&*request.resource.group, &*request.resource.plural) {
            ("", "pods") => pod(request, node),
            ("", "nodes") => own_node(request, node),
            ("", "persistentvolumeclaims") => claim(request, node),
            ("coordination.k8s.io", "leases") => lease(request, node),
            ("storage.k8s.io", "csinodes") if name_of(request) != node => {
                Err("can only access CSINode with the same name as the requesting node".to_owned())
            }
            ("resource.k8s.io", "resourceslices") => slice(request, node),
            _ => Ok(()),
        };
        checked.map_err(|why| forbidden(request, why))
    }
}

/// What a request is refused for.
type Checked = Result<(), String>;

fn name_of<'r>(request: &'r AdmissionRequest<'_>) -> &'r str {
    if request.name.is_empty() { text(request.object, &["metadata", "name"]) } else { request.name }
}

fn pod(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    let runs_here = |pod: &Value| text(pod, &["spec", "nodeName"]) == node;
    let old_runs_here = request.old.is_some_and(runs_here);
    let only_own = |what: &str| Err(format!("node {node:?} can only {what} with spec.nodeName set to itself"));
    match (request.operation, request.subresource) {
        (Operation::Create, "") => mirror_pod(request, node),
        (Operation::Delete, "" | "eviction") if old_runs_here => Ok(()),
        (Operation::Delete, "" | "eviction") => only_own("delete pods"),
        (Operation::Update, "status") if old_runs_here => pod_status(request, node),
        (Operation::Update, "status") => only_own("update pod status for pods"),
        (Operation::Create, "eviction") => {
            let pod = request.view.get("", "pods", request.namespace, request.name).map(|record| record.value());
            // A pod that is not there is somebody else's to complain about.
            if pod.is_none_or(|pod| runs_here(&pod)) {
                return Ok(());
            }
            Err(format!("node {node} can only evict pods with spec.nodeName set to itself"))
        }
        (operation, "") => {
            let operation = format!("{operation:?}").to_uppercase();
            Err(format!("unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"))
        }
        (_, other) => Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
    }
}

fn mirror_pod(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    let pod = &*request.object;
    if mirror::mirrored(pod).is_none() {
        return Err(format!(
            "pod does not have {:?} annotation, node {node:?} can only create mirror pods",
            mirror::ANNOTATION
        ));
    }
    if text(pod, &["spec", "nodeName"]) != node {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match list(pod, &["metadata", "ownerReferences"]) {
        [owner] => owner,
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let field = |name: &str| text(owner, &[name]);
    if (field("apiVersion"), field("kind"), field("name")) != ("v1", "Node", node) {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if owner["controller"] != true {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if owner["blockOwnerDeletion"] == true {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let own = request.view.get("", "nodes", "", node).map(|record| record.value()).unwrap_or_default();
    let (uid, found) = (field("uid"), text(&own, &["metadata", "uid"]));
    if uid != found {
        return Err(format!("node {node} UID mismatch: expected {uid} got {found}"));
    }
    match references::of_the_api(pod).next() {
        Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
        None => Ok(()),
    }
}

fn pod_status(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    let unchanged = |path: &[&str]| same(get(request.object, path), request.old.and_then(|old| get(old, path)));
    if !unchanged(&["metadata", "labels"]) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    if !unchanged(&["status", "resourceClaimStatuses"]) {
        return Err(format!("node {node:?} cannot update resource claim statues"));
    }
    Ok(())
}

fn own_node(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    let name = name_of(request);
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    if !matches!(request.operation, Operation::Create | Operation::Update) {
        return Ok(());
    }
    // The controllers give it its addresses: who chose them could have others' connections.
    let range = |node: Option<&Value>| get(node?, &["metadata", "annotations", WASM_CIDR]).cloned();
    if range(Some(request.object)) != range(request.old) {
        return Err(format!("node {node:?} is not allowed to set the annotation {WASM_CIDR}"));
    }
    let labels =
        |node: Option<&Value>| node.and_then(|node| map(node, &["metadata", "labels"])).cloned().unwrap_or_default();
    let (new, old) = (labels(Some(request.object)), labels(request.old));
    let changed = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key));
    let mut bad: Vec<&str> = changed.map(String::as_str).filter(|label| !may_set(label)).collect();
    bad.sort_unstable();
    bad.dedup();
    let Some(before) = request.old else {
        return match bad.as_slice() {
            [] => Ok(()),
            bad => Err(format!("node {node:?} is not allowed to set the following labels: {}", bad.join(", "))),
        };
    };
    if !bad.is_empty() {
        return Err(format!("node {node:?} is not allowed to modify labels: {}", bad.join(", ")));
    }
    for (path, what) in [(&["spec", "taints"], "taints"), (&["metadata", "ownerReferences"], "ownerReferences")] {
        if !same(get(request.object, path), get(before, path)) {
            return Err(format!("node {node:?} is not allowed to modify {what}"));
        }
    }
    Ok(())
}

/// Whether a node may set the label on itself: its own ones of Kubernetes' labels, and any that are not Kubernetes'.
fn may_set(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let within = |other: &str| domain == other || domain.strip_suffix(other).is_some_and(|rest| rest.ends_with('.'));
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    let own = OWN_LABELS.contains(&label) || OWN_LABEL_DOMAINS.iter().any(|domain| within(domain));
    !within(RESTRICTED_LABELS) && (!kubernetes || own)
}

/// A node says how far the growth of a volume has come.
fn claim(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    let Some(old) = request.old.filter(|_| request.operation == Operation::Update && request.subresource == "status")
    else {
        return Err("may only update PVC status".to_owned());
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        for field in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            remove(&mut claim["status"], field);
        }
        for field in ["resourceVersion", "managedFields"] {
            remove(&mut claim["metadata"], field);
        }
        claim
    };
    if same(Some(&rest(request.object)), Some(&rest(old))) {
        return Ok(());
    }
    Err(format!("node {node:?} is not allowed to update fields other than status.capacity and status.conditions"))
}

fn lease(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    if request.namespace != LEASE_NAMESPACE {
        return Err(format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"));
    }
    if name_of(request) != node {
        return Err("can only access node lease with the same name as the requesting node".to_owned());
    }
    Ok(())
}

fn slice(request: &AdmissionRequest<'_>, node: &str) -> Checked {
    let subject = match request.operation {
        Operation::Create => &*request.object,
        _ => request.old.unwrap_or(&*request.object),
    };
    if text(subject, &["spec", "nodeName"]) == node {
        return Ok(());
    }
    let verb = if request.operation == Operation::Create { "create" } else { "delete" };
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
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
        let mut own = node("n1");
        own["metadata"]["uid"] = "u1".into();
        World::new([own]).await.acting_as(user)
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
        let mut tainted = node("n1");
        tainted["spec"] = json!({"taints": [{"key": "a", "effect": "NoSchedule"}]});
        assert!(world.update(&NodeRestriction, tainted, node("n1")).await.is_err());
    }

    #[tokio::test]
    async fn the_addresses_of_its_pods_are_not_a_nodes_to_choose() {
        let world = world().await;
        let with = |range: Value| {
            let mut node = node("n1");
            node["metadata"]["annotations"] = json!({"k8w.dev/wasm-cidr": range, "other": "x"});
            node
        };
        let given = with("10.64.0.0/18".into());
        let refused = world.create(&NodeRestriction, given.clone()).await.unwrap_err();
        let why = "nodes \"n1\" is forbidden: node \"n1\" is not allowed to set the annotation k8w.dev/wasm-cidr";
        assert_eq!(refused.message, why);
        for other in [with("203.0.113.0/24".into()), node("n1")] {
            assert_eq!(world.update(&NodeRestriction, given.clone(), other.clone()).await.unwrap_err().message, why);
            assert!(world.update_status(&NodeRestriction, given.clone(), other).await.is_err());
        }
        assert!(world.update(&NodeRestriction, given.clone(), given).await.is_ok());
    }

    #[tokio::test]
    async fn labels_that_steer_pods_are_not_a_nodes_to_set() {
        let world = world().await;
        for (label, allowed) in [
            ("node-restriction.kubernetes.io/trusted", false),
            ("a.node-restriction.kubernetes.io/trusted", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/hostname", true),
            ("x.node.kubernetes.io/y", true),
            ("k8w.dev/runtime-wasmtime", true),
            ("plain", true),
        ] {
            let mut labelled = node("n1");
            labelled["metadata"]["labels"] = json!({label: "x"});
            assert_eq!(world.create(&NodeRestriction, labelled.clone()).await.is_ok(), allowed, "{label}");
            assert_eq!(world.update(&NodeRestriction, labelled.clone(), node("n1")).await.is_ok(), allowed, "{label}");
            assert!(world.update(&NodeRestriction, labelled.clone(), labelled).await.is_ok(), "{label}");
        }
    }

    #[tokio::test]
    async fn a_node_touches_its_own_pods_alone() {
        let world = world().await;
        assert!(world.update_status(&NodeRestriction, pod("n1"), pod("n1")).await.is_ok());
        assert!(world.update_status(&NodeRestriction, pod("n2"), pod("n2")).await.is_err());
        assert!(world.update(&NodeRestriction, pod("n1"), pod("n1")).await.is_err());
        assert!(world.delete(&NodeRestriction, pod("n1")).await.is_ok());
        assert!(world.delete(&NodeRestriction, pod("n2")).await.is_err());
        let mut labelled = pod("n1");
        labelled["metadata"]["labels"] = json!({"a": "b"});
        let refused = world.update_status(&NodeRestriction, pod("n1"), labelled).await.unwrap_err();
        assert_eq!(refused.message, "pods \"p\" is forbidden: node \"n1\" cannot update labels through pod status");
    }

    #[tokio::test]
    async fn a_node_makes_mirror_pods_that_need_nothing() {
        let world = world().await;
        assert!(world.create(&NodeRestriction, pod("n1")).await.is_err());
        let mut mirror = pod("n1");
        mirror["metadata"]["annotations"] = json!({mirror::ANNOTATION: "x"});
        let why = async |pod: &Value| match world.create(&NodeRestriction, pod.clone()).await {
            Ok(_) => String::new(),
            Err(status) => status.message.split_once("forbidden: ").unwrap().1.to_owned(),
        };
        assert_eq!(why(&mirror).await, "node \"n1\" can only create pods with an owner reference set to itself");
        mirror["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1", "controller": true}]);
        assert_eq!(why(&mirror).await, "");
        mirror["spec"]["volumes"] = json!([{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]);
        assert_eq!(why(&mirror).await, "node \"n1\" can not create pods that reference secrets");
        mirror["metadata"]["ownerReferences"][0]["uid"] = "u2".into();
        assert_eq!(why(&mirror).await, "node n1 UID mismatch: expected u2 got u1");
    }

    #[tokio::test]
    async fn a_node_says_only_how_claims_grow() {
        let world = world().await;
        let claim = |status: Value| {
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "a"},
                "spec": {}, "status": status})
        };
        let old = claim(json!({"phase": "Bound"}));
        let update =
            async |status: Value| world.update_status(&NodeRestriction, old.clone(), claim(status)).await.is_ok();
        assert!(update(json!({"phase": "Bound", "capacity": {"storage": "2Gi"}})).await);
        assert!(!update(json!({"phase": "Lost"})).await);
        assert!(world.update(&NodeRestriction, old.clone(), old.clone()).await.is_err());
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
    async fn a_node_without_a_name_writes_nothing() {
        let nameless =
            UserInfo { name: "system:node:".into(), groups: vec!["system:nodes".into()], ..UserInfo::default() };
        let world = World::new([]).await.acting_as(nameless);
        let refused = world.create(&NodeRestriction, node("n1")).await.unwrap_err();
        assert_eq!(refused.message, "nodes \"n1\" is forbidden: could not determine node from user \"system:node:\"");
        assert!(world.delete(&NodeRestriction, pod("")).await.is_err());
    }

    #[tokio::test]
    async fn others_are_not_restricted() {
        let world = World::new([]).await;
        assert!(world.create(&NodeRestriction, node("n2")).await.is_ok());
    }
}
