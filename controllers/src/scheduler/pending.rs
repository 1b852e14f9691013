//! A pod that wants a node, with all its wishes compiled.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use k8w_kinds::core::selection::{NO_LABELS, NodeSelection, NodeTerm, Selector};

use super::pod_info::PodInfo;
use super::profile::Profile;
use super::topology::{Terrain, Tolerations, Who};

/// A topology spread constraint: these pods are to be spread over this terrain.
#[derive(Debug)]
pub struct Spread {
    pub who: Who,
    pub terrain: Terrain,
    pub max_skew: i64,
    pub min_domains: usize,
    /// Whether the pod itself will count.
    pub counts_itself: bool,
}

#[derive(Debug)]
pub struct Pending {
    pub info: Arc<PodInfo>,
    pub profile: Arc<Profile>,
    pub nodes: NodeSelection,
    pub preferred_nodes: Vec<(i64, NodeTerm)>,
    /// Must hold.
    pub spread: Vec<Spread>,
    /// Should hold.
    pub soft_spread: Vec<Spread>,
    /// Whether `soft_spread` is the cluster's default, which also counts for nodes without some of the labels.
    pub spreads_by_default: bool,
}

impl Pending {
    /// `kin` selects the pods of the same Services and of the same controller, which are spread by default; without any,
    /// there is nothing to spread.
    pub fn new(pod: Arc<Pod>, profile: Arc<Profile>, kin: &Selector) -> Self {
        let spec = pod.spec.as_ref();
        let nodes = spec.map(NodeSelection::of).unwrap_or_default();
        let affinity = spec.and_then(|s| s.affinity.as_ref()?.node_affinity.as_ref());
        let preferred = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let preferred = preferred.into_iter().flatten();
        let preferred_nodes = preferred.map(|term| (i64::from(term.weight), NodeTerm::of(&term.preference))).collect();

        let own = spec.and_then(|s| s.topology_spread_constraints.as_deref()).unwrap_or_default();
        let spreads_by_default = own.is_empty();
        let constraints = match own {
            [] if kin.is_empty() => &[],
            [] => profile.default_constraints.as_slice(),
            own => own,
        };
        let compiled = |when: &str, needs_all: bool| {
            let constraints: Vec<_> = constraints.iter().filter(|c| c.when_unsatisfiable == when).collect();
            let keys: Vec<_> = constraints.iter().map(|c| c.topology_key.clone()).collect();
            let needs = |key: &String| keys.iter().filter(|k| needs_all && *k != key).cloned().collect();
            let pods = |c: &TopologySpreadConstraint| {
                if spreads_by_default {
                    return kin.clone();
                }
                let labels = pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
                Selector::of(c.label_selector.as_ref()).like(labels, c.match_label_keys.as_ref(), false)
            };
            let compile = |c: &TopologySpreadConstraint| spread(c, &pod, &nodes, pods(c), needs(&c.topology_key));
            constraints.into_iter().map(compile).collect()
        };
        Self {
            spread: compiled("DoNotSchedule", true),
            soft_spread: compiled("ScheduleAnyway", !spreads_by_default || !profile.has_system_defaults()),
            spreads_by_default,
            preferred_nodes,
            nodes,
            profile,
            info: Arc::new(PodInfo::new(pod)),
        }
    }

    pub fn pod(&self) -> &Pod {
        &self.info.pod
    }

    /// The node that was promised to the pod when others were evicted for it.
    pub fn nominated_node(&self) -> Option<&str> {
        self.pod().status.as_ref()?.nominated_node_name.as_deref().filter(|name| !name.is_empty())
    }
}

fn spread(
    constraint: &TopologySpreadConstraint,
    pod: &Pod,
    nodes: &NodeSelection,
    pods: Selector,
    needs: Vec<String>,
) -> Spread {
    let honors_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    let honors_taints = constraint.node_taints_policy.as_deref() == Some("Honor");
    let tolerations = || Tolerations::new(pod.spec.as_ref().and_then(|s| s.tolerations.as_ref()));
    let terrain = Terrain {
        key: constraint.topology_key.clone(),
        needs,
        selection: if honors_affinity { nodes.clone() } else { NodeSelection::default() },
        tolerations: honors_taints.then(tolerations),
    };
    Spread {
        counts_itself: pods.selects(pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS)),
        who: Who::staying_within(pod.metadata.namespace.as_deref().unwrap_or_default(), pods),
        terrain,
        max_skew: i64::from(constraint.max_skew),
        min_domains: constraint.min_domains.and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
    }
}
