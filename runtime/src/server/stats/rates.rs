//! How much CPU somebody uses now, from what has been used since a beginning.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::engine::ContainerId;

/// A rate is over at least so long, so that it says more than what happened to run a moment ago.
const WINDOW: Duration = Duration::from_secs(10);

/// Who uses CPU.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum User {
    Machine,
    /// By its uid.
    Pod(String),
    Container(ContainerId),
}

/// What was measured before, of whoever is there.
#[derive(Debug, Default)]
pub struct Rates(HashMap<User, Sample>);

#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Timestamp,
    used_nanos: u64,
    /// The rate up to then, if there was a sample before.
    nano_cores: Option<u64>,
}

impl Rates {
    /// Begins with somebody who has used something already.
    pub fn begin(&mut self, user: User, used_nanos: u64, at: Timestamp) {
        self.0.insert(user, Sample { at, used_nanos, nano_cores: None });
    }

    /// The rate of somebody who has used `used_nanos` since they started: since the last sample, which is renewed when it is
    /// old enough; of one that was never looked at, since the start.
    pub fn of(&mut self, user: User, started: Timestamp, used_nanos: u64, now: Timestamp) -> u64 {
        let unseen = Sample { at: started, used_nanos: 0, nano_cores: None };
        let before = self.0.get(&user).copied().unwrap_or(unseen);
        let passed = Duration::try_from(now.duration_since(before.at)).unwrap_or_default();
        let rate = used_nanos.saturating_sub(before.used_nanos) as u128 * 1_000_000_000 / passed.as_nanos().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        if passed < WINDOW {
            // Too soon to tell more than the last time, if there was one.
            return before.nano_cores.unwrap_or(rate);
        }
        self.0.insert(user, Sample { at: now, used_nanos, nano_cores: Some(rate) });
        rate
    }

    /// Forgets those who are there no more.
    pub fn retain(&mut self, there: &HashSet<User>) {
        self.0.retain(|user, _| there.contains(user));
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
        let mut of = |used_seconds: u64, now: i64| {
            rates.of(User::Container(id.clone()), at(0), used_seconds * 1_000_000_000, at(now))
        };
        assert_eq!(of(1, 2), 500_000_000, "since its start");
        assert_eq!(of(1, 20), 50_000_000);
        assert_eq!(of(9, 25), 50_000_000, "too soon");
        assert_eq!(of(21, 40), 1_000_000_000);
        rates.retain(&HashSet::new());
        assert!(rates.0.is_empty());
    }

    #[test]
    fn what_was_used_before_the_beginning_is_no_part_of_it() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let mut rates = Rates::default();
        rates.begin(User::Machine, 1_000_000_000, at(100));
        let mut of =
            |used_seconds: u64, now: i64| rates.of(User::Machine, at(0), used_seconds * 1_000_000_000, at(now));
        assert_eq!(of(2, 102), 500_000_000);
        assert_eq!(of(3, 104), 500_000_000, "there is nothing from before that could be shown");
        assert_eq!(of(6, 110), 500_000_000);
        assert_eq!(of(16, 111), 500_000_000, "too soon");
    }
}
