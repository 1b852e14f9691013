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

/// Has volumes bound or made for a pod that goes to the node; the pod follows when they are.
pub fn bind_volumes(bindings: &[Binding], node: &str) -> Plan {
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
    Plan { steps: steps.collect(), ..Plan::none() }
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
    let nominated = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()).unwrap_or_default();
    let nominate = match nomination {
        Nomination::Set(node) if *node != nominated => Some(json!(node)),
        Nomination::Cleared if !nominated.is_empty() => Some(Value::Null),
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
