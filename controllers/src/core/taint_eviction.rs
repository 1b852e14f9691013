//! Evicts pods from nodes whose NoExecute taints they don't tolerate, or no longer (API concepts: Taints and Tolerations).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Taint};
use k8w_kinds::core::taints::{NO_EXECUTE, tolerates};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Target};
use crate::pods;
use crate::resource::{Key, PODS};
use crate::time;
use crate::world::{Delta, Object, World};

/// Remembers when pods are to leave that stay for a while. Tolerations and taints that change meanwhile do not change that
/// time, unless the pod may now stay for ever or not at all.
#[derive(Default)]
pub struct TaintEviction {
    leaving: HashMap<Key, Timestamp>,
}

impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        "taint-eviction-controller"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match (&delta.object, &delta.before) {
            (Object::Pod(pod), _) if delta.gone => _ = self.leaving.remove(&Key::of(&pod.metadata)),
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
        match stays_for(pod, &taints, turn.now) {
            Stay::Ever => {
                let mut plan = Plan::none();
                if self.leaving.remove(key).is_some() {
                    plan.note(note(pod, format!("Cancelling deletion of Pod {key}")));
                }
                plan
            }
            Stay::Not => evict(pod, turn.now),
            Stay::For(wait) => {
                let at = *self.leaving.entry(key.clone()).or_insert_with(|| time::after(turn.now, wait));
                let left = time::until(at, turn.now);
                match left.is_zero() {
                    true => evict(pod, turn.now),
                    false => Plan { requeue_after: Some(left), ..Plan::none() },
                }
            }
        }
    }
}

enum Stay {
    Not,
    For(Duration),
    Ever,
}

/// How long the pod tolerates the taints: the shortest time of the tolerations that stand against them, the first for each.
/// It is counted from when the pod and the taint came together, which is now where neither says when it came.
fn stays_for(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Stay {
    let tolerations = || pod.spec.as_ref().and_then(|s| s.tolerations.as_ref()).into_iter().flatten();
    let placed = pods::condition(pod, "PodScheduled").filter(|c| c.status == "True");
    let placed = placed.and_then(|c| c.last_transition_time.as_ref()).map(|t| t.0);
    let mut shortest: Option<Duration> = None;
    for taint in taints {
        let Some(toleration) = tolerations().find(|t| tolerates(t, taint)) else {
            return Stay::Not;
        };
        let Some(seconds) = toleration.toleration_seconds else { continue };
        let added = taint.time_added.as_ref().map_or(now, |t| t.0);
        let met = placed.map_or(added, |placed| placed.max(added));
        let wait = time::until(time::after(met, time::seconds(seconds)), now);
        shortest = Some(shortest.map_or(wait, |s| s.min(wait)));
    }
    shortest.map_or(Stay::Ever, Stay::For)
}

fn evict(pod: &Arc<Pod>, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let message = "Taint manager: deleting due to NoExecute taint";
    let condition = pods::disruption_target(pod, "DeletionByTaintManager", message, now);
    let key = Key::of(&pod.metadata);
    plan.note(note(pod, format!("Marking for deletion Pod {key}")));
    let target = Target::new(&PODS, &pod.metadata);
    plan.patch_status(target.clone(), json!({ "status": { "conditions": [plan::to_value(&condition)] } }));
    plan.delete(target);
    plan
}

fn note(pod: &Pod, message: String) -> Note {
    Note {
        component: "taint-eviction-controller",
        regarding: Regarding::new(&PODS, &pod.metadata),
        note_type: NoteType::Normal,
        reason: "TaintManagerEviction",
        action: "",
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seconds a pod with these tolerations stays on a node with these taints; `None` for ever.
    fn stays(taints: &str, tolerations: &str) -> Option<u64> {
        let pod = format!("{{spec: {{containers: [], tolerations: [{tolerations}]}}}}");
        let pod: Pod = serde_saphyr::from_str(&pod).unwrap();
        let taints: Vec<Taint> = serde_saphyr::from_str(&format!("[{taints}]")).unwrap();
        let at = Timestamp::UNIX_EPOCH;
        match stays_for(&pod, &taints.iter().collect::<Vec<_>>(), at) {
            Stay::Ever => None,
            Stay::Not => Some(0),
            Stay::For(wait) => Some(wait.as_secs()),
        }
    }

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates_every_taint() {
        const ONE: &str = "{key: k, effect: NoExecute}";
        const TWO: &str = "{key: k, effect: NoExecute}, {key: l, value: v, effect: NoExecute}";
        let tolerates = |key: &str, more: &str| format!("{{key: {key}, operator: Exists{more}}}");
        let (ever, long) = (tolerates("k", ""), tolerates("k", ", tolerationSeconds: 100"));
        let short = tolerates("l", ", tolerationSeconds: 60");
        let cases = [
            ("", "", None),
            (ONE, "", Some(0)),
            (ONE, &ever, None),
            (ONE, &long, Some(100)),
            (ONE, &tolerates("k", ", tolerationSeconds: 0"), Some(0)),
            (ONE, &tolerates("k", ", tolerationSeconds: -5"), Some(0)),
            (ONE, &tolerates("k", ", effect: NoSchedule"), Some(0)),
            (ONE, &tolerates("other", ""), Some(0)),
            (ONE, "{operator: Exists}", None),
            (TWO, &ever, Some(0)),
            (TWO, &format!("{ever}, {short}"), Some(60)),
            (TWO, &format!("{long}, {short}"), Some(60)),
            (TWO, &format!("{long}, {}", tolerates("l", "")), Some(100)),
            (TWO, &format!("{ever}, {{key: l, value: v, effect: NoExecute}}"), None),
            (TWO, &format!("{ever}, {{key: l, value: w, effect: NoExecute}}"), Some(0)),
            // Of several that stand against a taint the first counts.
            (ONE, &format!("{long}, {}", tolerates("k", ", tolerationSeconds: 5")), Some(100)),
            (ONE, &format!("{long}, {ever}"), Some(100)),
        ];
        for (taints, tolerations, expected) in cases {
            assert_eq!(stays(taints, tolerations), expected, "{tolerations} of {taints}");
        }
    }
}
