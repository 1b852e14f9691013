//! Gives each pending pod a node (kube-scheduler's default profile).
//!
//! The scheduler is a controller whose keys are pods. It keeps a [`snapshot`] up to date from the same changes that move
//! the world, counts a pod against its node from the moment of the decision, and parks what fits nowhere until a change
//! comes that could help.

mod amounts;
mod decide;
mod filter;
pub use filter::matches_required;
mod score;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use serde_json::json;

pub use decide::{Decision, Unschedulable, decide};
pub use snapshot::{NodeInfo, PodInfo, Snapshot};

use crate::engine::{Controller, Turn, Wake};
use crate::execute::Outcome;
use crate::plan::{self, Note, NoteType, PatchKind, Plan, Regarding, Step, Target};
use crate::pods;
use crate::resource::{Key, PODS};
use crate::time::{self, stamp};
use crate::world::{Delta, Object, World};

const COMPONENT: &str = "default-scheduler";
/// Wait after a pod's first fruitless attempt before a change may bring the next; doubles each time.
const FIRST_BACKOFF_MS: u64 = 10;
const MAX_BACKOFF_MS: u64 = 10_000;
/// A parked pod is tried again after this, whatever happens.
const MAX_PARKED: Duration = Duration::from_secs(300);
const MAX_BINDINGS_IN_FLIGHT: usize = 256;

/// A pod that fits nowhere, until something changes.
struct Parked {
    /// Bits of the filters that refused; none set when there was no node at all.
    filters: u64,
    attempts: u32,
    not_before: Timestamp,
}

pub struct Scheduler {
    name: String,
    snapshot: Snapshot,
    /// Decided, and not yet seen with a node: key -> uid.
    assumed: HashMap<Key, Arc<str>>,
    parked: HashMap<Key, Parked>,
    start: usize,
    now: Timestamp,
}

impl Scheduler {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            snapshot: Snapshot::default(),
            assumed: HashMap::new(),
            parked: HashMap::new(),
            start: 0,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let scheduler = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
        scheduler == self.name
    }

    fn observe_pod(&mut self, pod: &Arc<Pod>, before: Option<&Arc<Pod>>, gone: bool, wake: &mut Wake) {
        let key = Key::of(&pod.metadata);
        // A parked pod's own status says nothing new: most often it is what we wrote when we parked it.
        let same = before.is_some_and(|b| b.spec == pod.spec && b.metadata.labels == pod.metadata.labels);
        if pods::node_name(pod).is_some() || gone {
            self.parked.remove(&key);
            if self.assumed.get(&key).is_some_and(|uid| Some(&**uid) == pod.metadata.uid.as_deref()) {
                self.assumed.remove(&key);
            }
        } else if self.is_ours(pod) && !(same && self.parked.contains_key(&key)) {
            wake.now(key);
        }
        self.snapshot.follow(pod, gone);
    }

    /// Wakes the parked pods that the change may help.
    fn unpark(&mut self, delta: &Delta, wake: &mut Wake) {
        if self.parked.is_empty() {
            return;
        }
        let helping: u64 = filter::all()
            .iter()
            .enumerate()
            .filter(|(_, filter)| filter.may_be_helped_by(delta))
            .map(|(bit, _)| 1 << bit)
            .sum();
        if helping == 0 {
            return;
        }
        for (key, parked) in &self.parked {
            if parked.filters & helping != 0 || parked.filters == 0 {
                wake.after(key.clone(), time::until(parked.not_before, self.now));
            }
        }
    }

    fn park(&mut self, key: &Key, filters: u64, now: Timestamp) {
        let attempts = self.parked.get(key).map_or(0, |parked| parked.attempts) + 1;
        let wait_ms = FIRST_BACKOFF_MS.saturating_mul(1 << (attempts - 1).min(20)).min(MAX_BACKOFF_MS);
        let not_before = time::after(now, Duration::from_millis(wait_ms));
        self.parked.insert(key.clone(), Parked { filters, attempts, not_before });
    }
}

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        "scheduler"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Pod(pod) => {
                let before = match &delta.before {
                    Some(Object::Pod(before)) => Some(before),
                    _ => None,
                };
                self.observe_pod(pod, before, delta.gone, wake);
            }
            Object::Node(node) if delta.gone => {
                self.snapshot.remove_node(node.metadata.name.as_deref().unwrap_or_default());
            }
            Object::Node(node) => self.snapshot.set_node(node.clone()),
            Object::RuntimeClass(class) => {
                let name = class.metadata.name.clone().unwrap_or_default();
                if delta.gone {
                    self.snapshot.runtime_handlers.remove(&name);
                } else {
                    self.snapshot.runtime_handlers.insert(name, class.handler.clone());
                }
            }
            _ => return,
        }
        self.unpark(delta, wake);
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        self.now = turn.now;
        let pod = world.pods.by_key(key);
        let pending = |pod: &&Arc<Pod>| pods::node_name(pod).is_none() && pods::is_active(pod) && self.is_ours(pod);
        let Some(pod) = pod.filter(pending) else {
            self.parked.remove(key);
            return Plan::none();
        };
        if self.assumed.contains_key(key) {
            return Plan::none();
        }
        if pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())) {
            return gated(pod, turn.now);
        }
        let info = Arc::new(PodInfo::new(pod.clone()));
        match decide(&info, &self.snapshot, &mut self.start, turn.rng) {
            Decision::Node(index) => {
                let node = self.snapshot.nodes[index].name().to_owned();
                self.assumed.insert(key.clone(), info.uid().into());
                self.snapshot.place(info, &node);
                bind(pod, node)
            }
            Decision::Unschedulable(why) => {
                self.park(key, why.filters, turn.now);
                unschedulable(pod, &why, turn.now)
            }
        }
    }

    fn finished(&mut self, key: &Key, outcome: &Outcome) {
        // A binding that was made stays counted until the watch shows it; one that was not must not stay.
        if !matches!(outcome, Outcome::Done)
            && let Some(uid) = self.assumed.remove(key)
        {
            self.snapshot.displace(&uid);
        }
    }

    fn priority(&self, key: &Key, world: &World) -> i32 {
        world.pods.by_key(key).and_then(|pod| pod.spec.as_ref()?.priority).unwrap_or(0)
    }

    fn max_plans_in_flight(&self) -> usize {
        MAX_BINDINGS_IN_FLIGHT
    }
}

fn bind(pod: &Pod, node: String) -> Plan {
    let Key { namespace, name } = Key::of(&pod.metadata);
    let assigned = format!("Successfully assigned {namespace}/{name} to {node}");
    let step = Step::Bind {
        pod: Target::new(&PODS, &pod.metadata),
        node,
        then: Some(note(pod, NoteType::Normal, "Scheduled", "Binding", assigned)),
        or_else: Some(note(pod, NoteType::Warning, "FailedScheduling", "Scheduling", "{error}".into())),
    };
    Plan { steps: vec![step], ..Plan::none() }
}

fn unschedulable(pod: &Pod, why: &Unschedulable, now: Timestamp) -> Plan {
    let message = why.to_string();
    let mut plan = Plan::none();
    plan.note(note(pod, NoteType::Warning, "FailedScheduling", "Scheduling", message.clone()));
    plan.steps.extend(not_scheduled(pod, "Unschedulable", &message, now));
    plan.requeue(MAX_PARKED);
    plan
}

fn gated(pod: &Pod, now: Timestamp) -> Plan {
    let message = "Scheduling is blocked due to non-empty scheduling gates";
    Plan { steps: not_scheduled(pod, "SchedulingGated", message, now).into_iter().collect(), ..Plan::none() }
}

/// Sets the condition PodScheduled=False, unless the pod says so already.
fn not_scheduled(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Step> {
    let old = pods::condition(pod, "PodScheduled");
    if old.is_some_and(|c| {
        c.status == "False" && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    }) {
        return None;
    }
    let unchanged_since = old.filter(|c| c.status == "False").and_then(|c| c.last_transition_time.clone());
    let condition = PodCondition {
        type_: "PodScheduled".into(),
        status: "False".into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(unchanged_since.unwrap_or_else(|| stamp(now))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    };
    Some(Step::Patch {
        target: Target::new(&PODS, &pod.metadata),
        subresource: "status",
        kind: PatchKind::Strategic,
        patch: json!({ "status": { "conditions": [plan::to_value(&condition)] } }),
        then: None,
    })
}

fn note(pod: &Pod, note_type: NoteType, reason: &'static str, action: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&PODS, &pod.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action, message }
}
