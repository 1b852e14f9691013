//! How pods of one scheduler name are placed (kube-scheduler's profiles).

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use k8w_kinds::core::selection::{NodeTerm, node_terms};

/// Which nodes are better for resources: those with most room left, or those with least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Packing {
    #[default]
    LeastAllocated,
    MostAllocated,
}

#[derive(Clone, Debug)]
pub struct Profile {
    /// The name that pods ask for in `spec.schedulerName`, and that events are reported under.
    pub scheduler_name: &'static str,
    pub packing: Packing,
    /// Spread of pods that ask for none and belong to a Service or a controller.
    pub default_constraints: Vec<TopologySpreadConstraint>,
    system_defaults: bool,
    added: Option<Vec<NodeTerm>>,
}

impl Default for Profile {
    fn default() -> Self {
        Self::new("default-scheduler")
    }
}

impl Profile {
    /// A profile that places pods as kube-scheduler's default one does.
    pub fn new(scheduler_name: &'static str) -> Self {
        let soft = |key: &str, max_skew| TopologySpreadConstraint {
            topology_key: key.into(),
            max_skew,
            when_unsatisfiable: "ScheduleAnyway".into(),
            ..TopologySpreadConstraint::default()
        };
        Self {
            scheduler_name,
            packing: Packing::default(),
            default_constraints: vec![soft("kubernetes.io/hostname", 3), soft("topology.kubernetes.io/zone", 5)],
            system_defaults: true,
            added: None,
        }
    }

    /// Replaces the system's default constraints.
    pub fn with_default_constraints(mut self, constraints: Vec<TopologySpreadConstraint>) -> Self {
        self.default_constraints = constraints;
        self.system_defaults = false;
        self
    }

    /// Restricts all pods of the profile to nodes with this required affinity (`addedAffinity`).
    pub fn with_added_affinity(mut self, affinity: &NodeAffinity) -> Self {
        self.added = affinity.required_during_scheduling_ignored_during_execution.as_ref().map(node_terms);
        self
    }

    pub fn added_affinity(&self) -> Option<&[NodeTerm]> {
        self.added.as_deref()
    }

    /// Whether the default constraints are the system's own, which don't need a node to have all the labels.
    pub fn has_system_defaults(&self) -> bool {
        self.system_defaults
    }
}
