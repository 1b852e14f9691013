//! Calls within this process, one at a time, of several ways in turn: A B C A B C …

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::future::{BoxFuture, try_join_all};

use crate::stats::median;

/// How long one way is called before it is the next one's turn.
const ROUND: Duration = Duration::from_millis(200);
/// Rounds of each that count.
const ROUNDS: usize = 25;
/// Rounds of each before those.
const WARM_UP_ROUNDS: usize = 2;

/// One way to have something done.
pub struct Way {
    pub name: &'static str,
    pub call: Box<dyn Fn() -> BoxFuture<'static, Result<()>> + Send + Sync>,
}

impl Way {
    pub fn new<F>(name: &'static str, call: impl Fn() -> F + Send + Sync + 'static) -> Way
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Way { name, call: Box::new(move || Box::pin(call())) }
    }
}

/// How long a call takes in each of the ways: µs, medians of the rounds' means. `callers` call at the same time.
pub async fn in_turn(ways: Vec<Way>, callers: usize) -> Result<Vec<f64>> {
    // On a thread of the runtime's own, where what a call spawns has the shortest way.
    let measured = tokio::spawn(async move {
        let mut micros = vec![Vec::with_capacity(ROUNDS); ways.len()];
        for round in 0..WARM_UP_ROUNDS + ROUNDS {
            for (way, micros) in ways.iter().zip(&mut micros) {
                let mean = mean(way, callers).await?;
                if round >= WARM_UP_ROUNDS {
                    micros.push(mean);
                }
            }
        }
        anyhow::Ok(micros.iter().map(|micros| median(micros)).collect())
    });
    measured.await?
}

async fn mean(way: &Way, callers: usize) -> Result<f64> {
    let begun = Instant::now();
    let one = || async {
        let mut calls = 0u32;
        while begun.elapsed() < ROUND {
            (way.call)().await?;
            calls += 1;
        }
        anyhow::Ok(calls)
    };
    let calls: u32 = try_join_all((0..callers).map(|_| one())).await?.into_iter().sum();
    if calls == 0 {
        bail!("{} did nothing", way.name);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}
