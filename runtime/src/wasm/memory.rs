//! Memory of a container: one budget shared by all of its instances.
//!
//! wasmtime asks before a memory or table grows. A store that alone would exceed the limit is the one to blame
//! ([`OutOfMemory::Alone`]: `OOMKilled`); one that finds the budget used up by others waits for a while and is then
//! refused ([`OutOfMemory::Shared`]: 503). What a store reserved is given back when it is dropped.
//!
//! Volumes in memory count beside the stores, as they are measured: who writes into one is not asked. A container whose
//! volumes have grown into what its stores have is found out soon after ([`Budget::exceeded`]).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use wasmtime::ResourceLimiterAsync;

use super::slots::Need;

/// Bytes that a table element takes.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// The budget of one container. With a parent (the pod's own limit), both must hold.
pub struct Budget {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
    freed: Notify,
    parent: Option<Arc<Budget>>,
    /// How many bytes its volumes in memory hold, if it has any.
    in_volumes: Option<Measure>,
}

/// Measures bytes that are used without having been reserved.
pub type Measure = Box<dyn Fn() -> u64 + Send + Sync>;

/// Why memory was refused. It ends the guest: a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfMemory {
    #[error("memory limit of {limit_bytes} bytes exceeded")]
    Alone { limit_bytes: u64 },
    #[error("memory limit of {limit_bytes} bytes is used up by other requests")]
    Shared { limit_bytes: u64 },
}

impl Budget {
    pub fn new(limit_bytes: u64, parent: Option<Arc<Budget>>) -> Arc<Budget> {
        Budget::with_volumes(limit_bytes, parent, None)
    }

    /// A budget in which volumes count, too.
    pub fn with_volumes(limit_bytes: u64, parent: Option<Arc<Budget>>, in_volumes: Option<Measure>) -> Arc<Budget> {
        let limit_bytes = AtomicU64::new(limit_bytes);
        Arc::new(Budget { limit_bytes, used_bytes: AtomicU64::new(0), freed: Notify::new(), parent, in_volumes })
    }

    /// What this budget is a part of.
    pub fn parent(&self) -> Option<&Arc<Budget>> {
        self.parent.as_ref()
    }

    /// Bytes reserved by all live stores, and held by volumes.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed).saturating_add(self.volume_bytes())
    }

    fn volume_bytes(&self) -> u64 {
        self.in_volumes.as_ref().map_or(0, |measure| measure())
    }

    /// Whether more is used than may be, which only volumes bring about: nobody asks before these grow.
    pub fn exceeded(&self) -> Option<OutOfMemory> {
        let limit_bytes = self.limit();
        let own = (self.in_volumes.is_some() && self.used_bytes() > limit_bytes)
            .then_some(OutOfMemory::Alone { limit_bytes });
        own.or_else(|| self.parent.as_ref()?.exceeded())
    }

    fn limit(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    /// Sets another limit, unless more is used already.
    ///
    /// # Errors
    /// With what is used.
    pub fn set_limit(&self, limit_bytes: u64) -> Result<(), u64> {
        let used_bytes = self.used_bytes();
        if used_bytes > limit_bytes {
            return Err(used_bytes);
        }
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.freed().notify_waiters();
        Ok(())
    }

    /// Takes `bytes` if they are free now; [`release`](Self::release) gives them back.
    pub fn try_reserve(&self, bytes: u64) -> bool {
        let left = self.limit().saturating_sub(self.volume_bytes());
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= left);
        if self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            return false;
        }
        let allowed = self.parent.as_ref().is_none_or(|parent| parent.try_reserve(bytes));
        if !allowed {
            self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        allowed
    }

    pub fn release(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        match &self.parent {
            Some(parent) => parent.release(bytes),
            None => self.freed.notify_waiters(),
        }
    }

    /// Told when anything that shares the outermost limit gives memory back.
    fn freed(&self) -> &Notify {
        self.parent.as_ref().map_or(&self.freed, |parent| parent.freed())
    }

    /// The smallest limit that applies.
    fn effective_limit(&self) -> u64 {
        self.parent.as_ref().map_or(u64::MAX, |parent| parent.limit()).min(self.limit())
    }

    /// Whether a store could never have so much, whatever others give back.
    fn is_too_small_for(&self, bytes: u64) -> bool {
        bytes.saturating_add(self.volume_bytes()) > self.limit()
            || self.parent.as_ref().is_some_and(|parent| parent.is_too_small_for(bytes))
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, used) = (self.limit(), self.used_bytes());
        f.debug_struct("Budget").field("limit_bytes", &limit).field("used_bytes", &used).finish_non_exhaustive()
    }
}

/// One store's part of a budget.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    held_bytes: u64,
    /// Of these: what the host keeps.
    kept_bytes: u64,
    wait: Duration,
    need: Need,
}

impl Reservation {
    /// Nothing yet. `wait` bounds the time that growth waits for memory held by others, and `need` how many memories and
    /// tables there are to grow, however small.
    pub fn new(budget: Arc<Budget>, wait: Duration, need: Need) -> Reservation {
        Reservation { budget, held_bytes: 0, kept_bytes: 0, wait, need }
    }

    /// Holds `bytes` for what the host keeps for the guest, instead of what it held for that before. Nothing waits for them.
    ///
    /// # Errors
    /// [`OutOfMemory`]
    pub fn keep(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        let more = bytes.saturating_sub(self.kept_bytes);
        if !self.budget.try_reserve(more) {
            let limit_bytes = self.budget.effective_limit();
            return Err(match self.budget.is_too_small_for(self.held_bytes.saturating_add(more)) {
                true => OutOfMemory::Alone { limit_bytes },
                false => OutOfMemory::Shared { limit_bytes },
            });
        }
        self.budget.release(self.kept_bytes.saturating_sub(bytes));
        self.held_bytes = self.held_bytes - self.kept_bytes + bytes;
        self.kept_bytes = bytes;
        Ok(())
    }

    async fn grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        if !self.budget.try_reserve(bytes) {
            let limit_bytes = self.budget.effective_limit();
            if self.budget.is_too_small_for(self.held_bytes.saturating_add(bytes)) {
                return Err(OutOfMemory::Alone { limit_bytes });
            }
            let budget = &self.budget;
            let reserved = async {
                loop {
                    let mut freed = std::pin::pin!(budget.freed().notified());
                    freed.as_mut().enable();
                    if budget.try_reserve(bytes) {
                        return;
                    }
                    freed.await;
                }
            };
            let waited = tokio::time::timeout(self.wait, reserved).await;
            waited.map_err(|_| OutOfMemory::Shared { limit_bytes })?;
        }
        self.held_bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.held_bytes);
    }
}

#[async_trait::async_trait]
impl ResourceLimiterAsync for Reservation {
    async fn memory_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64).await?;
        Ok(true)
    }

    async fn table_growing(&mut self, current: usize, desired: usize, max: Option<usize>) -> wasmtime::Result<bool> {
        if max.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current) as u64 * TABLE_ELEMENT_BYTES).await?;
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.need.core_instances as usize
    }

    fn memories(&self) -> usize {
        self.need.memories as usize
    }

    fn tables(&self) -> usize {
        self.need.tables as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>, wait: Duration) -> Reservation {
        Reservation::new(budget.clone(), wait, Need { core_instances: 1, memories: 1, tables: 1 })
    }

    #[tokio::test]
    async fn stores_share_one_budget_and_give_back_what_they_held() {
        let budget = Budget::new(100, None);
        let mut first = share(&budget, Duration::ZERO);
        let mut second = share(&budget, Duration::ZERO);
        first.grow(60).await.unwrap();
        assert_eq!(second.grow(50).await, Err(OutOfMemory::Shared { limit_bytes: 100 }));
        assert_eq!(second.grow(101).await, Err(OutOfMemory::Alone { limit_bytes: 100 }));
        assert_eq!(first.grow(41).await, Err(OutOfMemory::Alone { limit_bytes: 100 }));
        drop(first);
        second.grow(50).await.unwrap();
        assert_eq!(budget.used_bytes(), 50);
    }

    #[tokio::test]
    async fn what_the_host_keeps_counts_and_is_given_back() {
        let budget = Budget::new(100, None);
        let (mut first, mut second) = (share(&budget, Duration::ZERO), share(&budget, Duration::ZERO));
        first.grow(30).await.unwrap();
        first.keep(50).unwrap();
        assert_eq!(first.keep(71), Err(OutOfMemory::Alone { limit_bytes: 100 }));
        assert_eq!(second.keep(21), Err(OutOfMemory::Shared { limit_bytes: 100 }));
        first.keep(10).unwrap();
        assert_eq!(budget.used_bytes(), 40);
        second.keep(60).unwrap();
        drop(first);
        assert_eq!(budget.used_bytes(), 60);
    }

    #[tokio::test]
    async fn growth_waits_for_memory_that_others_hold() {
        let budget = Budget::new(100, None);
        let mut first = share(&budget, Duration::ZERO);
        first.grow(60).await.unwrap();
        let mut second = share(&budget, Duration::from_secs(3600));
        let (grown, ()) = tokio::join!(second.grow(60), async {
            tokio::task::yield_now().await;
            drop(first);
        });
        assert_eq!(grown, Ok(()));
    }

    #[test]
    fn a_limit_is_not_set_below_what_is_used() {
        let budget = Budget::new(100, None);
        assert!(budget.try_reserve(60));
        assert_eq!(budget.set_limit(50), Err(60));
        assert!(budget.try_reserve(40), "the old limit holds");
        assert_eq!(budget.set_limit(200), Ok(()));
        assert!(budget.try_reserve(100));
    }

    #[tokio::test]
    async fn volumes_in_memory_count_beside_stores() {
        let volume = Arc::new(AtomicU64::new(0));
        let measured = || -> Option<Measure> {
            let volume = volume.clone();
            Some(Box::new(move || volume.load(Ordering::Relaxed)))
        };
        let of_pod = Budget::with_volumes(100, None, measured());
        for budget in [Budget::with_volumes(100, None, measured()), Budget::new(100, Some(of_pod))] {
            volume.store(30, Ordering::Relaxed);
            let mut first = share(&budget, Duration::ZERO);
            first.grow(60).await.unwrap();
            let mut second = share(&budget, Duration::ZERO);
            assert_eq!(second.grow(20).await, Err(OutOfMemory::Shared { limit_bytes: 100 }));
            assert_eq!(second.grow(71).await, Err(OutOfMemory::Alone { limit_bytes: 100 }), "even without the first");
            assert_eq!(budget.exceeded(), None);
            volume.store(41, Ordering::Relaxed);
            assert_eq!(budget.exceeded(), Some(OutOfMemory::Alone { limit_bytes: 100 }));
            assert_eq!(first.grow(1).await, Err(OutOfMemory::Alone { limit_bytes: 100 }));
            drop(first);
            assert_eq!(budget.exceeded(), None);
        }
    }

    #[tokio::test]
    async fn the_pods_limit_holds_over_all_of_its_containers() {
        let pod = Budget::new(100, None);
        let (a, b) = (Budget::new(80, Some(pod.clone())), Budget::new(80, Some(pod.clone())));
        let (mut a, mut b) = (share(&a, Duration::ZERO), share(&b, Duration::ZERO));
        a.grow(80).await.unwrap();
        assert_eq!(b.grow(30).await, Err(OutOfMemory::Shared { limit_bytes: 80 }));
        assert_eq!(pod.used_bytes(), 80);
        drop(a);
        b.grow(30).await.unwrap();
    }
}
