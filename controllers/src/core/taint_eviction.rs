//! Evicts pods from nodes whose NoExecute taints they don't tolerate, or no longer (API concepts: Taints and Tolerations).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, Taint};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Target};
use crate::pods;
use crate::resource::{Key, PODS};
use crate::taints::{NO_EXECUTE, tolerates};
use crate::time::{self, stamp};
use crate::world::{Delta, Object, World};

/// Remembers since when a pod has been on a tainted node, for taints that don't say when they were added.
#[derive(Default)]
pub struct TaintEviction {
    since: HashMap<Key, Timestamp>,
}

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match (&delta.object, &delta.before) {
            (Object::Pod(pod), _) if delta.gone => _ = self.since.remove(&Key::of(&pod.metadata)),
            (Object::Pod(pod), _) => {
                let node = pods::node_name(pod).and_then(|name| world.nodes.get("", name));
                if node.is_some_and(|node| node.spec.as_ref().is_some_and(|s| s.taints.is_some())) {
                    wake.now(Key::of(&pod.metadata));
                }
            }
            (Object::Node(node), before) => {
                let taints =
                    |node: &k8s_openapi::api::core::v1::Node| node.spec.as_ref().and_then(|s| s.taints.clone());
                let unchanged = matches!(before, Some(Object::Node(b)) if taints(b) == taints(node));
                if !unchanged {
                    let name = node.metadata.name.as_deref();
                    for pod in world.pods.iter().filter(|pod| pods::node_name(pod) == name) {
                        wake.now(Key::of(&pod.metadata));
                    }
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        let Some(pod) = world.pods.by_key(key).filter(|pod| !pods::is_deleting(&pod.metadata)) else {
            return Plan::none();
        };
        let node = pods::node_name(pod).and_then(|name| world.nodes.get("", name));
        let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
        let taints: Vec<&Taint> = taints.into_iter().flatten().filter(|t| t.effect == NO_EXECUTE).collect();
        if taints.is_empty() {
            self.since.remove(key);
            return Plan::none();
        }
        let since = *self.since.entry(key.clone()).or_insert(turn.now);
        match stays_for(pod, &taints, since, turn.now) {
            Stay::Ever => Plan::none(),
            Stay::For(wait) if !wait.is_zero() => Plan { requeue_after: Some(wait), ..Plan::none() },
            Stay::For(_) => evict(pod, turn.now),
        }
    }
}

enum Stay {
    Ever,
    For(Duration),
}

/// How long the pod tolerates the taints: the shortest of its tolerations' times.
fn stays_for(pod: &Pod, taints: &[&Taint], since: Timestamp, now: Timestamp) -> Stay {
    let tolerations = || pod.spec.as_ref().and_then(|s| s.tolerations.as_ref()).into_iter().flatten();
    let mut shortest: Option<Duration> = None;
    for taint in taints {
        let mut matching = tolerations().filter(|t| tolerates(t, taint)).peekable();
        if matching.peek().is_none() {
            return Stay::For(Duration::ZERO);
        }
        let added = taint.time_added.as_ref().map_or(since, |t| t.0);
        for seconds in matching.filter_map(|t| t.toleration_seconds) {
            let wait = time::until(time::after(added, time::seconds(seconds)), now);
            shortest = Some(shortest.map_or(wait, |s| s.min(wait)));
        }
    }
    shortest.map_or(Stay::Ever, Stay::For)
}

fn evict(pod: &Arc<Pod>, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let condition = PodCondition {
        type_: "DisruptionTarget".into(),
        status: "True".into(),
        reason: Some("DeletionByTaintManager".into()),
        message: Some("Taint manager: deleting due to NoExecute taint".into()),
        last_transition_time: Some(stamp(now)),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    };
    let key = Key::of(&pod.metadata);
    plan.note(Note {
        component: "taint-eviction-controller",
        regarding: Regarding::new(&PODS, &pod.metadata),
        note_type: NoteType::Normal,
        reason: "TaintManagerEviction",
        action: "",
        message: format!("Marking for deletion Pod {key}"),
    });
    let target = Target::new(&PODS, &pod.metadata);
    plan.patch_status(target.clone(), json!({ "status": { "conditions": [plan::to_value(&condition)] } }));
    plan.delete(target);
    plan
}
