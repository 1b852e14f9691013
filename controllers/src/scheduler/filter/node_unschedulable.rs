//! Cordoned nodes take no pods, except those that tolerate the taint which says so.

use k8s_openapi::api::core::v1::Taint;
use k8w_kinds::core::taints::{NO_SCHEDULE, tolerated};

use super::{Begin, Filter, Refusal};
use crate::nodes;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;

pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: NO_SCHEDULE.into(), ..Taint::default() };
        let tolerations = cycle.pod.pod().spec.as_ref().and_then(|spec| spec.tolerations.as_ref());
        if tolerated(tolerations, &taint) {
            return Begin::Pass;
        }
        Begin::check(
            |node| {
                if node.unschedulable { Err(Refusal::for_good("node(s) were unschedulable")) } else { Ok(()) }
            },
        )
    }

    fn may_be_helped_by(&self, _: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        event.joins(|node| !nodes::is_unschedulable(node))
    }
}
