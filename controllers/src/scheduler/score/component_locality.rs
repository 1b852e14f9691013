//! Prefers nodes that hold the components of a wasm pod: they are small to pull, but take time to compile.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::filter::is_wasm;

pub struct ComponentLocality;

impl Score for ComponentLocality {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        if !is_wasm(&cycle.pod.info, cycle.snapshot) {
            return None;
        }
        let spec = cycle.pod.pod().spec.as_ref()?;
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let components = containers().filter_map(|c| cycle.snapshot.images.holders(c.image.as_deref()?));
        let components: Vec<_> = components.collect();
        if components.is_empty() {
            return None;
        }
        let wanted = containers().count() as i64;
        Some(Box::new(move |node| {
            let held = components.iter().filter(|holders| holders.contains_key(node.name())).count();
            MAX_SCORE * held as i64 / wanted
        }))
    }
}
