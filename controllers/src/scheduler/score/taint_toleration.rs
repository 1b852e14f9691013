//! Avoids nodes with PreferNoSchedule taints that the pod does not tolerate.

use super::{Rate, Score, scale_to_highest};
use crate::scheduler::snapshot::{PodInfo, Snapshot};
use crate::taints::{PREFER_NO_SCHEDULE, tolerated};

pub struct TaintToleration;

impl Score for TaintToleration {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Rate<'a>> {
        let tolerations = pod.pod.spec.as_ref()?.tolerations.as_ref();
        Some(Box::new(move |node| {
            let soft = node.taints().filter(|taint| taint.effect == PREFER_NO_SCHEDULE);
            soft.filter(|taint| !tolerated(tolerations, taint)).count() as i64
        }))
    }

    fn normalise(&self, ratings: &mut [i64]) {
        scale_to_highest(ratings, true);
    }
}
