//! Slows down the replacement of daemons that fail again and again: 1 s, then twice as long each time, up to 15 minutes.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::time;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(900);
/// Sets and nodes that are remembered; forgetting only makes a replacement quicker.
const MAX_REMEMBERED: usize = 8192;

struct Failure {
    at: Timestamp,
    wait: Duration,
}

/// The last failure on each node of each set, by uid and name.
#[derive(Default)]
pub struct Backoff(HashMap<(String, String), Failure>);

impl Backoff {
    /// Notes that a failed daemon is to be replaced; `Some` when that has to wait.
    pub fn replace(&mut self, set: &str, node: &str, now: Timestamp) -> Option<Duration> {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, failure| !is_forgotten(failure, now));
        }
        let slot = (set.to_owned(), node.to_owned());
        let wait = match self.0.get(&slot).filter(|failure| !is_forgotten(failure, now)) {
            None => FIRST,
            Some(last) => {
                let left = time::until(time::after(last.at, last.wait), now);
                if !left.is_zero() {
                    return Some(left);
                }
                (last.wait * 2).min(LONGEST)
            }
        };
        self.0.insert(slot, Failure { at: now, wait });
        None
    }
}

/// It ran for long enough to start afresh.
fn is_forgotten(failure: &Failure, now: Timestamp) -> bool {
    time::after(failure.at, LONGEST * 2) < now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_twice_as_long_and_a_good_hour_starts_afresh() {
        let mut backoff = Backoff::default();
        let mut replace = |second: i64| {
            backoff.replace("set", "node", Timestamp::from_second(second).unwrap()).map(|wait| wait.as_secs())
        };
        assert_eq!(
            [0, 0, 1, 1, 3, 4, 3604, 3604].map(&mut replace),
            [None, Some(1), None, Some(2), None, Some(3), None, Some(1)]
        );
    }
}
