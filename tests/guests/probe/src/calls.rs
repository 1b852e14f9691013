//! What calls by `wasi:http` cost whoever makes them.

use std::io::Read;

use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{IncomingBody, Method};

use crate::http::outgoing;
use crate::net::println;
use crate::taken::{ROUND, told};

/// Calls each `authority/path` in turns for so many milliseconds, and says how long that took ([`told`]).
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
    for line in told(targets, taken) {
        println(&line);
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
