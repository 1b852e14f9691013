//! Seeded simulation of the controllers on the real object pipeline: delayed watches, failing writes, crashes between any
//! two of them, and a clock that moves only when nothing else can.

// Helpers of tests fail like tests; clippy sees only the functions marked as tests.
#![allow(clippy::unwrap_used)]

mod cluster;
mod cron_jobs;
mod daemon_sets;
mod deployments;
mod disruptions;
mod jobs;
mod nodes;
mod pipeline;
mod preemption;
mod properties;
mod rollbacks;
mod server;
mod stateful_sets;
mod tidying;
mod volumes;
mod whole;

use std::panic::{RefUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;

/// Seeds of a whole run, unless `K8W_SIM_SEEDS` says otherwise: a number, or a range `7..8` to replay one.
const SEEDS: u64 = 1_000;
/// A scenario takes every so many of them, starting where its name says, so that all together try every seed.
const STRIDE: usize = 10;
/// Likewise one in miniature, which takes less time.
const STRIDE_IN_MINIATURE: usize = 5;
/// More things than any scenario needs to settle.
const MAX_STEPS: usize = 60_000;

/// Seeds that the scenario of this name tries: all that are asked for, or its share of a whole run.
fn seeds(scenario: &str, stride: usize) -> Box<dyn Iterator<Item = u64> + Send> {
    let Ok(asked) = std::env::var("K8W_SIM_SEEDS") else {
        let first = scenario.bytes().map(u64::from).sum::<u64>() % stride as u64;
        return Box::new((first..SEEDS).step_by(stride));
    };
    let (first, end) = asked.split_once("..").unwrap_or(("0", &asked));
    Box::new(first.parse().unwrap()..end.parse().unwrap())
}

fn for_each_seed<F: Fn(u64) + Sync + RefUnwindSafe>(scenario: F) {
    for_each_seed_in(STRIDE, scenario);
}

/// Likewise, of every so many seeds. They are tried side by side; the first that fails is the last that is begun.
fn for_each_seed_in<F: Fn(u64) + Sync + RefUnwindSafe>(stride: usize, scenario: F) {
    let left = Mutex::new(seeds(std::any::type_name::<F>(), stride));
    let next = || left.lock().unwrap().next();
    let try_seeds = || {
        while let Some(seed) = next() {
            if let Err(cause) = catch_unwind(|| scenario(seed)) {
                *left.lock().unwrap() = Box::new(std::iter::empty());
                eprintln!("seed {seed} fails; K8W_SIM_SEEDS={seed}..{} replays it", seed + 1);
                resume_unwind(cause);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().unwrap().get();
        let tried: Vec<_> = (0..threads).map(|_| scope.spawn(try_seeds)).collect();
        tried.into_iter().for_each(|thread| thread.join().unwrap_or_else(|cause| resume_unwind(cause)));
    });
}
