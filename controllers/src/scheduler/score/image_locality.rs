//! Prefers nodes that hold the pod's images, those of its volumes too, the more the larger these are.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;

/// Images of less than this together are pulled soon enough.
const MIN_BYTES: i64 = 23 * 1024 * 1024;
/// More than this, for each container, makes no difference.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * 1024 * 1024;

pub struct ImageLocality;

impl Score for ImageLocality {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        let spec = cycle.pod.pod().spec.as_ref()?;
        let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
        let of_containers = containers().filter_map(|container| container.image.as_deref());
        let volumes = spec.volumes.iter().flatten();
        let of_volumes = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
        let images = of_containers.chain(of_volumes).filter_map(|image| cycle.snapshot.images.holders(image));
        let images: Vec<_> = images.collect();
        if images.is_empty() {
            return None;
        }
        let nodes = cycle.snapshot.nodes.len().max(1) as f64;
        let max = MAX_BYTES_PER_CONTAINER * containers().count() as i64;
        Some(Box::new(move |node| {
            // What few nodes have attracts less, so that not all pods go where the image came first.
            let spread = |size: i64, holders: usize| (size as f64 * holders as f64 / nodes) as i64;
            let held = images.iter().filter_map(|holders| Some(spread(*holders.get(node.name())?, holders.len())));
            let sum = held.sum::<i64>().clamp(MIN_BYTES, max);
            MAX_SCORE * (sum - MIN_BYTES) / (max - MIN_BYTES)
        }))
    }
}
