//! Requests per second of two servers under the same load, in turn: A B A B …
//!
//! The client runs on the same cores as the server, and the machine may be busy otherwise. Both change from one minute to the
//! next; the ratio of neighbouring rounds suffers least, so that is what is reported.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;

use crate::stats::{median, quantile};

/// How long one server is under load before it is the other's turn.
const ROUND: Duration = Duration::from_secs(3);
/// Rounds of each server that count.
const ROUNDS: usize = 7;
/// Rounds of each server before those.
const WARM_UP_ROUNDS: usize = 1;

/// One client with a connection of its own.
pub trait Client: Send + 'static {
    /// Sends a request, and returns once the whole answer was read and found to be the right one.
    fn request(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// Puts load on both in turn and prints what they reached.
pub async fn compare<A: Client, B: Client>(
    what: &str,
    (name, ours): (&str, Vec<A>),
    (peer_name, peer): (&str, Vec<B>),
) -> Result<()> {
    let (mut ours, mut peer) = (ours, peer);
    let (mut rates, mut peer_rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..WARM_UP_ROUNDS + ROUNDS {
        let own_rate = rate(&mut ours).await?;
        let peer_rate = rate(&mut peer).await?;
        if round >= WARM_UP_ROUNDS {
            rates.push(own_rate);
            peer_rates.push(peer_rate);
            ratios.push(own_rate / peer_rate);
        }
    }
    println!(
        "{what}: {name} {:.0}/s, {peer_name} {:.0}/s, ratio {:.2} ({:.2} to {:.2} in {ROUNDS} rounds)",
        median(&rates),
        median(&peer_rates),
        median(&ratios),
        quantile(&ratios, 0.0),
        quantile(&ratios, 1.0),
    );
    Ok(())
}

/// Answers per second of all clients at once, for one round.
pub async fn rate<C: Client>(clients: &mut Vec<C>) -> Result<f64> {
    let started = Instant::now();
    let mut tasks: JoinSet<Result<(C, u64)>> = JoinSet::new();
    for mut client in clients.drain(..) {
        tasks.spawn(async move {
            let mut answers = 0;
            while started.elapsed() < ROUND {
                client.request().await?;
                answers += 1;
            }
            Ok((client, answers))
        });
    }
    // A request that is never answered must not hold up the benchmark.
    let ended = tokio::time::timeout(ROUND * 10, tasks.join_all()).await;
    let mut total = 0;
    for ended in ended.map_err(|_| anyhow!("a request was not answered within {:?}", ROUND * 9))? {
        let (client, answers) = ended?;
        clients.push(client);
        total += answers;
    }
    Ok(total as f64 / started.elapsed().as_secs_f64())
}
