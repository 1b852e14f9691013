//! Notices when a server traps too often in too short a time.
//!
//! One request that traps is that request's failure. Many in a row are the container's, and failing it is what makes
//! `restartPolicy` and its back-off act.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::config::TrapBurst;

/// The traps of one container that count still.
pub struct Burst {
    limits: TrapBurst,
    /// When they happened, oldest first; never more than make a burst.
    times: Mutex<VecDeque<Instant>>,
}

impl Burst {
    pub fn new(limits: TrapBurst) -> Burst {
        Burst { limits, times: Mutex::default() }
    }

    /// Counts one more trap; says whether there have been too many.
    pub fn trapped(&self, now: Instant) -> bool {
        let TrapBurst { traps, within } = self.limits;
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        times.retain(|then| now.saturating_duration_since(*then) < within);
        if times.len() >= traps {
            times.pop_front();
        }
        times.push_back(now);
        times.len() >= traps
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_traps_of_the_same_time_make_a_burst() {
        let (start, burst) = (Instant::now(), Burst::new(TrapBurst { traps: 3, within: Duration::from_secs(10) }));
        let at = |seconds| burst.trapped(start + Duration::from_secs(seconds));
        assert_eq!([0, 4, 11, 13, 15, 16, 40].map(at), [false, false, false, true, true, true, false]);
    }
}
