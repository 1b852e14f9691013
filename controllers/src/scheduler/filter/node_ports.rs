//! Two pods of one node can't take the same host port.

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::Snapshot;

pub struct NodePorts;

impl Filter for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let pod: &PodInfo = &cycle.pod.info;
        if pod.ports.is_empty() {
            return Begin::Pass;
        }
        Begin::check(move |node| {
            if node.pods.values().any(|other| collide(pod, other)) {
                Err(Refusal::for_now("node(s) didn't have free ports for the requested pod ports"))
            } else {
                Ok(())
            }
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        match event {
            Event::Node { before, .. } => before.is_none(),
            Event::Freed { pod: other, .. } => collide(&pod.info, other),
            _ => false,
        }
    }
}

fn collide(pod: &PodInfo, other: &PodInfo) -> bool {
    other.ports.iter().any(|theirs| pod.ports.iter().any(|ours| ours.collides(theirs)))
}
