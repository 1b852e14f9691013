//! How much CPU containers use now, from what they have used since they started.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::ContainerId;

/// A rate is over at least so long, so that it says more than what happened to run a moment ago.
const WINDOW: Duration = Duration::from_secs(10);

/// What was measured before, of each container that runs.
#[derive(Debug, Default)]
pub struct Rates(HashMap<ContainerId, Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    used_nanos: u64,
    /// The rate up to then.
    nano_cores: u64,
}

impl Rates {
    /// The rate of a container that has used `used_nanos` since it started: since the last sample, which is renewed when
    /// it is old enough; for a container that was never looked at, since its start.
    pub fn of(&mut self, id: &ContainerId, started: Timestamp, used_nanos: u64, now: Timestamp) -> u64 {
        let before = self.0.get(id).copied().unwrap_or(Sample { at: started, used_nanos: 0, nano_cores: 0 });
        let passed = Duration::try_from(now.duration_since(before.at)).unwrap_or_default();
        let rate = used_nanos.saturating_sub(before.used_nanos) as u128 * 1_000_000_000 / passed.as_nanos().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if passed < WINDOW {
            // Too soon to tell more than the last time; a container that has just started has no last time.
            return if self.0.contains_key(id) { before.nano_cores } else { rate };
        }
        self.0.insert(id.clone(), Sample { at: now, used_nanos, nano_cores: rate });
        rate
    }

    /// Forgets containers that run no more.
    pub fn retain(&mut self, running: &HashSet<ContainerId>) {
        self.0.retain(|id, _| running.contains(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_the_time_since_the_last_sample() {
        let id = ContainerId { pod_uid: "u".to_owned(), container: "c".to_owned(), attempt: 0 };
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let mut rates = Rates::default();
        assert_eq!(rates.of(&id, at(0), 1_000_000_000, at(2)), 500_000_000, "since its start");
        assert_eq!(rates.of(&id, at(0), 1_000_000_000, at(20)), 50_000_000);
        assert_eq!(rates.of(&id, at(0), 9_000_000_000, at(25)), 50_000_000, "too soon");
        assert_eq!(rates.of(&id, at(0), 21_000_000_000, at(40)), 1_000_000_000);
        rates.retain(&HashSet::new());
        assert!(rates.0.is_empty());
    }
}
