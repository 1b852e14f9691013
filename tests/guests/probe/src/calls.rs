//! What calls by `wasi:http` cost whoever makes them.

use std::io::Read;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{IncomingBody, Method};

use crate::http::outgoing;
use crate::net::println;

/// How often one target is called before it is the next one's turn.
const ROUND: usize = 100;

/// Calls each `authority/path` in turns for so many milliseconds; a line for each, with the nanoseconds of a call, mean and p99, of
/// the second half of its calls.
pub fn measure(milliseconds: u64, targets: &[String]) {
    let mut taken: Vec<Vec<u64>> = targets.iter().map(|_| Vec::new()).collect();
    let begun = monotonic_clock::now();
    while monotonic_clock::now() - begun < milliseconds * 1_000_000 {
        for (target, taken) in targets.iter().zip(&mut taken) {
            for _ in 0..ROUND {
                let begun = monotonic_clock::now();
                call(target);
                taken.push(monotonic_clock::now() - begun);
            }
        }
    }
    for (target, taken) in targets.iter().zip(&mut taken) {
        let mut counted = taken.split_off(taken.len() / 2);
        counted.sort_unstable();
        let mean = counted.iter().sum::<u64>() / counted.len().max(1) as u64;
        let p99 = counted.get(counted.len() * 99 / 100).copied().unwrap_or_default();
        println(&format!("{target} {mean} {p99}"));
    }
}

/// One GET, to the end of its answer.
fn call(target: &str) {
    let future = outgoing_handler::handle(outgoing(&Method::Get, target), None).expect("a request that can be sent");
    future.subscribe().block();
    let response = future.get().expect("ready").expect("taken once").expect("an answer");
    assert_eq!(response.status(), 200, "{target}");
    let body = response.consume().expect("a response has one body");
    let mut stream = body.stream().expect("a body has one stream");
    Read::read_to_end(&mut stream, &mut Vec::new()).expect("the body comes in");
    drop(stream);
    drop(IncomingBody::finish(body));
}
