//! Seeded simulation of the controllers: a small API server, delayed watches, failing writes, crashes between any two of
//! them, and a clock that moves only when nothing else can.

// Helpers of tests fail like tests; clippy sees only the functions marked as tests.
#![allow(clippy::unwrap_used)]

mod cluster;
mod daemon_sets;
mod deployments;
mod jobs;
mod server;
mod stateful_sets;
mod tidying;

/// Seeds per scenario, unless `K8W_SIM_SEEDS` says otherwise: a number, or a range `7..8` to replay one.
const SEEDS: u64 = 40;
/// More things than any scenario needs to settle.
const MAX_STEPS: usize = 60_000;

fn seeds() -> std::ops::Range<u64> {
    let Ok(asked) = std::env::var("K8W_SIM_SEEDS") else { return 0..SEEDS };
    let (first, end) = asked.split_once("..").unwrap_or(("0", &asked));
    first.parse().unwrap()..end.parse().unwrap()
}

fn for_each_seed(scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    for seed in seeds() {
        if let Err(cause) = std::panic::catch_unwind(|| scenario(seed)) {
            eprintln!("seed {seed} fails; K8W_SIM_SEEDS={seed}..{} replays it", seed + 1);
            std::panic::resume_unwind(cause);
        }
    }
}
