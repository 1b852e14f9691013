//! Where a pod may run: each filter a file, [`all`] the table.

mod inter_pod_affinity;
mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod node_volume_limits;
mod pod_topology_spread;
mod runtime_handler;
mod taint_toleration;
mod volume_binding;
mod volume_restrictions;
mod volume_zone;

use std::borrow::Cow;

use super::cycle::Cycle;
use super::event::Event;
use super::pending::Pending;
use super::snapshot::{NodeInfo, Snapshot};

pub use runtime_handler::is_wasm;

/// Why a node won't do, in Kubernetes' words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reasons {
    One(&'static str),
    Many(Vec<Cow<'static, str>>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reasons: Reasons,
    /// Whether other pods' leaving could help.
    pub is_resolvable: bool,
}

impl Refusal {
    /// Nothing but a change of the node or the pod helps.
    pub fn for_good(reason: &'static str) -> Self {
        Self { reasons: Reasons::One(reason), is_resolvable: false }
    }

    /// The node would do if fewer pods were on it.
    pub fn for_now(reason: &'static str) -> Self {
        Self { reasons: Reasons::One(reason), is_resolvable: true }
    }
}

pub type Check<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Refusal> + 'a>;

/// What a filter makes of a pod before it looks at nodes.
pub enum Begin<'a> {
    /// It has nothing to say about this pod.
    Pass,
    Check(Check<'a>),
    /// Only the nodes of these names need be looked at.
    Among(Vec<String>, Check<'a>),
    /// No node will do, whatever it is like.
    Nowhere(String),
}

impl<'a> Begin<'a> {
    fn check(check: impl Fn(&NodeInfo) -> Result<(), Refusal> + 'a) -> Self {
        Begin::Check(Box::new(check))
    }
}

pub trait Filter: Sync {
    /// The plugin's name in kube-scheduler.
    fn name(&self) -> &'static str;

    /// Looks at the pod once.
    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a>;

    /// Whether a pod that this filter kept from some node might be let through after the event.
    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, snapshot: &Snapshot) -> bool;
}

/// THE table of filters in kube-scheduler's order, which decides whose reason is given.
pub fn all() -> &'static [&'static dyn Filter] {
    &[
        &node_unschedulable::NodeUnschedulable,
        &node_name::NodeName,
        &taint_toleration::TaintToleration,
        &node_affinity::NodeAffinity,
        &node_ports::NodePorts,
        &runtime_handler::RuntimeHandler,
        &node_resources::NodeResourcesFit,
        &volume_restrictions::VolumeRestrictions,
        &node_volume_limits::NodeVolumeLimits,
        &volume_binding::VolumeBinding,
        &volume_zone::VolumeZone,
        &pod_topology_spread::PodTopologySpread,
        &inter_pod_affinity::InterPodAffinity,
    ]
}
