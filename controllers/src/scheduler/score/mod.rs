//! Where a pod runs best: each score a file, [`all`] the table with its weights.

mod balanced_allocation;
mod component_locality;
mod image_locality;
mod inter_pod_affinity;
mod node_affinity;
mod pod_topology_spread;
mod resource_packing;
mod taint_toleration;
#[cfg(test)]
mod tests;

use super::cycle::Cycle;
use super::snapshot::NodeInfo;

/// The best a node can get from one score, before its weight.
pub const MAX_SCORE: i64 = 100;

pub type Rate<'a> = Box<dyn Fn(&NodeInfo) -> i64 + 'a>;

pub trait Score: Sync {
    /// Looks at the pod and the nodes in question once and gives a rating for them, or `None` if all nodes are the same to
    /// this pod.
    fn begin<'a>(&self, cycle: &Cycle<'a>, feasible: &[usize]) -> Option<Rate<'a>>;

    /// Brings the ratings of all feasible nodes into 0 ..= [`MAX_SCORE`].
    fn normalise(&self, _ratings: &mut [i64]) {}
}

/// THE table of scores with kube-scheduler's default weights; locality of components is k8w's own.
pub fn all() -> &'static [(&'static dyn Score, i64)] {
    &[
        (&taint_toleration::TaintToleration, 3),
        (&node_affinity::NodeAffinity, 2),
        (&resource_packing::ResourcePacking, 1),
        (&pod_topology_spread::PodTopologySpread, 2),
        (&inter_pod_affinity::InterPodAffinity, 2),
        (&balanced_allocation::BalancedAllocation, 1),
        (&image_locality::ImageLocality, 1),
        (&component_locality::ComponentLocality, 1),
    ]
}

/// What all scores together make of each feasible node.
pub fn totals(cycle: &Cycle<'_>, feasible: &[usize]) -> Vec<i64> {
    let mut totals = vec![0i64; feasible.len()];
    let mut ratings = vec![0i64; feasible.len()];
    for (score, weight) in all() {
        let Some(rate) = score.begin(cycle, feasible) else { continue };
        for (rating, slot) in ratings.iter_mut().zip(feasible) {
            *rating = rate(&cycle.snapshot.nodes[*slot]);
        }
        score.normalise(&mut ratings);
        for (total, rating) in totals.iter_mut().zip(&ratings) {
            *total += rating * weight;
        }
    }
    totals
}

/// Scales the highest rating to [`MAX_SCORE`]; `reversed`, the highest becomes 0.
fn scale_to_highest(ratings: &mut [i64], reversed: bool) {
    let highest = ratings.iter().copied().max().unwrap_or(0);
    for rating in ratings {
        let scaled = if highest == 0 { 0 } else { *rating * MAX_SCORE / highest };
        *rating = if reversed { MAX_SCORE - scaled } else { scaled };
    }
}
