//! What guests cost in CPU time, and the quota that they pay from.
//!
//! Every poll of guest code is measured on its thread's own clock. A container with a limit owns a token bucket: it may
//! run while the bucket is not in debt, and is charged afterwards. Epochs bound one poll to a tick, so debt is small.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// What an idle container may save up: the quota of this much time (the kernel's CFS period).
const BURST: Duration = Duration::from_millis(100);

/// CPU time of one container.
#[derive(Debug)]
pub struct CpuAccount {
    used_nanos: AtomicU64,
    has_quota: AtomicBool,
    bucket: Mutex<Bucket>,
}

impl CpuAccount {
    /// An account with a quota in thousandths of a CPU, or without one.
    pub fn new(limit_millis: Option<u32>) -> CpuAccount {
        let bucket = Mutex::new(Bucket::new(limit_millis.unwrap_or(0).max(1), Instant::now()));
        CpuAccount { used_nanos: AtomicU64::new(0), has_quota: AtomicBool::new(limit_millis.is_some()), bucket }
    }

    /// Sets another quota, or none. It begins anew.
    pub fn set_limit(&self, limit_millis: Option<u32>) {
        *self.lock() = Bucket::new(limit_millis.unwrap_or(0).max(1), Instant::now());
        self.has_quota.store(limit_millis.is_some(), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// CPU time used since the container started, in nanoseconds.
    pub fn used_nanos(&self) -> u64 {
        self.used_nanos.load(Ordering::Relaxed)
    }

    /// How long the container has to wait before it may run again.
    pub fn debt(&self) -> Option<Duration> {
        if !self.has_quota.load(Ordering::Relaxed) {
            return None;
        }
        let mut bucket = self.lock();
        bucket.refill(Instant::now());
        bucket.wait()
    }

    /// Runs `work` and charges for the time that its thread spent on it.
    pub fn charge<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = thread_nanos();
        let done = work();
        let spent = thread_nanos().saturating_sub(before);
        self.used_nanos.fetch_add(spent, Ordering::Relaxed);
        if self.has_quota.load(Ordering::Relaxed) {
            self.lock().spend(spent);
        }
        done
    }
}

fn thread_nanos() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) else { return 0 };
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds of CPU that may be spent; refilled in proportion to time passed.
#[derive(Debug)]
struct Bucket {
    millis: u32,
    tokens_nanos: i64,
    refilled: Instant,
}

impl Bucket {
    fn new(millis: u32, now: Instant) -> Bucket {
        let mut bucket = Bucket { millis, tokens_nanos: 0, refilled: now };
        bucket.tokens_nanos = bucket.share(BURST);
        bucket
    }

    /// The part of `time` that the quota allows.
    fn share(&self, time: Duration) -> i64 {
        i64::try_from(time.as_nanos() * u128::from(self.millis) / 1_000).unwrap_or(i64::MAX)
    }

    fn refill(&mut self, now: Instant) {
        let gained = self.share(now.saturating_duration_since(self.refilled));
        self.tokens_nanos = self.tokens_nanos.saturating_add(gained).min(self.share(BURST));
        self.refilled = now;
    }

    fn spend(&mut self, nanos: u64) {
        self.tokens_nanos = self.tokens_nanos.saturating_sub_unsigned(nanos);
    }

    fn wait(&self) -> Option<Duration> {
        let debt_nanos = self.tokens_nanos.checked_neg().filter(|debt| *debt > 0)?;
        Some(Duration::from_nanos(debt_nanos.unsigned_abs()) * 1_000 / self.millis)
    }
}

/// Waits out a debt, if there is one. Kept between polls of one guest.
#[derive(Debug, Default)]
pub struct Throttle(Option<Pin<Box<tokio::time::Sleep>>>);

impl Throttle {
    /// Ready when the container may run.
    pub fn poll_allowed(&mut self, account: &CpuAccount, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(sleep) = &mut self.0 {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.0 = None;
            }
            match account.debt() {
                None => return Poll::Ready(()),
                Some(wait) => self.0 = Some(Box::pin(tokio::time::sleep(wait))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_through_its_share_of_time() {
        let start = Instant::now();
        let mut bucket = Bucket::new(250, start);
        assert_eq!(bucket.wait(), None);
        bucket.spend(125_000_000);
        assert_eq!(bucket.wait(), Some(Duration::from_millis(400)), "100 ms of debt at a quarter of a CPU");
        bucket.refill(start + Duration::from_millis(400));
        assert_eq!(bucket.wait(), None);
        bucket.refill(start + Duration::from_secs(60));
        assert_eq!(bucket.tokens_nanos, 25_000_000, "no more than a burst is saved up");
    }

    #[test]
    fn what_a_thread_spends_is_charged() {
        let account = CpuAccount::new(Some(1));
        account.charge(|| {
            let started = thread_nanos();
            while thread_nanos() - started < 2_000_000 {}
        });
        assert!(account.used_nanos() >= 2_000_000);
        assert!(account.debt().is_some(), "a thousandth of a CPU is spent");
        account.set_limit(None);
        assert_eq!(account.debt(), None);
    }
}
