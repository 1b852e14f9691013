//! Gives each pending pod a node (kube-scheduler).
//!
//! The scheduler is a controller whose keys are pods. It keeps a [`snapshot`] up to date from the same changes that move
//! the world, counts a pod against its node from the moment of the decision, and parks what fits nowhere until an event
//! comes that could help.
//!
//! ```text
//! Pending -> decide: filters -> scores -> a node -> volumes, binding
//!                       |
//!                       +-> Unschedulable -> preempt -> evictions, or parked until an event
//! ```

mod amounts;
mod cycle;
mod decide;
mod disks;
mod event;
mod filter;
mod images;
mod kin;
mod parked;
mod pending;
mod pod_info;
mod preempt;
mod profile;
mod score;
mod snapshot;
mod steps;
#[cfg(test)]
mod tests;
mod topology;
mod unschedulable;
mod volumes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use rand::RngCore;

pub use decide::{Decision, decide};
pub use pending::Pending;
pub use pod_info::{PodInfo, claim_names, ephemeral_claim};
pub use profile::{Packing, Profile};
pub use snapshot::{NodeInfo, Snapshot};
pub use unschedulable::Unschedulable;
pub use volumes::{
    BIND_COMPLETED, NO_PROVISIONER, SELECTED_NODE, allows, capacity_bytes, class_name, grants_access, is_made_for,
    is_of_class, not_made_for, refers_to, requested_bytes, same_attributes, same_mode, serves,
};

use crate::engine::{Controller, Turn, Wake};
use crate::execute::Outcome;
use crate::plan::Plan;
use crate::pods;
use crate::resource::Key;
use crate::time;
use crate::world::{Delta, Object, World};
use event::Event;
use parked::Parked;
use preempt::{Preemption, preempt};
use steps::Nomination;
use volumes::Binding;

const MAX_BINDINGS_IN_FLIGHT: usize = 256;
/// How long a pod's volumes may take to be bound before another node is looked for.
const MAX_VOLUME_BINDING: Duration = Duration::from_secs(600);

/// How far a pod is that has its node.
enum Stage {
    /// The binding is being written, or is not yet seen.
    Binding,
    /// Nobody knows whether the binding was made: its answer was lost.
    Unanswered,
    /// Its volumes are being asked for.
    Asking(Vec<Binding>),
    /// Its volumes are being bound or made.
    Waiting(Vec<Binding>, Timestamp),
}

/// A pod that is decided, and not yet seen with its node.
struct Assumed {
    uid: Arc<str>,
    node: String,
    stage: Stage,
}

pub struct Scheduler {
    profiles: Vec<Arc<Profile>>,
    snapshot: Snapshot,
    /// In order, like all whose order decides who goes next: a seed replays a run.
    assumed: BTreeMap<Key, Assumed>,
    /// Pods that didn't or will not go to their node after all, and it: nobody has been told yet that there is room.
    given_up: Vec<(Arc<PodInfo>, String)>,
    parked: Parked,
    start: usize,
    now: Timestamp,
}

impl Scheduler {
    /// Places the pods that ask for one of the profiles by name.
    pub fn new(profiles: &[Profile]) -> Self {
        Self {
            profiles: profiles.iter().cloned().map(Arc::new).collect(),
            snapshot: Snapshot::default(),
            assumed: BTreeMap::new(),
            given_up: Vec::new(),
            parked: Parked::default(),
            start: 0,
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn profile_of(&self, pod: &Pod) -> Option<&Arc<Profile>> {
        let name = pod.spec.as_ref().and_then(|s| s.scheduler_name.as_deref()).unwrap_or("default-scheduler");
        self.profiles.iter().find(|profile| profile.scheduler_name == name)
    }

    fn observe_pod(&mut self, pod: &Arc<Pod>, before: Option<&Arc<Pod>>, gone: bool, wake: &mut Wake) {
        let key = Key::of(&pod.metadata);
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut has_arrived = false;
        if pods::node_name(pod).is_some() || gone {
            self.parked.remove(&key);
            self.withdraw(uid);
            if self.assumed.get(&key).is_some_and(|assumed| &*assumed.uid == uid) {
                self.assumed.remove(&key);
                has_arrived = !gone;
            }
        } else if self.profile_of(pod).is_some() {
            self.observe_pending(pod, &key, before, wake);
        }
        let moved = self.snapshot.follow(pod, gone);
        if let Some((freed, slot)) = &moved.freed {
            let node = slot.map(|slot| &self.snapshot.nodes[slot]);
            self.parked.wake(&Event::Freed { pod: freed, node }, &self.snapshot, wake);
        }
        if let Some(pod) = &moved.leaving {
            self.parked.wake(&Event::Leaving { pod }, &self.snapshot, wake);
        }
        let arrived = || {
            let node = has_arrived.then(|| pods::node_name(pod)).flatten()?;
            self.snapshot.node(node)?.pods.get(uid).cloned()
        };
        if let Some(placed) = moved.placed.clone().or_else(arrived) {
            self.parked.wake(&Event::Placed { pod: &placed }, &self.snapshot, wake);
        }
    }

    fn observe_pending(&mut self, pod: &Arc<Pod>, key: &Key, before: Option<&Arc<Pod>>, wake: &mut Wake) {
        let nominated = |pod: &Pod| pod.status.as_ref()?.nominated_node_name.clone().filter(|node| !node.is_empty());
        let had_nomination = before.is_some_and(|before| nominated(before).is_some());
        let nomination = nominated(pod);
        match &nomination {
            Some(node) => self.snapshot.nominate(&Arc::new(PodInfo::new(pod.clone())), Some(node)),
            None if had_nomination => self.withdraw(pod.metadata.uid.as_deref().unwrap_or_default()),
            // What comes before the answer to a promise does not know of it.
            None => self.snapshot.follow_nominated(pod),
        }
        // A parked pod's own status says nothing new: most often it is what we wrote when we parked it.
        let is_the_same = before.is_some_and(|before| {
            let lost_nomination = nomination.is_none() && had_nomination;
            before.spec == pod.spec && before.metadata.labels == pod.metadata.labels && !lost_nomination
        });
        if !(is_the_same && self.parked.contains(key)) {
            wake.now(key.clone());
        }
    }

    fn observe_node(&mut self, node: &Arc<Node>, gone: bool, wake: &mut Wake) {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        if gone {
            self.snapshot.remove_node(name);
            return self.parked.wake(&Event::NodeGone { node }, &self.snapshot, wake);
        }
        let before = self.snapshot.node(name).map(|known| known.node.clone());
        if self.snapshot.set_node(node.clone())
            && let Some(node) = self.snapshot.node(name)
        {
            let event = Event::Node { node, before: before.as_deref() };
            self.parked.wake(&event, &self.snapshot, wake);
        }
    }

    fn observe_volumes(&mut self, delta: &Delta, wake: &mut Wake) {
        if let Some(event) = volumes::event(delta) {
            self.parked.wake(&event, &self.snapshot, wake);
        }
        for (key, assumed) in &self.assumed {
            if !matches!(assumed.stage, Stage::Binding) {
                wake.now(key.clone());
            }
        }
    }

    /// The pod goes to this node, as soon as its volumes can.
    fn assume(&mut self, key: &Key, pending: &Pending, slot: usize) -> Plan {
        let node = self.snapshot.nodes[slot].name().to_owned();
        let volumes = &self.snapshot.volumes;
        let bindings = volumes
            .of_pod(&pending.info)
            .ok()
            .and_then(|claims| volumes.bindings(&claims.waiting, &self.snapshot.nodes[slot].node).ok());
        let bindings = bindings.unwrap_or_default();
        self.snapshot.place(pending.info.clone(), &node);
        let (stage, plan) = if bindings.is_empty() {
            (Stage::Binding, steps::bind(pending.pod(), node.clone(), pending.profile.scheduler_name))
        } else {
            self.snapshot.volumes.promise(&bindings);
            let plan = steps::bind_volumes(pending.pod(), &bindings, &node);
            (Stage::Asking(bindings), plan)
        };
        let uid = pending.info.uid().into();
        self.assumed.insert(key.clone(), Assumed { uid, node, stage });
        plan
    }

    /// Goes on with a pod that has its node: it is bound when its volumes are. When they will not be, or when the node is
    /// gone before it is known whether the pod was bound, the promise of that node is taken back; `None` if there is none.
    fn go_on(&mut self, key: &Key, pod: &Arc<Pod>, component: &'static str) -> Option<Plan> {
        let assumed = self.assumed.get_mut(key)?;
        let (bindings, since) = match &assumed.stage {
            Stage::Binding | Stage::Asking(_) => return Some(Plan::none()),
            Stage::Waiting(bindings, since) => (bindings, since),
            Stage::Unanswered if self.snapshot.slot(&assumed.node).is_some() => {
                return Some(steps::bind(pod, assumed.node.clone(), component));
            }
            Stage::Unanswered => return self.start_over(key, pod),
        };
        let info = PodInfo::new(pod.clone());
        if self.snapshot.volumes.are_bound(&info) {
            let node = assumed.node.clone();
            assumed.stage = Stage::Binding;
            return Some(steps::bind(pod, node, component));
        }
        let left = time::until(time::after(*since, MAX_VOLUME_BINDING), self.now);
        if !left.is_zero() && self.snapshot.volumes.are_under_way(bindings, &assumed.node) {
            return Some(Plan { requeue_after: Some(left), ..Plan::none() });
        }
        self.start_over(key, pod)
    }

    fn start_over(&mut self, key: &Key, pod: &Pod) -> Option<Plan> {
        self.give_up(key);
        _ = self.snapshot.withdraw(pod.metadata.uid.as_deref().unwrap_or_default());
        steps::withdraw(pod)
    }

    /// The pod is promised no node any more.
    fn withdraw(&mut self, uid: &str) {
        self.given_up.extend(self.snapshot.withdraw(uid));
    }

    /// The pod that was decided will not go to its node.
    fn give_up(&mut self, key: &Key) {
        if let Some(assumed) = self.assumed.remove(key)
            && let Some((pod, _)) = self.snapshot.displace(&assumed.uid)
        {
            self.snapshot.volumes.release(&pod);
            self.given_up.push((pod, assumed.node));
        }
    }

    /// The pod fits nowhere: others leave for it, or it waits.
    fn refuse(&mut self, pending: &Pending, why: &Unschedulable, world: &World, rng: &mut dyn RngCore) -> Plan {
        let (pod, component) = (pending.pod(), pending.profile.scheduler_name);
        if why.nodes() == 0 {
            return steps::unschedulable(pod, component, &why.to_string(), &Nomination::Kept, self.now);
        }
        let budgets: Vec<_> = world.pod_disruption_budgets.iter().cloned().collect();
        match preempt(pending, &mut self.snapshot, why, &budgets, rng) {
            Preemption::Evict { slot, victims } => {
                let node = self.snapshot.nodes[slot].name().to_owned();
                let outbid = self.snapshot.nominated_below(&node, pending.info.priority());
                outbid.iter().for_each(|other| _ = self.snapshot.withdraw(other.uid()));
                self.snapshot.nominate(&pending.info, Some(&node));
                let nomination = Nomination::Set(&node);
                let mut plan = steps::unschedulable(pod, component, &why.to_string(), &nomination, self.now);
                plan.steps.extend(steps::evict(pod, &node, &victims, &outbid, component, self.now));
                plan
            }
            Preemption::Useless { message, was_tried } => {
                // Claims of dynamic resources are not made here, so there are none to give back.
                let message = format!("{why} no new claims to deallocate, preemption: {message}");
                let nomination = if was_tried { Nomination::Cleared } else { Nomination::Kept };
                if was_tried {
                    self.withdraw(pending.info.uid());
                }
                steps::unschedulable(pod, component, &message, &nomination, self.now)
            }
        }
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
            Object::Node(node) => self.observe_node(node, delta.gone, wake),
            Object::Namespace(namespace) => {
                let labels = (!delta.gone).then(|| namespace.metadata.labels.clone().unwrap_or_default());
                self.snapshot.set_namespace(namespace.metadata.name.as_deref().unwrap_or_default(), labels);
            }
            Object::RuntimeClass(class) => {
                let name = class.metadata.name.clone().unwrap_or_default();
                if delta.gone {
                    self.snapshot.runtime_handlers.remove(&name);
                } else {
                    self.snapshot.runtime_handlers.insert(name, class.handler.clone());
                }
                self.parked.wake(&Event::RuntimeClass, &self.snapshot, wake);
            }
            _ if self.snapshot.volumes.observe(delta) => self.observe_volumes(delta, wake),
            _ => {}
        }
        for (pod, node) in std::mem::take(&mut self.given_up) {
            let event = Event::Freed { pod: &pod, node: self.snapshot.node(&node) };
            self.parked.wake(&event, &self.snapshot, wake);
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        self.now = turn.now;
        let pod = world.pods.by_key(key);
        let pod = pod.filter(|pod| pods::node_name(pod).is_none() && !pods::is_terminal(pod));
        let Some((pod, profile)) = pod.and_then(|pod| Some((pod, self.profile_of(pod)?.clone()))) else {
            self.parked.remove(key);
            return Plan::none();
        };
        let is_gated =
            pod.spec.as_ref().is_some_and(|s| s.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
        let is_decided = self.assumed.contains_key(key);
        if pods::is_deleting(&pod.metadata) {
            self.parked.remove(key);
            let is_skipped = !is_gated && !is_decided;
            return if is_skipped { steps::skipped(pod, profile.scheduler_name) } else { Plan::none() };
        }
        if is_decided && let Some(plan) = self.go_on(key, pod, profile.scheduler_name) {
            return plan;
        }
        if is_gated {
            return steps::gated(pod, turn.now);
        }
        let pending = Arc::new(Pending::new(pod.clone(), profile, &kin::kin(pod, world)));
        match decide(&pending, &mut self.snapshot, &mut self.start, turn.rng) {
            Decision::Node(slot) => self.assume(key, &pending, slot),
            Decision::Unschedulable(why) => {
                let plan = self.refuse(&pending, &why, world, turn.rng);
                self.parked.park(key, pending, why.filters(), turn.now);
                plan
            }
        }
    }

    fn finished(&mut self, key: &Key, outcome: &Outcome) {
        let Some(assumed) = self.assumed.get_mut(key) else { return };
        match (&mut assumed.stage, outcome) {
            (Stage::Asking(bindings), Outcome::Done) => {
                assumed.stage = Stage::Waiting(std::mem::take(bindings), self.now);
            }
            (Stage::Unanswered, Outcome::Done) => assumed.stage = Stage::Binding,
            // The pod has a node by now, or is going: the watch will show it.
            (Stage::Unanswered, Outcome::Stale) => {}
            (Stage::Binding | Stage::Unanswered, Outcome::Failed(failure)) if failure.leaves_open() => {
                assumed.stage = Stage::Unanswered;
            }
            // A binding that was made stays counted until the watch shows it.
            (_, Outcome::Done) => {}
            // One that was not must not stay.
            (_, Outcome::Stale | Outcome::Failed(_)) => self.give_up(key),
        }
    }

    fn priority(&self, key: &Key, world: &World) -> i32 {
        world.pods.by_key(key).and_then(|pod| pod.spec.as_ref()?.priority).unwrap_or(0)
    }

    fn max_plans_in_flight(&self) -> usize {
        MAX_BINDINGS_IN_FLIGHT
    }
}
