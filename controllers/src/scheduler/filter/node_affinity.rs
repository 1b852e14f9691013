//! The pod's node selector and its required node affinity, and what its profile adds to them.

use k8s_openapi::api::core::v1::Node;

use super::{Begin, Check, Filter, Refusal};
use crate::nodes;
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;

const ENFORCED: &str = "node(s) didn't match scheduler-enforced node affinity";
const OWN: &str = "node(s) didn't match Pod's node affinity/selector";

pub struct NodeAffinity;

impl Filter for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let pod = cycle.pod;
        if pod.nodes.allows_all() && pod.profile.added_affinity().is_none() {
            return Begin::Pass;
        }
        let check: Check<'a> = Box::new(move |node| lets_in(pod, &node.node).map_err(Refusal::for_good));
        match pod.nodes.names() {
            None => Begin::Check(check),
            Some(names) if names.is_empty() => Begin::Nowhere("pod affinity terms conflict".into()),
            Some(names) => Begin::Among(names.into_iter().cloned().collect(), check),
        }
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, _: &Snapshot) -> bool {
        event.joins(|node| lets_in(pod, node).is_ok())
    }
}

fn lets_in(pod: &Pending, node: &Node) -> Result<(), &'static str> {
    let (name, labels) = (nodes::name(node), nodes::labels(node));
    if pod.profile.added_affinity().is_some_and(|terms| !terms.iter().any(|term| term.selects(name, labels))) {
        return Err(ENFORCED);
    }
    if pod.nodes.allows(name, labels) { Ok(()) } else { Err(OWN) }
}
