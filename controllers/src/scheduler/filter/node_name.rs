//! A pod that names its node goes nowhere else.

use super::{Check, Filter, Refusal, is_node_change};
use crate::pods;
use crate::scheduler::snapshot::{PodInfo, Snapshot};
use crate::world::Delta;

pub struct NodeName;

impl Filter for NodeName {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Check<'a>> {
        let wanted = pods::node_name(&pod.pod)?;
        Some(Box::new(move |node| {
            if node.name() == wanted {
                Ok(())
            } else {
                Err(Refusal::for_good("node(s) didn't match the requested node name"))
            }
        }))
    }

    fn may_be_helped_by(&self, delta: &Delta) -> bool {
        is_node_change(delta)
    }
}
