//! Tainted nodes take only pods that tolerate every NoSchedule and NoExecute taint.

use super::{Check, Filter, Refusal, is_node_change};
use crate::scheduler::snapshot::{PodInfo, Snapshot};
use crate::taints::{PREFER_NO_SCHEDULE, tolerated};
use crate::world::Delta;

pub struct TaintToleration;

impl Filter for TaintToleration {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Check<'a>> {
        let tolerations = pod.pod.spec.as_ref()?.tolerations.as_ref();
        Some(Box::new(move |node| {
            let mut hard = node.taints().filter(|taint| taint.effect != PREFER_NO_SCHEDULE);
            if hard.all(|taint| tolerated(tolerations, taint)) {
                Ok(())
            } else {
                // Which taint is not said: it may be more than the pod's owner should know (wording since v1.35).
                Err(Refusal::for_good("node(s) had untolerated taint(s)"))
            }
        }))
    }

    fn may_be_helped_by(&self, delta: &Delta) -> bool {
        is_node_change(delta)
    }
}
