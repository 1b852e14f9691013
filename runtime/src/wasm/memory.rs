//! Memory of a container: one budget shared by all of its instances.
//!
//! wasmtime asks before a memory or table grows. A store that alone would exceed the limit is the one to blame
//! ([`OutOfMemory::Alone`]: `OOMKilled`); one that finds the budget used up by others waits for a while and is then
//! refused ([`OutOfMemory::Shared`]: 503). What a store reserved is given back when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use wasmtime::ResourceLimiterAsync;

/// Bytes that a table element takes.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// The budget of one container. With a parent (the pod's own limit), both must hold.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: AtomicU64,
    used_bytes: AtomicU64,
    freed: Notify,
    parent: Option<Arc<Budget>>,
}

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
        let limit_bytes = AtomicU64::new(limit_bytes);
        Arc::new(Budget { limit_bytes, used_bytes: AtomicU64::new(0), freed: Notify::new(), parent })
    }

    /// What this budget is a part of.
    pub fn parent(&self) -> Option<&Arc<Budget>> {
        self.parent.as_ref()
    }

    /// Bytes reserved by all live stores.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
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
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit());
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
}

/// One store's part of a budget.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    held_bytes: u64,
    wait: Duration,
}

impl Reservation {
    /// Nothing yet. `wait` bounds the time that growth waits for memory held by others.
    pub fn new(budget: Arc<Budget>, wait: Duration) -> Reservation {
        Reservation { budget, held_bytes: 0, wait }
    }

    async fn grow(&mut self, bytes: u64) -> Result<(), OutOfMemory> {
        if !self.budget.try_reserve(bytes) {
            let limit_bytes = self.budget.effective_limit();
            if self.held_bytes.saturating_add(bytes) > limit_bytes {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(budget: &Arc<Budget>, wait: Duration) -> Reservation {
        Reservation::new(budget.clone(), wait)
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
