//! Cordoned nodes take no pods, except those that tolerate the taint which says so.

use k8s_openapi::api::core::v1::Taint;

use super::{Check, Filter, Refusal, is_node_change};
use crate::scheduler::snapshot::{PodInfo, Snapshot};
use crate::taints::{NO_SCHEDULE, tolerated};
use crate::world::Delta;

pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Check<'a>> {
        let taint =
            Taint { key: "node.kubernetes.io/unschedulable".into(), effect: NO_SCHEDULE.into(), ..Taint::default() };
        if tolerated(pod.pod.spec.as_ref()?.tolerations.as_ref(), &taint) {
            return None;
        }
        Some(Box::new(|node| {
            let cordoned = node.node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true));
            if cordoned { Err(Refusal::for_good("node(s) were unschedulable")) } else { Ok(()) }
        }))
    }

    fn may_be_helped_by(&self, delta: &Delta) -> bool {
        is_node_change(delta)
    }
}
