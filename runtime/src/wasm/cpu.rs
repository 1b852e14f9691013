//! What guests cost in CPU time, the quota that they pay from, and what they have had of the CPU by their weight.
//!
//! Every poll of guest code is measured on its thread's own clock ([`slice`](super::slice)). A container with a limit owns a
//! token bucket: it may run while the bucket is not in debt, and is charged afterwards. The first epoch after a slice's time
//! cuts a poll short, so debt is small.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::bucket::Bucket;

/// What an idle container may save up: the quota of this much time (the kernel's CFS period).
const BURST: Duration = Duration::from_millis(100);
/// The bucket's tokens are nanoseconds.
const NANOS_PER_MILLI: u64 = 1_000_000;
/// What a container is promised of a CPU that asks for less, or for nothing: that it starts, and answers its probes, where
/// others take all there is. In thousandths.
const LEAST_PROMISE: u32 = 10;
/// CPU time that a container may take in advance of its promise, or saves up while it has nothing to do.
const ADVANCE: Duration = Duration::from_millis(100);
/// A container that has waited so long for time that nobody else wants takes what it was promised from others.
pub const PATIENCE: Duration = Duration::from_millis(20);
/// So long, before it waits for spare time again. A machine that stays busy costs it one wait in so much time; and one that was
/// busy for a moment has a container among those who answer requests for no longer.
const IMPATIENT: Duration = Duration::from_millis(500);
/// What a process has of the threads that serve requests, in thousandths of a CPU, and how much time's worth it may save up:
/// enough to start, and to answer now and then, and too little to hold up those who do. Whom it holds up waits for up to a
/// slice, so that a hundredth would be what the slowest hundredth of requests waits for.
const BRIEF: u32 = 2;
const BRIEF_BURST: Duration = Duration::from_secs(10);
/// Weight of a whole CPU, and of a container that asks for none (the kubelet's `cpu.shares`).
const WHOLE_WEIGHT: u32 = 1_024;
const LEAST_WEIGHT: u32 = 2;

/// CPU time that was used, in nanoseconds.
#[derive(Debug, Default)]
pub struct Used(AtomicU64);

impl Used {
    pub fn nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// CPU time that may be used, and that was: of one container, or of all containers of a pod together.
#[derive(Debug)]
pub struct Quota {
    exists: AtomicBool,
    bucket: Mutex<Bucket>,
    used: Arc<Used>,
}

impl Quota {
    /// In thousandths of a CPU; without a number, as much as there is. What is used is added to `used`.
    pub fn new(limit_millis: Option<u32>, used: Arc<Used>) -> Quota {
        Quota { exists: AtomicBool::new(limit_millis.is_some()), bucket: Mutex::new(bucket(limit_millis)), used }
    }

    /// Sets another quota, or none, which begins anew.
    fn set(&self, limit_millis: Option<u32>) {
        *lock(&self.bucket) = bucket(limit_millis);
        self.exists.store(limit_millis.is_some(), Ordering::Relaxed);
    }

    fn debt(&self) -> Option<Duration> {
        if !self.exists.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.bucket).wait(Instant::now())
    }

    fn spend(&self, nanos: u64) {
        self.used.0.fetch_add(nanos, Ordering::Relaxed);
        if self.exists.load(Ordering::Relaxed) {
            lock(&self.bucket).spend(nanos);
        }
    }
}

/// The part of a container's request that it takes from others, as it has waited for spare time in vain.
#[derive(Debug)]
struct Promise {
    /// What it has not had yet.
    left: Bucket,
    /// Until when it takes it.
    until: Option<Instant>,
}

/// CPU time of one container.
#[derive(Debug)]
pub struct CpuAccount {
    quota: Quota,
    /// That of its pod.
    pod: Arc<Quota>,
    promise: Mutex<Promise>,
    /// Left of [`BRIEF`].
    brief: Mutex<Bucket>,
    weight: AtomicU32,
    /// Nanoseconds used among the [`runners`](super::runners), those of a whole CPU's weight counting once.
    weighted_nanos: AtomicU64,
}

impl CpuAccount {
    /// An account with a quota in thousandths of a CPU, or without one, and the request that it has its weight from.
    pub fn new(limit_millis: Option<u32>, request_millis: Option<u32>) -> CpuAccount {
        CpuAccount {
            quota: Quota::new(limit_millis, Arc::default()),
            pod: Arc::new(Quota::new(None, Arc::default())),
            promise: Mutex::new(promise(request_millis)),
            brief: Mutex::new(Bucket::new(u64::from(BRIEF) * NANOS_PER_MILLI, BRIEF_BURST, Instant::now())),
            weight: AtomicU32::new(weight(request_millis)),
            weighted_nanos: AtomicU64::new(0),
        }
    }

    /// The same within a quota that its pod's containers share.
    pub fn within(self, pod: Arc<Quota>) -> CpuAccount {
        CpuAccount { pod, ..self }
    }

    /// Sets another quota, or none, which begins anew, and another weight.
    pub fn set(&self, limit_millis: Option<u32>, request_millis: Option<u32>) {
        self.quota.set(limit_millis);
        *lock(&self.promise) = promise(request_millis);
        self.weight.store(weight(request_millis), Ordering::Relaxed);
    }

    /// Sets another quota of the pod, or none.
    pub fn set_pod(&self, limit_millis: Option<u32>) {
        self.pod.set(limit_millis);
    }

    /// CPU time used since the container started, in nanoseconds.
    pub fn used_nanos(&self) -> u64 {
        self.quota.used.nanos()
    }

    /// What the container has had by its weight, at least `now`: time in which it did not want to run is not saved up.
    pub fn weighted_nanos(&self, now: u64) -> u64 {
        self.weighted_nanos.fetch_max(now, Ordering::Relaxed).max(now)
    }

    /// How long the container has to wait before it may run again.
    pub fn debt(&self) -> Option<Duration> {
        self.quota.debt().max(self.pod.debt())
    }

    /// Whether the container takes time from others: it has waited in vain ([`has_waited`](Self::has_waited)), and has not
    /// had yet what it was promised.
    pub fn is_urgent(&self, now: Instant) -> bool {
        let mut promise = lock(&self.promise);
        promise.until.is_some_and(|until| now < until) && promise.left.wait(now).is_none()
    }

    /// Takes note that it had to wait for spare time; more than [`PATIENCE`] is in vain.
    pub fn has_waited(&self, time: Duration, now: Instant) {
        if time > PATIENCE {
            lock(&self.promise).until = Some(now + IMPATIENT);
        }
    }

    /// Charges for promised time. What nobody else wanted is no part of that.
    pub fn spend_promise(&self, nanos: u64) {
        lock(&self.promise).left.spend(nanos);
    }

    /// Charges a process for time of the threads that serve requests; says whether it may have more of it.
    pub fn spend_brief(&self, nanos: u64) -> bool {
        let mut brief = lock(&self.brief);
        brief.spend(nanos);
        brief.wait(Instant::now()).is_none()
    }

    /// Counts CPU time that was used among the runners: that of short requests is nobody's turn.
    pub fn weigh(&self, nanos: u64) {
        let weighted = nanos.saturating_mul(WHOLE_WEIGHT.into()) / u64::from(self.weight.load(Ordering::Relaxed));
        self.weighted_nanos.fetch_add(weighted, Ordering::Relaxed);
    }

    /// Charges for CPU time that was used.
    pub fn charge(&self, nanos: u64) {
        self.quota.spend(nanos);
        self.pod.spend(nanos);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bucket(limit_millis: Option<u32>) -> Bucket {
    Bucket::new(u64::from(limit_millis.unwrap_or(0)) * NANOS_PER_MILLI, BURST, Instant::now())
}

fn promise(request_millis: Option<u32>) -> Promise {
    let millis = request_millis.unwrap_or(0).max(LEAST_PROMISE);
    let left = Bucket::new(u64::from(millis) * NANOS_PER_MILLI, ADVANCE * 1_000 / millis, Instant::now());
    Promise { left, until: None }
}

fn weight(request_millis: Option<u32>) -> u32 {
    request_millis.map_or(0, |millis| millis.saturating_mul(WHOLE_WEIGHT) / 1_000).max(LEAST_WEIGHT)
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
    fn what_is_spent_is_charged() {
        let account = CpuAccount::new(Some(1), None);
        account.charge(2_000_000);
        assert_eq!(account.used_nanos(), 2_000_000);
        assert!(account.debt().is_some(), "a thousandth of a CPU is spent");
        account.set(None, None);
        assert_eq!(account.debt(), None);
    }

    #[test]
    fn what_one_spends_the_others_of_its_pod_pay_for() {
        let pod = Arc::new(Quota::new(Some(1), Arc::default()));
        let [one, other] = [(); 2].map(|()| CpuAccount::new(None, None).within(pod.clone()));
        assert_eq!(other.debt(), None);
        one.charge(2_000_000);
        assert!(other.debt().is_some() && other.used_nanos() == 0);
    }

    #[test]
    fn a_promise_is_kept_to_whoever_has_waited_in_vain() {
        let (account, now) = (CpuAccount::new(None, Some(500)), Instant::now());
        assert!(!account.is_urgent(now), "there may be time to spare");
        account.has_waited(PATIENCE, now);
        assert!(!account.is_urgent(now));
        account.has_waited(PATIENCE * 2, now);
        assert!(account.is_urgent(now), "some of it is in advance");
        account.weigh(3_600_000_000_000);
        assert!(account.is_urgent(now), "spare time is not charged for");
        assert!(!account.is_urgent(now + IMPATIENT), "there may be time to spare by now");
        account.spend_promise(3_600_000_000_000);
        assert!(!account.is_urgent(now), "it has had its two hours");
    }

    #[test]
    fn whoever_asks_for_more_has_had_less_for_the_same_time() {
        let had = |request| {
            let account = CpuAccount::new(None, request);
            account.weigh(1_024);
            account.weighted_nanos(0)
        };
        assert_eq!(
            [Some(2_000), Some(1_000), Some(500), Some(1), None].map(had),
            [512, 1_024, 2_048, 524_288, 524_288]
        );
        let idle = CpuAccount::new(None, None);
        assert_eq!(
            (idle.weighted_nanos(100), idle.weighted_nanos(0)),
            (100, 100),
            "time slept through is not saved up"
        );
    }
}
