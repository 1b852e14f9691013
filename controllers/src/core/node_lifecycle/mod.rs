//! Notices nodes that fell silent, and keeps each node's taints in step with its conditions (KEP-589, KEP-166).

mod zones;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8w_kinds::core::taints::{NO_EXECUTE, NO_SCHEDULE};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::nodes::{condition, is_ready, is_unschedulable};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Target};
use crate::pods;
use crate::resource::{Key, NODES, PODS};
use crate::time::{self, stamp};
use crate::world::{Delta, Object, World};
use zones::{Evictions, Permit};

const COMPONENT: &str = "node-controller";
const LEASES: &str = "kube-node-lease";
/// How long after it was made a node may take to report for the first time (kube-controller-manager's
/// `--node-startup-grace-period`).
const STARTUP_GRACE: Duration = Duration::from_secs(60);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Condition -> the NoSchedule taint it means when True.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// What a silent node can no longer vouch for.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// A node's last sign of life, and when it reached us: by our clock, for the node's may be wrong.
struct Sign {
    renewed: Option<MicroTime>,
    heartbeat: Option<Timestamp>,
    at: Timestamp,
}

pub struct NodeLifecycle {
    grace: Duration,
    signs: HashMap<Arc<str>, Sign>,
    /// Nodes that were said to be there.
    registered: HashMap<Key, Regarding>,
    evictions: Evictions,
}

impl NodeLifecycle {
    pub fn new(grace: Duration) -> Self {
        Self { grace, signs: HashMap::new(), registered: HashMap::new(), evictions: Evictions::default() }
    }

    /// How long the node may stay silent yet.
    fn silence_left(&mut self, node: &Node, world: &World, now: Timestamp) -> Duration {
        if condition(node, "Ready").is_none()
            && let Some(created) = &node.metadata.creation_timestamp
        {
            return time::until(time::after(created.0, STARTUP_GRACE), now);
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let lease = world.leases.get(LEASES, name).and_then(|lease| lease.spec.as_ref());
        let renewed = lease.and_then(|spec| spec.renew_time.clone());
        let heartbeat = condition(node, "Ready").and_then(|c| c.last_heartbeat_time.as_ref()).map(|t| t.0);
        let sign = self.signs.entry(name.into()).or_insert(Sign { renewed: renewed.clone(), heartbeat, at: now });
        if sign.renewed != renewed || sign.heartbeat != heartbeat {
            *sign = Sign { renewed, heartbeat, at: now };
        }
        time::until(time::after(sign.at, self.grace), now)
    }

    /// Brings the taints that this controller manages in step with the node's conditions.
    fn retaint(&mut self, plan: &mut Plan, node: &Arc<Node>, world: &World, now: Timestamp) {
        // A node that has not reported yet keeps the taint it was admitted with.
        let Some(ready) = condition(node, "Ready") else { return };
        let current = node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
        let mut wanted: Vec<(&str, &str)> = Vec::new();
        let by_readiness = match ready.status.as_str() {
            "True" => None,
            "False" => Some(NOT_READY),
            _ => Some(UNREACHABLE),
        };
        if let Some(key) = by_readiness {
            wanted.push((key, NO_SCHEDULE));
            let evicts = current.iter().any(|taint| taint.effect == NO_EXECUTE && is_managed(taint));
            match self.evictions.permit(node, evicts, world, now) {
                Permit::Granted => wanted.push((key, NO_EXECUTE)),
                Permit::After(wait) => plan.requeue(wait),
                Permit::Denied => {}
            }
        }
        let pressed = |(type_, _): &&(&str, &str)| condition(node, type_).is_some_and(|c| c.status == "True");
        wanted.extend(PRESSURES.iter().filter(pressed).map(|(_, taint)| (*taint, NO_SCHEDULE)));
        if is_unschedulable(node) {
            wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
        }
        let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
        let mut taints: Vec<Taint> = current.iter().filter(|t| !is_managed(t) || is_wanted(t)).cloned().collect();
        for (key, effect) in wanted {
            if !taints.iter().any(|t| t.key == key && t.effect == effect) {
                let time_added = Some(stamp(now));
                taints.push(Taint { key: key.into(), effect: effect.into(), value: None, time_added });
            }
        }
        if taints != current {
            plan.merge_patch(Target::exact(&NODES, &node.metadata), json!({ "spec": { "taints": taints } }));
        }
    }
}

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-lifecycle-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match (&delta.object, &delta.before) {
            (Object::Node(node), before) => {
                if delta.gone {
                    self.signs.remove(node.metadata.name.as_deref().unwrap_or_default());
                }
                wake.now(Key::of(&node.metadata));
                let was_ready = matches!(before, Some(Object::Node(before)) if is_ready(before));
                if was_ready != is_ready(node) {
                    // Whether evicting makes sense depends on the others.
                    wake.others(world, world.nodes.iter().map(|node| Key::of(&node.metadata)));
                }
            }
            (Object::Lease(lease), _) if lease.metadata.namespace.as_deref() == Some(LEASES) => {
                wake.now(Key::new("", lease.metadata.name.as_deref().unwrap_or_default()));
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let mut plan = Plan::none();
        let Some(node) = world.nodes.by_key(key) else {
            if let Some(regarding) = self.registered.remove(key) {
                plan.note(happened(regarding, "RemovingNode", &key.name, "Removing Node", "from"));
            }
            return plan;
        };
        if let Entry::Vacant(new) = self.registered.entry(key.clone()) {
            let regarding = new.insert(Regarding::new(&NODES, &node.metadata)).clone();
            plan.note(happened(regarding, "RegisteredNode", &key.name, "Registered Node", "in"));
        }
        let left = self.silence_left(node, world, turn.now);
        let is_silent = left.is_zero() && silent(&mut plan, node, world, turn.now);
        if !left.is_zero() {
            plan.requeue(left);
        }
        if !is_silent {
            self.retaint(&mut plan, node, world, turn.now);
        }
        plan
    }
}

/// What the controller says of nodes that come and go.
fn happened(regarding: Regarding, reason: &'static str, name: &str, what: &str, towards: &str) -> Note {
    let message = format!("Node {name} event: {what} {name} {towards} Controller");
    Note { component: COMPONENT, regarding, note_type: NoteType::Normal, reason, action: "", message }
}

/// Nobody knows how a silent node is, so its conditions say so, and its pods are no longer ready. Whether that is news.
fn silent(plan: &mut Plan, node: &Arc<Node>, world: &World, now: Timestamp) -> bool {
    let unknown: Vec<_> = VOUCHED
        .iter()
        .filter(|type_| condition(node, type_).is_none_or(|c| c.status != "Unknown"))
        .map(|type_| {
            let old = condition(node, type_);
            let (reason, message) = match old {
                Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
                None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
            };
            plan::to_value(&NodeCondition {
                type_: (*type_).into(),
                status: "Unknown".into(),
                reason: Some(reason.into()),
                message: Some(message.into()),
                last_heartbeat_time: old
                    .and_then(|c| c.last_heartbeat_time.clone())
                    .or_else(|| node.metadata.creation_timestamp.clone()),
                last_transition_time: Some(stamp(now)),
            })
        })
        .collect();
    if unknown.is_empty() {
        return false;
    }
    let name = node.metadata.name.as_deref().unwrap_or_default();
    if is_ready(node) {
        plan.note(note(&NODES, node, NoteType::Normal, format!("Node {name} status is now: NodeNotReady")));
    }
    let pods = world.pods.iter().filter(|pod| pods::node_name(pod) == Some(name) && pods::is_ready(pod));
    for pod in pods {
        plan.note(note(&PODS, pod, NoteType::Warning, "Node is not ready".into()));
        plan.patch_status(Target::new(&PODS, &pod.metadata), not_ready(now));
    }
    plan.patch_status(Target::new(&NODES, &node.metadata), json!({ "status": { "conditions": unknown } }));
    true
}

fn not_ready(now: Timestamp) -> serde_json::Value {
    let condition = json!({ "type": "Ready", "status": "False", "lastTransitionTime": plan::to_value(&stamp(now)) });
    json!({ "status": { "conditions": [condition] } })
}

fn is_managed(taint: &Taint) -> bool {
    let key = taint.key.as_str();
    match taint.effect.as_str() {
        NO_EXECUTE => key == NOT_READY || key == UNREACHABLE,
        NO_SCHEDULE => {
            [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&key) || PRESSURES.iter().any(|(_, taint)| *taint == key)
        }
        _ => false,
    }
}

fn note(
    resource: &crate::resource::Resource,
    object: &Arc<impl crate::world::Meta>,
    note_type: NoteType,
    message: String,
) -> Note {
    let regarding = Regarding::new(resource, object.meta());
    Note { component: COMPONENT, regarding, note_type, reason: "NodeNotReady", action: "", message }
}
