//! Prefers nodes with the most room left.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::snapshot::{PodInfo, Snapshot};

pub struct LeastAllocated;

impl Score for LeastAllocated {
    fn begin<'a>(&self, pod: &'a PodInfo, _: &'a Snapshot) -> Option<Rate<'a>> {
        let free = |has: i64, used: i64| {
            if has <= 0 || used > has { 0 } else { ((has - used) as i128 * MAX_SCORE as i128 / has as i128) as i64 }
        };
        Some(Box::new(move |node| {
            let cpu = free(node.allocatable.cpu_millis, node.assumed.cpu_millis + pod.assumed.cpu_millis);
            let memory = free(node.allocatable.memory_bytes, node.assumed.memory_bytes + pod.assumed.memory_bytes);
            (cpu + memory) / 2
        }))
    }
}
