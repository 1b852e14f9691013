//! A pod that names its node goes nowhere else.

use super::{Begin, Filter, Refusal};
use crate::pods;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;

pub struct NodeName;

impl Filter for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let Some(wanted) = pods::node_name(cycle.pod.pod()) else { return Begin::Pass };
        Begin::check(move |node| {
            if node.name() == wanted {
                Ok(())
            } else {
                Err(Refusal::for_good("node(s) didn't match the requested node name"))
            }
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        matches!(event, Event::Node { node, .. } if pods::node_name(pod.pod()) == Some(node.name()))
    }
}
