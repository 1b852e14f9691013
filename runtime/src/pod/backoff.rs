//! The kubelet's back-off: doubling delays, forgotten after a quiet time.

use std::time::Duration;

use jiff::Timestamp;

/// First delay, after the first immediate retry (crashes) or the first failure (pulls).
pub const INITIAL: Duration = Duration::from_secs(10);
/// Longest delay.
pub const MAX: Duration = Duration::from_secs(300);
/// A container that lasted this long starts again from [`INITIAL`].
pub const RESET_AFTER: Duration = Duration::from_secs(600);

/// `at + delay`, saturating.
pub fn after(at: Timestamp, delay: Duration) -> Timestamp {
    at.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// Delays of one container. The default has seen no failure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    /// The delay that the next failure costs, and when it was set.
    next: Option<(Duration, Timestamp)>,
    last: Duration,
}

impl Backoff {
    /// A container ended at `finished`: when its next attempt may start. The first restart is immediate, then the
    /// delay doubles from [`INITIAL`] to [`MAX`]; a run of [`RESET_AFTER`] starts over.
    pub fn crashed(&mut self, finished: Timestamp) -> Timestamp {
        match self.next {
            Some((delay, since)) if finished <= after(since, RESET_AFTER) => self.delayed(delay, finished),
            _ => {
                *self = Backoff { next: Some((INITIAL, finished)), last: Duration::ZERO };
                finished
            }
        }
    }

    /// Something that is tried again failed at `failed`: when to try next. The first retry waits already.
    pub fn failed(&mut self, failed: Timestamp) -> Timestamp {
        let delay = match self.next {
            Some((delay, since)) if failed <= after(since, RESET_AFTER) => delay,
            _ => INITIAL,
        };
        self.delayed(delay, failed)
    }

    /// The delay that was last handed out, for messages.
    pub fn delay(&self) -> Duration {
        self.last
    }

    fn delayed(&mut self, delay: Duration, from: Timestamp) -> Timestamp {
        let until = after(from, delay);
        *self = Backoff { next: Some(((delay * 2).min(MAX), until)), last: delay };
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn crashes_restart_at_once_then_double_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        let mut delays = Vec::new();
        for _ in 0..9 {
            let until = backoff.crashed(at(now));
            delays.push(until.as_second() - now);
            now = until.as_second() + 1;
        }
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn ten_minutes_of_running_forget_the_past() {
        let mut backoff = Backoff::default();
        backoff.crashed(at(0));
        backoff.crashed(at(1));
        assert_eq!(backoff.crashed(at(1_000)), at(1_000));
        assert_eq!(backoff.crashed(at(1_001)), at(1_011));
    }

    #[test]
    fn failures_wait_from_the_first() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(at(0)), at(10));
        assert_eq!(backoff.delay(), INITIAL);
        assert_eq!(backoff.failed(at(10)), at(30));
        assert_eq!(backoff.delay(), Duration::from_secs(20));
    }
}
