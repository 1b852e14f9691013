//! Prefers nodes that match the pod's preferred node affinity, by weight.

use super::{Rate, Score, scale_to_highest};
use crate::scheduler::cycle::Cycle;

pub struct NodeAffinity;

impl Score for NodeAffinity {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        let preferred = &cycle.pod.preferred_nodes;
        if preferred.is_empty() {
            return None;
        }
        Some(Box::new(move |node| {
            let matching = preferred.iter().filter(|(_, term)| term.selects(node.name(), node.labels()));
            matching.map(|(weight, _)| weight).sum()
        }))
    }

    fn normalise(&self, ratings: &mut [i64]) {
        scale_to_highest(ratings, false);
    }
}
