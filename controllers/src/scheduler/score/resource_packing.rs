//! Prefers nodes with the most room left, or with the least, as the profile says.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::profile::Packing;

pub struct ResourcePacking;

impl Score for ResourcePacking {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        let pod = &cycle.pod.info.assumed;
        let packing = cycle.pod.profile.packing;
        let rate = move |(has, used): (i64, i64)| {
            let counted = match packing {
                Packing::LeastAllocated => has.saturating_sub(used).max(0),
                // Pods that ask for nothing are taken to need something: together that may be more than there is.
                Packing::MostAllocated => used.min(has),
            };
            match counted.checked_mul(MAX_SCORE) {
                Some(scaled) => scaled / has,
                None => counted / (has / MAX_SCORE),
            }
        };
        Some(Box::new(move |node| {
            let (has, used) = (&node.allocatable, &node.assumed);
            let both = [
                (has.cpu_millis, used.cpu_millis.saturating_add(pod.cpu_millis)),
                (has.memory_bytes, used.memory_bytes.saturating_add(pod.memory_bytes)),
            ];
            // What a node does not have says nothing about it.
            let rates = both.into_iter().filter(|(has, _)| *has > 0).map(rate);
            let (count, sum) = rates.fold((0, 0), |(count, sum), rate| (count + 1, sum + rate));
            if count == 0 { 0 } else { sum / count }
        }))
    }
}
