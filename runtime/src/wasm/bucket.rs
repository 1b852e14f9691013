//! A budget that refills with time: what may be spent, and how long whoever has spent too much has to wait.

use std::time::{Duration, Instant};

/// Tokens that may be spent; refilled in proportion to time passed. It can be in debt.
#[derive(Debug)]
pub struct Bucket {
    per_second: u64,
    /// What an idle owner saves up at most: the tokens of this much time.
    burst: Duration,
    tokens: i64,
    refilled: Instant,
}

impl Bucket {
    /// A full one.
    pub fn new(per_second: u64, burst: Duration, now: Instant) -> Bucket {
        let mut bucket = Bucket { per_second: per_second.max(1), burst, tokens: 0, refilled: now };
        bucket.tokens = bucket.share(burst);
        bucket
    }

    /// The tokens of `time`.
    fn share(&self, time: Duration) -> i64 {
        i64::try_from(time.as_nanos() * u128::from(self.per_second) / 1_000_000_000).unwrap_or(i64::MAX)
    }

    pub fn spend(&mut self, tokens: u64) {
        self.tokens = self.tokens.saturating_sub_unsigned(tokens);
    }

    /// How long it takes until the bucket is out of debt; `None` when it is.
    pub fn wait(&mut self, now: Instant) -> Option<Duration> {
        let gained = self.share(now.saturating_duration_since(self.refilled));
        self.tokens = self.tokens.saturating_add(gained).min(self.share(self.burst));
        self.refilled = now;
        let debt = self.tokens.checked_neg().filter(|debt| *debt > 0)?.unsigned_abs();
        let nanos = u128::from(debt) * 1_000_000_000 / u128::from(self.per_second);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_its_share_of_time() {
        let start = Instant::now();
        // A quarter of a CPU, in nanoseconds.
        let mut bucket = Bucket::new(250_000_000, Duration::from_millis(100), start);
        assert_eq!(bucket.wait(start), None);
        bucket.spend(125_000_000);
        assert_eq!(bucket.wait(start), Some(Duration::from_millis(400)), "100 ms of debt at a quarter of a CPU");
        assert_eq!(bucket.wait(start + Duration::from_millis(400)), None);
        assert_eq!(bucket.wait(start + Duration::from_secs(60)), None);
        assert_eq!(bucket.tokens, 25_000_000, "no more than a burst is saved up");
    }
}
