//! Where a pod runs best: each score a file, [`all`] the table with its weights.

mod balanced_allocation;
mod least_allocated;
mod node_affinity;
mod taint_toleration;

use super::snapshot::{NodeInfo, PodInfo, Snapshot};

/// The best a node can get from one score, before its weight.
pub const MAX_SCORE: i64 = 100;

pub type Rate<'a> = Box<dyn Fn(&NodeInfo) -> i64 + 'a>;

pub trait Score: Sync {
    /// Looks at the pod once and gives a rating for nodes, or `None` if all nodes are the same to this pod.
    fn begin<'a>(&self, pod: &'a PodInfo, snapshot: &'a Snapshot) -> Option<Rate<'a>>;

    /// Brings the ratings of all feasible nodes into 0 ..= [`MAX_SCORE`].
    fn normalise(&self, _ratings: &mut [i64]) {}
}

/// THE table of scores with kube-scheduler's default weights.
pub fn all() -> &'static [(&'static dyn Score, i64)] {
    &[
        (&taint_toleration::TaintToleration, 3),
        (&node_affinity::NodeAffinity, 2),
        (&least_allocated::LeastAllocated, 1),
        (&balanced_allocation::BalancedAllocation, 1),
    ]
}

/// Scales the highest rating to [`MAX_SCORE`]; `reversed`, the highest becomes 0.
fn scale_to_highest(ratings: &mut [i64], reversed: bool) {
    let highest = ratings.iter().copied().max().unwrap_or(0);
    for rating in ratings {
        let scaled = if highest == 0 { 0 } else { *rating * MAX_SCORE / highest };
        *rating = if reversed { MAX_SCORE - scaled } else { scaled };
    }
}
