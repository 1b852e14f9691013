//! A controller's work: keys, each at most once in line and at most once at work.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use rand::{Rng, RngCore};

use crate::execute::{Failure, Outcome};
use crate::resource::Key;
use crate::time;

/// Wait after a first failure; doubles with each further one.
const FIRST_BACKOFF_MS: u64 = 5;
const MAX_BACKOFF_MS: u64 = 60_000;
/// Each wait is lengthened by up to this share, so that keys that failed together don't come back together.
const BACKOFF_JITTER: f64 = 0.2;

#[derive(Default)]
struct Item {
    queued: bool,
    running: bool,
    /// Asked for again while running.
    dirty: bool,
    failures: u32,
    last_failure: Option<Failure>,
    timer: Option<Timestamp>,
}

impl Item {
    fn is_forgettable(&self) -> bool {
        !self.queued && !self.running && self.failures == 0 && self.timer.is_none()
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ready {
    priority: i32,
    order: Reverse<u64>,
    key: Key,
}

/// Keys by priority, then by the order they came in.
#[derive(Default)]
pub struct Queue {
    items: HashMap<Key, Item>,
    ready: BinaryHeap<Ready>,
    timers: BTreeSet<(Timestamp, Key)>,
    arrivals: u64,
    running: usize,
}

impl Queue {
    /// Puts the key in line, unless it is there. A running key comes back when it is done.
    pub fn add(&mut self, key: Key, priority: i32) {
        let item = self.items.entry(key.clone()).or_default();
        if item.running {
            item.dirty = true;
        } else if !item.queued {
            item.queued = true;
            if let Some(at) = item.timer.take() {
                self.timers.remove(&(at, key.clone()));
            }
            self.arrivals += 1;
            self.ready.push(Ready { priority, order: Reverse(self.arrivals), key });
        }
    }

    /// Puts the key in line at `at`, unless it will be sooner.
    pub fn add_at(&mut self, key: Key, at: Timestamp) {
        let item = self.items.entry(key.clone()).or_default();
        if item.queued || item.timer.is_some_and(|sooner| sooner <= at) {
            return;
        }
        if let Some(later) = item.timer.replace(at) {
            self.timers.remove(&(later, key.clone()));
        }
        self.timers.insert((at, key));
    }

    /// Moves the keys whose time has come into the line.
    pub fn advance(&mut self, now: Timestamp, priority: impl Fn(&Key) -> i32) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.timers.pop_first() else { return };
            if let Some(item) = self.items.get_mut(&key) {
                item.timer = None;
            }
            let priority = priority(&key);
            self.add(key, priority);
        }
    }

    /// The next key, which is now running, and how it failed last time.
    pub fn pop(&mut self) -> Option<(Key, Option<Failure>)> {
        let key = self.ready.pop()?.key;
        let item = self.items.entry(key.clone()).or_default();
        item.queued = false;
        item.running = true;
        self.running += 1;
        Some((key, item.last_failure.clone()))
    }

    /// Ends the key's run.
    pub fn finish(
        &mut self,
        key: Key,
        outcome: Outcome,
        requeue_after: Option<Duration>,
        priority: i32,
        now: Timestamp,
        rng: &mut dyn RngCore,
    ) {
        let Some(item) = self.items.get_mut(&key) else { return };
        item.running = false;
        self.running -= 1;
        let dirty = std::mem::take(&mut item.dirty);
        let failed = match outcome {
            Outcome::Done => {
                item.failures = 0;
                item.last_failure = None;
                if let Some(delay) = requeue_after {
                    self.add_at(key.clone(), time::after(now, delay));
                }
                false
            }
            Outcome::Stale => {
                item.failures += 1;
                true
            }
            Outcome::Failed(failure) => {
                item.failures += 1;
                item.last_failure = Some(failure);
                let wait = backoff(item.failures, rng);
                self.add_at(key, time::after(now, wait));
                return;
            }
        };
        if dirty {
            self.add(key, priority);
        } else if failed {
            let wait = backoff(self.items.get(&key).map_or(1, |item| item.failures), rng);
            self.add_at(key, time::after(now, wait));
        } else if self.items.get(&key).is_some_and(Item::is_forgettable) {
            self.items.remove(&key);
        }
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }
}

fn backoff(failures: u32, rng: &mut dyn RngCore) -> Duration {
    let base_ms = FIRST_BACKOFF_MS.saturating_mul(1 << (failures.max(1) - 1).min(20)).min(MAX_BACKOFF_MS);
    Duration::from_millis(base_ms).mul_f64(1.0 + rng.random_range(0.0..BACKOFF_JITTER))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn key(name: &str) -> Key {
        Key::new("ns", name)
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(millis).unwrap()
    }

    fn popped(queue: &mut Queue) -> Option<String> {
        queue.pop().map(|(key, _)| key.name.to_string())
    }

    #[test]
    fn a_key_waits_once_and_runs_once_at_a_time() {
        let (mut queue, mut rng) = (Queue::default(), StdRng::seed_from_u64(1));
        queue.add(key("a"), 0);
        queue.add(key("a"), 0);
        assert_eq!(popped(&mut queue).as_deref(), Some("a"));
        queue.add(key("a"), 0);
        assert_eq!(popped(&mut queue), None, "it is running");
        queue.finish(key("a"), Outcome::Done, None, 0, at(0), &mut rng);
        assert_eq!(popped(&mut queue).as_deref(), Some("a"), "it was asked for meanwhile");
        queue.finish(key("a"), Outcome::Done, None, 0, at(0), &mut rng);
        assert!(queue.items.is_empty());
    }

    #[test]
    fn higher_priority_goes_first_then_first_come() {
        let mut queue = Queue::default();
        for (name, priority) in [("a", 0), ("b", 5), ("c", 5), ("d", -1)] {
            queue.add(key(name), priority);
        }
        let order: Vec<_> = std::iter::from_fn(|| popped(&mut queue)).collect();
        assert_eq!(order, ["b", "c", "a", "d"]);
    }

    #[test]
    fn failures_wait_longer_each_time_and_are_told_to_the_next_run() {
        let (mut queue, mut rng) = (Queue::default(), StdRng::seed_from_u64(1));
        let mut now = at(0);
        let mut waits = Vec::new();
        queue.add(key("a"), 0);
        for _ in 0..20 {
            queue.pop().unwrap();
            let failure = Failure { message: "no".into(), ..Failure::default() };
            queue.finish(key("a"), Outcome::Failed(failure), None, 0, now, &mut rng);
            let next = queue.next_timer().unwrap();
            waits.push(next.duration_since(now).as_millis());
            now = next;
            queue.advance(now, |_| 0);
        }
        assert!(waits.windows(2).take(12).all(|w| w[0] < w[1]), "{waits:?}");
        assert!(waits[19] <= 72_000 && waits[0] >= 5, "{waits:?}");
        assert_eq!(queue.pop().unwrap().1.unwrap().message, "no");
    }

    #[test]
    fn an_event_ends_the_wait() {
        let mut queue = Queue::default();
        queue.add_at(key("a"), at(100));
        queue.add_at(key("a"), at(200));
        assert_eq!(queue.next_timer(), Some(at(100)));
        queue.add(key("a"), 0);
        assert_eq!((popped(&mut queue).as_deref(), queue.next_timer()), (Some("a"), None));
    }
}
