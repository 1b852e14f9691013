//! Slots: a node's room for live instances, and how pods share it.
//!
//! A slot is room for one memory and [`TABLES_PER_SLOT`] tables. Whoever makes an instance takes what its component needs
//! first, so that no pool of the engine's runs out under somebody else. A pod may hold as many slots as are free: alone it
//! gets half of them, two get a third each, and so on. Something is always left for a pod that holds less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::Component;

/// Tables of a slot.
pub const TABLES_PER_SLOT: u32 = 4;

/// What an instance of a component is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// At most.
    pub core_instances: u32,
    pub memories: u32,
    pub tables: u32,
}

impl Need {
    /// What instances of a component need. How many modules it instantiates cannot be asked: no more than `core_instances`.
    pub fn of(component: &Component, core_instances: u32) -> Need {
        // `None` is said of components that import modules, which no host has.
        let found = component.resources_required();
        let (memories, tables) = found.map_or((0, 0), |needed| (needed.num_memories, needed.num_tables));
        Need { core_instances, memories, tables }
    }

    fn slots(self) -> u32 {
        self.memories.max(self.tables.div_ceil(TABLES_PER_SLOT)).max(1)
    }
}

/// The slots of a node.
#[derive(Debug)]
pub struct Slots {
    free: AtomicU32,
}

/// The slots that the containers of one pod hold together.
#[derive(Debug)]
pub struct PodSlots {
    node: Arc<Slots>,
    held: AtomicU32,
}

/// Slots that are held until this is dropped.
#[derive(Debug)]
pub struct Held {
    pod: Arc<PodSlots>,
    count: u32,
}

/// There is no room for another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    #[error("all instance slots of this node are in use")]
    Node,
    #[error("this pod holds as many instance slots of this node as it leaves to others")]
    Pod,
}

impl Slots {
    pub fn new(count: u32) -> Arc<Slots> {
        Arc::new(Slots { free: AtomicU32::new(count) })
    }

    /// Those of a pod, which holds none so far.
    pub fn of_pod(self: &Arc<Slots>) -> Arc<PodSlots> {
        Arc::new(PodSlots { node: self.clone(), held: AtomicU32::new(0) })
    }
}

impl PodSlots {
    /// Takes what an instance needs.
    ///
    /// # Errors
    /// [`NoSlot`]
    pub fn take(self: &Arc<PodSlots>, need: Need) -> Result<Held, NoSlot> {
        let count = need.slots();
        // Counted before it is known whether there are so many: of several that are taken at once none is overlooked.
        let held = self.held.fetch_add(count, Ordering::Relaxed).saturating_add(count);
        let left = |free: u32| (held <= free).then(|| free - count);
        match self.node.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Ok(Held { pod: self.clone(), count }),
            Err(free) => {
                self.held.fetch_sub(count, Ordering::Relaxed);
                Err(if free < count { NoSlot::Node } else { NoSlot::Pod })
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pod.held.fetch_sub(self.count, Ordering::Relaxed);
        self.pod.node.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Need = need(1, 1);

    const fn need(memories: u32, tables: u32) -> Need {
        Need { core_instances: 1, memories, tables }
    }

    /// Takes slots for as long as there are any.
    fn fill(pod: &Arc<PodSlots>) -> Vec<Held> {
        std::iter::from_fn(|| pod.take(ONE).ok()).collect()
    }

    #[test]
    fn an_instance_takes_what_its_component_needs() {
        let slots = |memories, tables| need(memories, tables).slots();
        assert_eq!([slots(0, 0), slots(1, 4), slots(1, 5), slots(3, 4), slots(0, 128)], [1, 1, 2, 3, 32]);
    }

    #[test]
    fn pods_share_slots_and_leave_as_many_as_they_hold() {
        for (pods, share) in [(1, 30), (2, 20), (5, 10)] {
            let node = Slots::new(60);
            let pods: Vec<_> = (0..pods).map(|_| node.of_pod()).collect();
            let mut held: Vec<Held> = Vec::new();
            // In turn, until none of them gets more.
            loop {
                let before = held.len();
                held.extend(pods.iter().filter_map(|pod| pod.take(ONE).ok()));
                if held.len() == before {
                    break;
                }
            }
            for pod in &pods {
                assert_eq!(pod.held.load(Ordering::Relaxed), share);
                assert_eq!(pod.take(ONE).err(), Some(NoSlot::Pod));
            }
            assert!(node.of_pod().take(ONE).is_ok(), "another finds some");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let node = Slots::new(8);
        let (greedy, other) = (node.of_pod(), node.of_pod());
        let held = fill(&greedy);
        assert_eq!((held.len(), fill(&other).len()), (4, 2));
        drop(held);
        assert_eq!(fill(&other).len(), 4);
        assert!(other.take(need(8, 0)).is_ok(), "whoever holds nothing may take all that are free");
        assert_eq!(other.take(need(9, 0)).err(), Some(NoSlot::Node));
    }

    #[test]
    fn pods_that_hold_one_slot_fill_a_node() {
        let node = Slots::new(8);
        let held: Vec<Held> = (0..8).map(|_| node.of_pod().take(ONE).unwrap()).collect();
        assert_eq!(node.of_pod().take(ONE).err(), Some(NoSlot::Node));
        drop(held);
    }
}
