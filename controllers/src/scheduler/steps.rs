//! What the scheduler writes, and what it says while doing so.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::{Value, json};

use super::pod_info::PodInfo;
use super::preempt;
use super::volumes::{Binding, SELECTED_NODE};
use crate::plan::{self, Note, NoteType, PatchKind, Plan, Regarding, Step, Target};
use crate::pods;
use crate::resource::{Key, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS};
use crate::time::stamp;

/// A parked pod is tried again after this, whatever happens.
const MAX_PARKED: Duration = Duration::from_secs(300);

pub fn bind(pod: &Pod, node: String, component: &'static str) -> Plan {
    let Key { namespace, name } = Key::of(&pod.metadata);
    let assigned = format!("Successfully assigned {namespace}/{name} to {node}");
    let step = Step::Bind {
        pod: Target::new(&PODS, &pod.metadata),
        node,
        then: Some(note(pod, component, NoteType::Normal, "Scheduled", "Binding", assigned)),
        or_else: Some(failed(pod, component, "{error}".into())),
    };
    Plan { steps: vec![step], ..Plan::none() }
}

/// Has volumes bound or made for a pod that goes to the node; the pod follows when they are. As that may take a while, the
/// pod says where it will go (KEP-5278).
pub fn bind_volumes(pod: &Pod, bindings: &[Binding], node: &str) -> Plan {
    let mut plan = Plan::none();
    if nominated(pod) != node {
        plan.patch_status(Target::new(&PODS, &pod.metadata), json!({ "status": { "nominatedNodeName": node } }));
    }
    let steps = bindings.iter().map(|binding| {
        let (target, patch) = match binding {
            Binding::Existing(volume, claim) => {
                let claim_ref = PERSISTENT_VOLUME_CLAIMS.reference(&claim.metadata);
                let annotations = json!({ "pv.kubernetes.io/bound-by-controller": "yes" });
                let patch = json!({
                    "metadata": { "annotations": annotations },
                    "spec": { "claimRef": plan::to_value(&claim_ref) },
                });
                (Target::exact(&PERSISTENT_VOLUMES, &volume.metadata), patch)
            }
            Binding::Provisioned(claim) => {
                let patch = json!({ "metadata": { "annotations": { SELECTED_NODE: node } } });
                (Target::exact(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata), patch)
            }
        };
        Step::Patch { target, subresource: "", kind: PatchKind::Merge, patch, then: None }
    });
    plan.steps.extend(steps);
    plan
}

/// Takes back what the pod was promised; `None` if it was promised nothing.
pub fn withdraw(pod: &Pod) -> Option<Plan> {
    let mut plan = Plan::none();
    plan.patch_status(Target::new(&PODS, &pod.metadata), json!({ "status": { "nominatedNodeName": null } }));
    (!nominated(pod).is_empty()).then_some(plan)
}

fn nominated(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default()
}

/// What the pod's status should say of its nomination.
pub enum Nomination<'a> {
    Kept,
    Cleared,
    Set(&'a str),
}

/// Says why the pod is not placed.
pub fn unschedulable(
    pod: &Pod,
    component: &'static str,
    message: &str,
    nomination: &Nomination<'_>,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::none();
    plan.note(failed(pod, component, message.into()));
    let nominate = match nomination {
        Nomination::Set(node) if *node != nominated(pod) => Some(json!(node)),
        Nomination::Cleared if !nominated(pod).is_empty() => Some(Value::Null),
        _ => None,
    };
    let mut status = json!({});
    if let Some(node) = nominate {
        status["nominatedNodeName"] = node;
    }
    if let Some(condition) = not_scheduled(pod, "Unschedulable", message, now) {
        status["conditions"] = json!([plan::to_value(&condition)]);
    }
    if status != json!({}) {
        plan.patch_status(Target::new(&PODS, &pod.metadata), json!({ "status": status }));
    }
    plan.requeue(MAX_PARKED);
    plan
}

/// Evicts pods for the sake of another: those that were promised the node before lose it, the victims are told why they go.
pub fn evict(
    preemptor: &Pod,
    node: &str,
    victims: &[Arc<PodInfo>],
    outbid: &[Arc<PodInfo>],
    component: &'static str,
    now: Timestamp,
) -> Vec<Step> {
    let uid = preemptor.metadata.uid.as_deref().unwrap_or_default();
    let status_patch = |pod: &Pod, status: Value| Step::Patch {
        target: Target::new(&PODS, &pod.metadata),
        subresource: "status",
        kind: PatchKind::Strategic,
        patch: json!({ "status": status }),
        then: None,
    };
    let withdraw = outbid.iter().map(|other| status_patch(&other.pod, json!({ "nominatedNodeName": null })));
    let mut steps: Vec<Step> = withdraw.collect();
    let staying = victims.iter().map(|victim| &victim.pod).filter(|pod| !pods::is_deleting(&pod.metadata));
    let (mut conditions, mut deletions) = (Vec::new(), Vec::new());
    for victim in staying {
        let message = format!("{component}: preempting to accommodate a higher priority pod");
        let condition = pods::disruption_target(victim, preempt::REASON, message, now);
        conditions.push(status_patch(victim, json!({ "conditions": [plan::to_value(&condition)] })));
        let said = format!("Preempted by pod {uid} on node {node}");
        deletions.push(Step::Delete {
            target: Target::new(&PODS, &victim.metadata),
            propagation: None,
            grace_seconds: None,
            then: Some(note(victim, component, NoteType::Normal, "Preempted", "Preempting", said)),
            or_else: None,
        });
    }
    if !deletions.is_empty() {
        steps.push(Step::Together(conditions));
        steps.push(Step::Together(deletions));
    }
    steps
}

pub fn gated(pod: &Pod, now: Timestamp) -> Plan {
    let message = "Scheduling is blocked due to non-empty scheduling gates";
    let mut plan = Plan::none();
    if let Some(condition) = not_scheduled(pod, "SchedulingGated", message, now) {
        let status = json!({ "conditions": [plan::to_value(&condition)] });
        plan.patch_status(Target::new(&PODS, &pod.metadata), json!({ "status": status }));
    }
    plan
}

/// A pod that goes before it had a node gets none.
pub fn skipped(pod: &Pod, component: &'static str) -> Plan {
    let mut plan = Plan::none();
    plan.note(failed(pod, component, format!("skip schedule deleting pod: {}", Key::of(&pod.metadata))));
    plan
}

/// The condition PodScheduled=False, unless the pod says so already.
fn not_scheduled(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<PodCondition> {
    let old = pods::condition(pod, "PodScheduled");
    if old.is_some_and(|c| {
        c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    }) {
        return None;
    }
    let unchanged_since = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    Some(PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(unchanged_since.unwrap_or_else(|| stamp(now))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    })
}

fn failed(pod: &Pod, component: &'static str, message: String) -> Note {
    note(pod, component, NoteType::Warning, "FailedScheduling", "Scheduling", message)
}

fn note(
    pod: &Pod,
    component: &'static str,
    note_type: NoteType,
    reason: &'static str,
    action: &'static str,
    message: String,
) -> Note {
    let regarding = Regarding::new(&PODS, &pod.metadata);
    Note { component, regarding, note_type, reason, action, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::text;

    #[test]
    fn only_what_is_new_is_written_to_a_pod_that_is_not_placed() {
        let written = |status: &str, nomination: &Nomination| {
            let yaml = format!("metadata: {{namespace: ns, name: p, generation: 2}}\nstatus: {{{status}}}");
            let now = "2024-01-01T00:01:00Z".parse().unwrap();
            let plan = unschedulable(&serde_saphyr::from_str(&yaml).unwrap(), "s", "no room", nomination, now);
            let patch = text(&Plan { notes: Vec::new(), requeue_after: None, ..plan });
            patch.trim().trim_start_matches("patch pods ns/p status: ").to_owned()
        };
        const SAID: &str = "conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no room, \
                            lastTransitionTime: 2024-01-01T00:00:00Z}]";
        let promised = format!("nominatedNodeName: a, {SAID}");
        let (kept, cleared, set) = (Nomination::Kept, Nomination::Cleared, Nomination::Set("a"));
        let told = |since: &str, more: &str| {
            format!(
                r#"{{"status":{{"conditions":[{{"lastTransitionTime":"2024-01-01T00:0{since}:00Z","message":"no room","observedGeneration":2,"reason":"Unschedulable","status":"False","type":"PodScheduled"}}]{more}}}}}"#
            )
        };
        assert_eq!(written("", &kept), told("1", ""));
        assert_eq!(written("conditions: [{type: Ready, status: 'False'}]", &kept), told("1", ""));
        assert_eq!(written(SAID, &kept), "");
        assert_eq!(written(&SAID.replace("no room", "no node"), &kept), told("0", ""), "it is no other state");
        assert_eq!(written(&SAID.replace("Unschedulable", "SchedulingGated"), &kept), told("0", ""));
        assert_eq!(written("", &set), told("1", r#","nominatedNodeName":"a""#));
        assert_eq!(written(SAID, &set), r#"{"status":{"nominatedNodeName":"a"}}"#);
        assert_eq!(written(&promised, &set), "");
        assert_eq!(written(&promised, &kept), "");
        assert_eq!(written(&promised, &cleared), r#"{"status":{"nominatedNodeName":null}}"#);
        assert_eq!(written(SAID, &cleared), "");
    }
}
