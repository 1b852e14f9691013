//! Seeded simulation of the controllers: a small API server, delayed watches, failing writes, crashes between any two of
//! them, and a clock that moves only when nothing else can.

// Helpers of tests fail like tests; clippy sees only the functions marked as tests.
#![allow(clippy::unwrap_used)]

mod cluster;
mod deployments;
mod jobs;
mod server;
mod tidying;

/// Seeds per scenario. A failing one is named in the panic message and replays exactly.
const SEEDS: u64 = 40;
/// More things than any scenario needs to settle.
const MAX_STEPS: usize = 60_000;

fn for_each_seed(scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in 0..SEEDS {
        if let Err(cause) = std::panic::catch_unwind(|| scenario(seed)) {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(cause);
        }
    }
}
