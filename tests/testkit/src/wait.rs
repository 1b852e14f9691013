//! Waiting for conditions, always with a bound.

use std::time::{Duration, Instant};

/// How long a condition may take to come true. Generous: a loaded machine must not fail a test.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `look` until it answers `Ok`, and panics with its last complaint after [`DEFAULT_TIMEOUT`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEFAULT_TIMEOUT;
    loop {
        match look() {
            Ok(value) => return value,
            Err(complaint) if Instant::now() >= deadline => panic!("{what} did not happen: {complaint}"),
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}
