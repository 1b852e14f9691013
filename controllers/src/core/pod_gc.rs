//! Removes pods that no node will ever remove: those of nodes that are gone or out of service (KEP-2268), those deleted
//! before they had a node, and the oldest of too many that have ended.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use serde_json::json;

use crate::engine::{Controller, Turn, Wake};
use crate::nodes::is_ready;
use crate::plan::{self, Plan, Step, Target};
use crate::pods;
use crate::resource::{Key, NODES, PODS};
use crate::time;
use crate::world::{Delta, Object, World};

/// Ended pods are counted at this pace while there are new ones.
const COUNT_EVERY: Duration = Duration::from_secs(20);
const MAX_DELETIONS_PER_PLAN: usize = 500;
/// Somebody vouches that nothing runs on the node any more.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub struct PodGc {
    terminated_kept: usize,
    quarantine: Duration,
    /// Nodes that pods name and nobody knows, since when.
    gone: HashMap<String, Timestamp>,
}

/// The one key that is no pod: all ended pods together.
fn ended() -> Key {
    Key::new("", "ended pods")
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "podgc"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Pod(pod) if !delta.gone => {
                let is_deleting = pods::is_deleting(&pod.metadata);
                let is_lost = match pods::node_name(pod) {
                    None => is_deleting,
                    Some(name) => match world.nodes.get("", name) {
                        None => true,
                        Some(node) => is_deleting && is_out_of_service(node),
                    },
                };
                if is_lost {
                    wake.now(Key::of(&pod.metadata));
                }
                if pods::is_terminal(pod) && self.terminated_kept > 0 {
                    wake.after(ended(), COUNT_EVERY);
                }
            }
            Object::Node(node) => {
                let name = node.metadata.name.as_deref();
                if delta.gone || is_out_of_service(node) {
                    for pod in world.pods.iter().filter(|pod| pods::node_name(pod) == name) {
                        wake.now(Key::of(&pod.metadata));
                    }
                }
                if !delta.gone {
                    self.gone.remove(name.unwrap_or_default());
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        if *key == ended() {
            return self.thin_out(world);
        }
        let Some(pod) = world.pods.by_key(key) else { return Plan::none() };
        let mut plan = Plan::none();
        let is_deleting = pods::is_deleting(&pod.metadata);
        let Some(name) = pods::node_name(pod) else {
            if is_deleting {
                end(&mut plan, pod, None);
            }
            return plan;
        };
        if let Some(node) = world.nodes.get("", name) {
            if is_deleting && is_out_of_service(node) {
                end(&mut plan, pod, None);
            }
            return plan;
        }
        let since = *self.gone.entry(name.to_owned()).or_insert(turn.now);
        let wait = time::until(time::after(since, self.quarantine), turn.now);
        if wait.is_zero() {
            orphaned(&mut plan, pod, name, turn.now);
        } else {
            plan.requeue(wait);
        }
        plan
    }
}

impl PodGc {
    /// `terminated_kept`: ended pods to keep, 0 keeps all. `quarantine`: how long a node must be gone before its pods go.
    pub fn new(terminated_kept: usize, quarantine: Duration) -> Self {
        Self { terminated_kept, quarantine, gone: HashMap::new() }
    }

    fn thin_out(&self, world: &World) -> Plan {
        let mut terminated: Vec<_> = world.pods.iter().filter(|pod| pods::is_terminal(pod)).collect();
        let excess = terminated.len().saturating_sub(self.terminated_kept);
        if excess == 0 || self.terminated_kept == 0 {
            return Plan::none();
        }
        // Evicted ones first: the others may still say something to whoever made them.
        terminated.sort_by_key(|pod| {
            let is_evicted = pod.status.as_ref().and_then(|status| status.reason.as_deref()) == Some("Evicted");
            (!is_evicted, pod.metadata.creation_timestamp.as_ref().map(|t| t.0), pod.metadata.name.clone())
        });
        let steps = terminated.into_iter().take(excess.min(MAX_DELETIONS_PER_PLAN)).map(|pod| remove(pod));
        let mut plan = Plan { steps: vec![Step::Together(steps.collect())], ..Plan::none() };
        plan.requeue(COUNT_EVERY);
        plan
    }
}

fn remove(pod: &Pod) -> Step {
    let target = Target::new(&PODS, &pod.metadata);
    Step::Delete { target, propagation: None, grace_seconds: Some(0), then: None, or_else: None }
}

/// A pod of a node that is gone.
fn orphaned(plan: &mut Plan, pod: &Pod, node: &str, now: Timestamp) {
    // Without a uid: any node of this name keeps the pod.
    plan.step(Step::CheckAbsent(Target::named(&NODES, Key::new("", node), None)));
    let condition = pods::disruption_target(pod, "DeletionByPodGC", "PodGC: node no longer exists", now);
    end(plan, pod, Some(condition));
}

/// Ends a pod in its node's place: nobody else can say that it has failed.
fn end(plan: &mut Plan, pod: &Pod, why: Option<PodCondition>) {
    if !pods::is_terminal(pod) {
        let mut status = json!({ "phase": "Failed" });
        if let Some(condition) = why {
            status["conditions"] = json!([plan::to_value(&condition)]);
        }
        plan.patch_status(Target::new(&PODS, &pod.metadata), json!({ "status": status }));
    }
    plan.step(remove(pod));
}

fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    !is_ready(node) && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}
