//! Tainted nodes take only pods that tolerate every NoSchedule and NoExecute taint.

use k8s_openapi::api::core::v1::{Taint, Toleration};
use k8w_kinds::core::taints::tolerated;

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::{Snapshot, hard_taints};

pub struct TaintToleration;

impl Filter for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let pod = cycle.pod;
        Begin::check(move |node| {
            if lets_in(&node.hard_taints, tolerations(pod)) {
                Ok(())
            } else {
                // Which taint is not said: it may be more than the pod's owner should know (wording since v1.35).
                Err(Refusal::for_good("node(s) had untolerated taint(s)"))
            }
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        event.joins(|node| lets_in(hard_taints(node), tolerations(pod)))
    }
}

fn tolerations(pod: &Pending) -> Option<&Vec<Toleration>> {
    pod.pod().spec.as_ref()?.tolerations.as_ref()
}

fn lets_in<'n>(hard_taints: impl IntoIterator<Item = &'n Taint>, tolerations: Option<&Vec<Toleration>>) -> bool {
    hard_taints.into_iter().all(|taint| tolerated(tolerations, taint))
}
