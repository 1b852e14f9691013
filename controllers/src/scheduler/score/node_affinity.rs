//! Prefers nodes that match the pod's preferred node affinity, by weight.

use super::{Rate, Score, scale_to_highest};
use crate::scheduler::filter::matches_term;
use crate::scheduler::snapshot::{PodInfo, Snapshot};

pub struct NodeAffinity;

impl Score for NodeAffinity {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Rate<'a>> {
        let affinity = pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_deref()?;
        Some(Box::new(move |node| {
            let matching = preferred.iter().filter(|term| matches_term(&term.preference, &node.node));
            matching.map(|term| i64::from(term.weight)).sum()
        }))
    }

    fn normalise(&self, ratings: &mut [i64]) {
        scale_to_highest(ratings, false);
    }
}
