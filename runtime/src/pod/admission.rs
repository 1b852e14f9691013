//! Whether a node takes a pod that was given to it: the kubelet's own rules, in its words.
//!
//! Who bound the pod may have known less than the node: a scheduler that was a moment late, or a user who named the node.

use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use k8w_kinds::core::selection::matches_required;
use k8w_kinds::core::taints::{NO_EXECUTE, tolerated};

use super::room::Room;

/// What `status.message` of a pod that was turned away begins with.
const REJECTED: &str = "Pod was rejected: ";
const OS: &str = "linux";

/// Why a pod is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    /// As an Event says it.
    pub message: String,
}

/// Why a pod is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    ForGood(Rejection),
    /// The Node object says so, of which there may be a newer one.
    ByNode(Rejection),
}

impl Rejection {
    /// As the status says it.
    pub fn shown(&self) -> String {
        format!("{REJECTED}{}", self.message)
    }

    /// What a status says that was written when the pod was turned away.
    pub fn of_status(status: &PodStatus) -> Option<Rejection> {
        let message = status.message.as_deref()?.strip_prefix(REJECTED)?;
        let is_failed = status.phase.as_deref() == Some("Failed");
        let reason = status.reason.clone().filter(|_| is_failed)?;
        Some(Rejection { reason, message: message.to_owned() })
    }
}

/// Decides on a pod that has not been here before.
///
/// # Errors
/// With the first rule that the pod does not meet.
pub fn check(uid: &str, pod: &Pod, room: &Room, node: &Node) -> Result<(), Refused> {
    if let Some((reason, message)) = misfit(pod, node) {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        return Err(Refused::ForGood(Rejection { reason, message }));
    }
    room.fits(uid, pod).map_err(|lacking| {
        let reason = format!("OutOf{}", lacking.resource);
        Refused::ForGood(Rejection { reason, message: lacking.to_string() })
    })?;
    let by_node = |rule: &str, why: &str| {
        Refused::ByNode(Rejection { reason: rule.to_owned(), message: format!("Predicate {rule} failed: {why}") })
    };
    if !matches_required(pod, node) {
        return Err(by_node("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    if !room.has_ports(pod) {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(Refused::ForGood(Rejection { reason: "NodePorts".to_owned(), message: message.to_owned() }));
    }
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_ref());
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    if taints.any(|taint| taint.effect == NO_EXECUTE && !tolerated(tolerations, taint)) {
        return Err(by_node("TaintToleration", "node(s) had untolerated taint(s)"));
    }
    Ok(())
}

/// What a node of this kind can never give.
fn misfit(pod: &Pod, node: &Node) -> Option<(&'static str, &'static str)> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|os| os != OS) {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Some(("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    let spec = pod.spec.as_ref()?;
    if spec.os.as_ref().is_some_and(|os| os.name != OS) {
        return Some(("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    let context = spec.security_context.as_ref();
    let is_strict = context.is_some_and(|context| context.supplemental_groups_policy.as_deref() == Some("Strict"));
    let features = node.status.as_ref().and_then(|status| status.features.as_ref());
    if is_strict && features.and_then(|features| features.supplemental_groups_policy) != Some(true) {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Some(("SupplementalGroupsPolicyNotSupported", message));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
    use serde_json::{Value, json};

    use super::*;

    fn check(metadata: Value, spec: Value) -> String {
        let mut spec = spec;
        spec["containers"] = json!([{ "name": "c", "resources": { "requests": { "cpu": spec["cpu"].take() } } }]);
        let pod = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap();
        let taints = json!([{ "key": "soft", "effect": "NoSchedule" }, { "key": "hard", "effect": "NoExecute" }]);
        let node = json!({ "metadata": { "name": "n", "labels": { "disk": "ssd" } }, "spec": { "taints": taints } });
        let room = Room::new(&BTreeMap::from(
            [("cpu", "1"), ("pods", "1")].map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))),
        ));
        match super::check("u", &pod, &room, &serde_json::from_value(node).unwrap()) {
            Ok(()) => "let in".to_owned(),
            Err(Refused::ForGood(why)) => format!("{}: {}", why.reason, why.message),
            Err(Refused::ByNode(why)) => format!("by node, {}: {}", why.reason, why.message),
        }
    }

    #[test]
    fn rules_are_the_kubelets() {
        let tolerations = json!([{ "key": "hard", "operator": "Exists" }]);
        let affinity = |zone: &str| {
            let here = json!({ "key": "disk", "operator": "In", "values": [zone] });
            let terms = json!({ "nodeSelectorTerms": [{ "matchExpressions": [here] }] });
            json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": terms } })
        };
        let elsewhere = "by node, NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
                         affinity/selector";
        for (labels, spec, expected) in [
            (json!({}), json!({ "cpu": "1" }), "let in"),
            (
                json!({}),
                json!({ "cpu": "1001m", "nodeSelector": { "disk": "none" } }),
                "OutOfcpu: Node didn't have enough resource: cpu, requested: 1001, used: 0, capacity: 1000",
            ),
            (json!({}), json!({ "cpu": "1", "nodeSelector": { "disk": "ssd" } }), "let in"),
            (json!({}), json!({ "cpu": "1", "nodeSelector": { "disk": "hdd" } }), elsewhere),
            (json!({}), json!({ "cpu": "1", "affinity": affinity("ssd") }), "let in"),
            (json!({}), json!({ "cpu": "1", "affinity": affinity("hdd") }), elsewhere),
            (
                json!({}),
                json!({ "cpu": "1", "tolerations": [] }),
                "by node, TaintToleration: Predicate TaintToleration failed: node(s) had untolerated taint(s)",
            ),
            (
                json!({}),
                json!({ "cpu": "1", "os": { "name": "windows" } }),
                "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS",
            ),
            (
                json!({ "kubernetes.io/os": "windows" }),
                json!({ "cpu": "1" }),
                "PodOSSelectorNodeLabelDoesNotMatch: Failed to admit pod as the `kubernetes.io/os` label doesn't match \
                 node label",
            ),
            (
                json!({}),
                json!({ "cpu": "1", "securityContext": { "supplementalGroupsPolicy": "Strict" } }),
                "SupplementalGroupsPolicyNotSupported: SupplementalGroupsPolicy=Strict is not supported in this node",
            ),
        ] {
            let mut asked = spec.clone();
            if asked["tolerations"].is_null() {
                asked["tolerations"] = tolerations.clone();
            }
            assert_eq!(check(json!({ "labels": labels }), asked), expected, "{spec}");
        }
    }

    #[test]
    fn a_status_tells_again_what_it_was_told() {
        let told = Rejection { reason: "OutOfpods".to_owned(), message: "why".to_owned() };
        let status = PodStatus {
            phase: Some("Failed".to_owned()),
            reason: Some(told.reason.clone()),
            message: Some(told.shown()),
            ..PodStatus::default()
        };
        assert_eq!(Rejection::of_status(&status), Some(told));
        let other = PodStatus { message: Some("Pod was active too long".to_owned()), ..status };
        assert_eq!(Rejection::of_status(&other), None);
    }
}
