//! What calls by `wasi:http` cost whoever makes them.

use wasip3::clocks::monotonic_clock;
use wasip3::http::client;
use wasip3::http::types::{Method, Response};
use wasip3::wit_future;

use crate::http::outgoing;
use crate::println;
use crate::taken::{ROUND, told};

/// Calls each `authority/path` in turns for so many milliseconds, and says how long that took ([`told`]).
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
    for line in told(targets, taken) {
        println(&line).await;
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
