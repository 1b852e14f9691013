//! Two pods of one node can't take the same host port.

use super::{Check, Filter, Refusal, frees_a_node, is_node_change};
use crate::scheduler::snapshot::{PodInfo, Snapshot};
use crate::world::Delta;

pub struct NodePorts;

impl Filter for NodePorts {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Check<'a>> {
        if pod.ports.is_empty() {
            return None;
        }
        Some(Box::new(|node| {
            let mut taken = node.pods.values().flat_map(|other| &other.ports);
            if taken.any(|theirs| pod.ports.iter().any(|ours| ours.collides(theirs))) {
                Err(Refusal::for_now("node(s) didn't have free ports for the requested pod ports"))
            } else {
                Ok(())
            }
        }))
    }

    fn may_be_helped_by(&self, delta: &Delta) -> bool {
        is_node_change(delta) || frees_a_node(delta)
    }
}
