//! Avoids nodes with PreferNoSchedule taints that the pod does not tolerate.

use k8w_kinds::core::taints::tolerated;

use super::{Rate, Score, scale_to_highest};
use crate::scheduler::cycle::Cycle;

pub struct TaintToleration;

impl Score for TaintToleration {
    fn begin<'a>(&self, cycle: &Cycle<'a>, feasible: &[usize]) -> Option<Rate<'a>> {
        if feasible.iter().all(|slot| cycle.snapshot.nodes[*slot].soft_taints.is_empty()) {
            return None;
        }
        let tolerations = cycle.pod.pod().spec.as_ref()?.tolerations.as_ref();
        Some(Box::new(move |node| {
            node.soft_taints.iter().filter(|taint| !tolerated(tolerations, taint)).count() as i64
        }))
    }

    fn normalise(&self, ratings: &mut [i64]) {
        scale_to_highest(ratings, true);
    }
}
