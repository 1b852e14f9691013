//! Prefers nodes whose cpu and memory are used in like measure, so that neither is left over.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;

pub struct BalancedAllocation;

impl Score for BalancedAllocation {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        let pod = &cycle.pod.info.requests;
        if pod.cpu_millis == 0 && pod.memory_bytes == 0 {
            return None;
        }
        let share = |used: i64, has: i64| (has > 0).then(|| (used as f64 / has as f64).min(1.0));
        Some(Box::new(move |node| {
            let cpu = share(node.requested.cpu_millis.saturating_add(pod.cpu_millis), node.allocatable.cpu_millis);
            let memory =
                share(node.requested.memory_bytes.saturating_add(pod.memory_bytes), node.allocatable.memory_bytes);
            // What a node does not have cannot be out of balance.
            let (Some(cpu), Some(memory)) = (cpu, memory) else { return MAX_SCORE };
            // Half the distance is the standard deviation of two values.
            ((1.0 - (cpu - memory).abs() / 2.0) * MAX_SCORE as f64) as i64
        }))
    }
}
