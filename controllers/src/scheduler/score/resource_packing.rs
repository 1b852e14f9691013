//! Prefers nodes with the most room left, or with the least, as the profile says.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::profile::Packing;

pub struct ResourcePacking;

impl Score for ResourcePacking {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        let pod = &cycle.pod.info.assumed;
        let packing = cycle.pod.profile.packing;
        let rate = move |has: i64, used: i64| {
            let counted = match packing {
                Packing::LeastAllocated => has.saturating_sub(used),
                Packing::MostAllocated => used,
            };
            if has <= 0 || used > has {
                return 0;
            }
            match counted.checked_mul(MAX_SCORE) {
                Some(scaled) => scaled / has,
                None => counted / (has / MAX_SCORE),
            }
        };
        Some(Box::new(move |node| {
            let cpu = rate(node.allocatable.cpu_millis, node.assumed.cpu_millis.saturating_add(pod.cpu_millis));
            let memory =
                rate(node.allocatable.memory_bytes, node.assumed.memory_bytes.saturating_add(pod.memory_bytes));
            (cpu + memory) / 2
        }))
    }
}
