//! What calls by `wasi:http` cost whoever makes them.

use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{Method, Response};
use wasip3::wit_future;

use crate::http::outgoing;
use crate::println;

/// How often one target is called before it is the next one's turn.
const ROUND: usize = 100;

/// Calls each `authority/path` in turns for so many milliseconds; a line for each, with the nanoseconds of a call, mean and p99, of
/// the second half of its calls.
pub async fn measure(milliseconds: u64, targets: &[String]) {
    let mut taken: Vec<Vec<u64>> = targets.iter().map(|_| Vec::new()).collect();
    let begun = monotonic_clock::now();
    while monotonic_clock::now() - begun < milliseconds * 1_000_000 {
        for (target, taken) in targets.iter().zip(&mut taken) {
            for _ in 0..ROUND {
                let begun = monotonic_clock::now();
                call(target).await;
                taken.push(monotonic_clock::now() - begun);
            }
        }
    }
    for (target, taken) in targets.iter().zip(&mut taken) {
        let mut counted = taken.split_off(taken.len() / 2);
        counted.sort_unstable();
        let mean = counted.iter().sum::<u64>() / counted.len().max(1) as u64;
        let p99 = counted.get(counted.len() * 99 / 100).copied().unwrap_or_default();
        println(&format!("{target} {mean} {p99}")).await;
    }
}

/// One GET, to the end of its answer.
async fn call(target: &str) {
    let response = client::send(outgoing(target, Method::Get, None)).await.expect("an answer");
    assert_eq!(response.get_status_code(), 200, "{target}");
    let (_, done) = wit_future::new(|| Ok(()));
    let (body, trailers) = Response::consume_body(response, done);
    body.collect().await;
    trailers.await.expect("the body comes in");
}
