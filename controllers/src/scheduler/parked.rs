//! Pods that fit nowhere, until something happens that may help one of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::event::Event;
use super::filter;
use super::pending::Pending;
use super::snapshot::Snapshot;
use crate::engine::Wake;
use crate::resource::Key;
use crate::time;

/// Wait after a pod's first fruitless attempt before an event may bring the next; doubles each time.
const FIRST_BACKOFF_MS: u64 = 10;
const MAX_BACKOFF_MS: u64 = 10_000;

struct Waiting {
    pod: Arc<Pending>,
    /// Bits of the filters that refused; none set when there was no node at all.
    filters: u64,
    attempts: u32,
    not_before: Timestamp,
}

#[derive(Default)]
pub struct Parked(HashMap<Key, Waiting>);

impl Parked {
    pub fn contains(&self, key: &Key) -> bool {
        self.0.contains_key(key)
    }

    pub fn remove(&mut self, key: &Key) {
        self.0.remove(key);
    }

    pub fn park(&mut self, key: &Key, pod: Arc<Pending>, filters: u64, now: Timestamp) {
        let attempts = self.0.get(key).map_or(0, |waiting| waiting.attempts) + 1;
        let wait_ms = FIRST_BACKOFF_MS.saturating_mul(1 << (attempts - 1).min(20)).min(MAX_BACKOFF_MS);
        let not_before = time::after(now, Duration::from_millis(wait_ms));
        self.0.insert(key.clone(), Waiting { pod, filters, attempts, not_before });
    }

    /// Wakes the pods that the event may help.
    pub fn wake(&self, event: &Event<'_>, snapshot: &Snapshot, wake: &mut Wake) {
        for (key, waiting) in &self.0 {
            let refusing = filter::all().iter().enumerate().filter(|(bit, _)| waiting.filters & (1 << bit) != 0);
            let is_first_node = waiting.filters == 0 && matches!(event, Event::Node { .. });
            let mut refusing = refusing.map(|(_, filter)| filter);
            if is_first_node || refusing.any(|filter| filter.may_be_helped_by(&waiting.pod, event, snapshot)) {
                wake.at(key.clone(), waiting.not_before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8w_kinds::core::selection::Selector;

    use super::*;

    #[test]
    fn each_fruitless_attempt_doubles_the_wait_until_the_pod_is_placed() {
        let pod = Arc::new(Pending::new(Arc::default(), Arc::default(), &Selector::default()));
        let (key, now) = (Key::new("ns", "p"), Timestamp::UNIX_EPOCH);
        let wait = |parked: &mut Parked| {
            parked.park(&key, pod.clone(), 0, now);
            parked.0[&key].not_before.duration_since(now).as_millis()
        };
        let mut parked = Parked::default();
        let waits: Vec<_> = (0..12).map(|_| wait(&mut parked)).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_000, 10_000]);
        parked.remove(&key);
        assert_eq!(wait(&mut parked), 10);
    }
}
