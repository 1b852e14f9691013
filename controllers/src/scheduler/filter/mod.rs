//! Where a pod may run: each filter a file, [`all`] the table.

mod node_affinity;
pub use node_affinity::matches_required;
mod node_name;
mod node_ports;
mod node_resources;
mod node_unschedulable;
mod runtime_handler;
mod taint_toleration;

use std::borrow::Cow;

use super::snapshot::{NodeInfo, PodInfo, Snapshot};
use crate::world::Delta;

pub use node_affinity::matches_term;

/// Why a node won't do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// In Kubernetes' words.
    pub reasons: Vec<Cow<'static, str>>,
    /// Whether other pods' leaving could help.
    pub is_resolvable: bool,
}

impl Refusal {
    /// Nothing but a change of the node or the pod helps.
    pub fn for_good(reason: &'static str) -> Self {
        Self { reasons: vec![Cow::Borrowed(reason)], is_resolvable: false }
    }

    /// The node would do if fewer pods were on it.
    pub fn for_now(reason: &'static str) -> Self {
        Self { reasons: vec![Cow::Borrowed(reason)], is_resolvable: true }
    }
}

pub type Check<'a> = Box<dyn Fn(&NodeInfo) -> Result<(), Refusal> + 'a>;

pub trait Filter: Sync {
    /// Looks at the pod once and gives a check for nodes, or `None` if the filter has nothing to say about this pod.
    fn begin<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Check<'a>>;

    /// Whether a pod that this filter kept from every node might be let through after the change.
    fn may_be_helped_by(&self, delta: &Delta) -> bool;
}

/// THE table of filters, cheapest first.
pub fn all() -> &'static [&'static dyn Filter] {
    &[
        &node_unschedulable::NodeUnschedulable,
        &node_name::NodeName,
        &taint_toleration::TaintToleration,
        &node_affinity::NodeAffinity,
        &node_ports::NodePorts,
        &runtime_handler::RuntimeHandler,
        &node_resources::NodeResources,
    ]
}

/// The change is to a node, and not to its heartbeat alone.
fn is_node_change(delta: &Delta) -> bool {
    use crate::world::Object::Node;
    match (&delta.object, &delta.before) {
        (Node(after), Some(Node(before))) => {
            let facts = |node: &k8s_openapi::api::core::v1::Node| {
                let status = node.status.clone().unwrap_or_default();
                (node.spec.clone(), node.metadata.labels.clone(), status.allocatable, status.runtime_handlers)
            };
            !delta.gone && facts(after) != facts(before)
        }
        (Node(_), _) => !delta.gone,
        _ => false,
    }
}

/// A pod stopped counting against a node.
fn frees_a_node(delta: &Delta) -> bool {
    use crate::pods::{is_terminal, node_name};
    use crate::world::Object::Pod;
    match (&delta.object, &delta.before) {
        (Pod(pod), _) if delta.gone => node_name(pod).is_some(),
        (Pod(after), Some(Pod(before))) => is_terminal(after) && !is_terminal(before),
        _ => false,
    }
}
