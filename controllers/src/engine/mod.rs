//! Runs controllers: changes go in, plans come out, outcomes go back in.
//!
//! [`Engine`] is a state machine without IO or clock: `driver` runs it on tokio with informers and the real API, a
//! simulation runs it on a virtual clock. Everything is level-triggered: controllers turn a change into keys, never
//! into work, and reconcile a key from what the world is by then.

mod discovery;
mod driver;
mod informer;
mod queue;
mod tasks;

use std::time::Duration;

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

pub use driver::drive;
pub use queue::Queue;

use crate::execute::{Executed, Failure, Outcome};
use crate::plan::Plan;
use crate::resource::Key;
use crate::world::{Change, Delta, World};

/// What a reconciler gets beside the world: time and chance come from outside.
pub struct Turn<'a> {
    pub now: Timestamp,
    pub rng: &'a mut dyn RngCore,
    /// How this key's plan failed last time, if it did.
    pub last_failure: Option<Failure>,
}

/// Collects the keys a change touches.
#[derive(Default)]
pub struct Wake {
    now: Vec<Key>,
    later: Vec<(Key, Duration)>,
    at: Vec<(Key, Timestamp)>,
}

impl Wake {
    pub fn now(&mut self, key: Key) {
        self.now.push(key);
    }

    pub fn after(&mut self, key: Key, delay: Duration) {
        self.later.push((key, delay));
    }

    /// Wakes the key when it is `time`, which may have passed.
    pub fn at(&mut self, key: Key, time: Timestamp) {
        self.at.push((key, time));
    }

    /// Wakes other objects than the one that changed. While first lists are coming in, which is object by object, each
    /// wakes itself, and nothing is reconciled before all are there.
    pub fn others(&mut self, world: &World, keys: impl Iterator<Item = Key>) {
        if world.synced() {
            self.now.extend(keys);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.later.is_empty() && self.at.is_empty()
    }
}

/// One controller. Most are stateless; what state there is must be a cache of the world.
pub trait Controller: Send {
    fn name(&self) -> &'static str;

    /// Which keys does this change touch? The world already contains it.
    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake);

    /// What should be done about the key, given the world?
    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan;

    /// Keys with a higher priority go first.
    fn priority(&self, _key: &Key, _world: &World) -> i32 {
        0
    }

    /// The key's plan has been executed; called before the engine takes in what was learned from it.
    fn finished(&mut self, _key: &Key, _outcome: &Outcome) {}

    /// Plans that may be executed at a time.
    fn max_plans_in_flight(&self) -> usize {
        32
    }
}

struct Row {
    controller: Box<dyn Controller>,
    queue: Queue,
}

/// A plan to execute; its outcome goes to [`Engine::finish`].
pub struct Work {
    row: usize,
    key: Key,
    requeue_after: Option<Duration>,
}

/// What [`Engine::next`] did.
pub enum Next {
    /// Execute this plan.
    Execute(Work, Plan),
    /// A key needed nothing; there may be more.
    Nothing,
    /// No key is due.
    Idle,
}

pub struct Engine {
    world: World,
    rows: Vec<Row>,
    /// The row to look at first, so that no controller starves another.
    turn: usize,
    rng: StdRng,
}

impl Engine {
    pub fn new(controllers: Vec<Box<dyn Controller>>, seed: u64) -> Self {
        let rows = controllers.into_iter().map(|controller| Row { controller, queue: Queue::default() }).collect();
        Self { world: World::default(), rows, turn: 0, rng: StdRng::seed_from_u64(seed) }
    }

    pub fn world(&self) -> &World {
        &self.world
    }

    /// Takes in a change and wakes the keys it touches.
    pub fn observe(&mut self, change: Change, now: Timestamp) {
        let discovered = matches!(change, Change::Discovered { .. });
        let mut deltas = self.world.apply(change);
        if discovered {
            deltas.extend(self.world.apply(Change::Resync));
        }
        let mut wake = Wake::default();
        for row in &mut self.rows {
            for delta in &deltas {
                row.controller.observe(delta, &self.world, &mut wake);
            }
            if wake.is_empty() {
                continue;
            }
            for key in wake.now.drain(..) {
                let priority = row.controller.priority(&key, &self.world);
                row.queue.add(key, priority);
            }
            for (key, delay) in wake.later.drain(..) {
                row.queue.add_at(key, crate::time::after(now, delay));
            }
            for (key, time) in wake.at.drain(..) {
                row.queue.add_at(key, time);
            }
        }
    }

    /// Reconciles the next key that is due.
    pub fn next(&mut self, now: Timestamp) -> Next {
        if !self.world.synced() {
            return Next::Idle;
        }
        let count = self.rows.len();
        for index in (0..count).map(|i| (self.turn + i) % count) {
            let row = &mut self.rows[index];
            row.queue.advance(now, |key| row.controller.priority(key, &self.world));
            if row.queue.running() >= row.controller.max_plans_in_flight() {
                continue;
            }
            let Some((key, last_failure)) = row.queue.pop() else { continue };
            self.turn = (index + 1) % count;
            let mut turn = Turn { now, rng: &mut self.rng, last_failure };
            let plan = row.controller.reconcile(&key, &self.world, &mut turn);
            let work = Work { row: index, key, requeue_after: plan.requeue_after };
            if plan.is_empty() {
                self.finish(work, Executed { outcome: Outcome::Done, learned: Vec::new() }, now);
                return Next::Nothing;
            }
            tracing::trace!(controller = row.controller.name(), key = %work.key, ?plan, "plan");
            return Next::Execute(work, plan);
        }
        Next::Idle
    }

    /// Takes in what came of a plan.
    pub fn finish(&mut self, work: Work, executed: Executed, now: Timestamp) {
        let row = &mut self.rows[work.row];
        if let Outcome::Failed(failure) = &executed.outcome {
            tracing::warn!(controller = row.controller.name(), key = %work.key, %failure, "plan failed");
        }
        row.controller.finished(&work.key, &executed.outcome);
        for change in executed.learned {
            self.observe(change, now);
        }
        let row = &mut self.rows[work.row];
        let priority = row.controller.priority(&work.key, &self.world);
        row.queue.finish(work.key, executed.outcome, work.requeue_after, priority, now, &mut self.rng);
    }

    /// When the next key becomes due by time alone; `None` when only a change can make one due.
    pub fn next_timer(&self) -> Option<Timestamp> {
        if !self.world.synced() {
            return None;
        }
        self.rows.iter().filter_map(|row| row.queue.next_timer()).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    /// Wakes a key at a time that it keeps.
    struct Alarm(Timestamp);

    impl Controller for Alarm {
        fn name(&self) -> &'static str {
            "alarm"
        }

        fn observe(&mut self, _: &Delta, _: &World, wake: &mut Wake) {
            wake.at(Key::new("ns", "a"), self.0);
        }

        fn reconcile(&mut self, _: &Key, _: &World, _: &mut Turn<'_>) -> Plan {
            Plan::none()
        }
    }

    #[test]
    fn a_time_that_was_set_does_not_move_with_the_change_that_set_it() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut engine = Engine::new(vec![Box::new(Alarm(at(10)))], 1);
        engine.world = testing::world("").0;
        let change = |version: &str| {
            let namespace =
                format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: a, resourceVersion: '{version}'}}\n");
            Change::Watched(testing::objects(&namespace).remove(0))
        };
        engine.observe(change("2001"), at(9));
        assert!(matches!(engine.next(at(9)), Next::Idle));
        assert_eq!(engine.next_timer(), Some(at(10)));
        assert!(matches!(engine.next(at(10)), Next::Nothing));
        engine.observe(change("2002"), at(99));
        assert!(matches!(engine.next(at(99)), Next::Nothing), "it has passed");
    }
}
