//! How far the cache has got, and who waits for it to get further.

use k8w_storage::datastore::Revision;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// A revision that only grows. Those who wait for one are woken once, when it is reached, and not before.
#[derive(Default)]
pub(super) struct Progress {
    reached: AtomicU64,
    waiting: Mutex<BTreeMap<Revision, Vec<oneshot::Sender<()>>>>,
}

impl Progress {
    pub fn reached(&self) -> Revision {
        self.reached.load(Ordering::Acquire)
    }

    pub fn advance(&self, revision: Revision) {
        if self.reached.fetch_max(revision, Ordering::AcqRel) >= revision {
            return;
        }
        let mut waiting = self.lock();
        if waiting.is_empty() {
            return;
        }
        let later = waiting.split_off(&(revision + 1));
        let arrived = std::mem::replace(&mut *waiting, later);
        drop(waiting);
        for waiter in arrived.into_values().flatten() {
            // A waiter that gave up is nobody to wake.
            let _ = waiter.send(());
        }
    }

    /// Returns when `revision` has been reached.
    pub async fn wait_for(&self, revision: Revision) {
        let arrival = {
            let mut waiting = self.lock();
            // Looked at under the lock: whoever advances after this finds us waiting.
            if self.reached() >= revision {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            let waiters = waiting.entry(revision).or_default();
            waiters.retain(|waiter| !waiter.is_closed());
            waiters.push(sender);
            receiver
        };
        // The sender is only dropped with the cache itself, or sent.
        let _ = arrival.await;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Revision, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::future::join;

    #[tokio::test]
    async fn waiters_are_woken_when_their_revision_is_reached() {
        let progress = Progress::default();
        let (mut early, mut late) = (Box::pin(progress.wait_for(3)), Box::pin(progress.wait_for(7)));
        assert!((&mut early).now_or_never().is_none() && (&mut late).now_or_never().is_none());
        progress.advance(5);
        early.await;
        assert!((&mut late).now_or_never().is_none());
        progress.advance(4);
        assert_eq!(progress.reached(), 5);
        join(late, async { progress.advance(7) }).await;
        progress.wait_for(6).await;
    }
}
