//! Forgetting history as time passes, so that it stays in proportion to what happens in that time.

use std::sync::Weak;
use std::time::Duration;

use super::{Datastore, Error};

/// How far back history reaches: what kube-apiserver keeps unless told otherwise (`--etcd-compaction-interval`).
pub const HISTORY: Duration = Duration::from_secs(300);

/// Compacts a store again and again, always to where it was `keep` ago, until the store is gone. Several API servers may do
/// so on one etcd: none forgets what is younger than `keep`.
pub async fn run(store: Weak<dyn Datastore>, keep: Duration) {
    let mut then = None;
    loop {
        let Some(store) = store.upgrade() else { return };
        if let Some(revision) = then {
            match store.compact(revision).await {
                // Nothing has happened, or another server was first.
                Ok(()) | Err(Error::Compacted { .. }) => {}
                Err(error) => tracing::warn!(%error, "cannot compact the datastore"),
            }
        }
        then = store.revision().await.ok();
        drop(store);
        tokio::time::sleep(keep).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use bytes::Bytes;

    use super::*;
    use crate::datastore::memory::Memory;
    use crate::datastore::{KeyRange, ListRequest, Txn, Write};

    #[tokio::test]
    async fn history_ends_some_time_ago_and_the_task_with_its_store() {
        let store: Arc<dyn Datastore> = Arc::new(Memory::new());
        let task = tokio::spawn(run(Arc::downgrade(&store), Duration::from_millis(5)));
        let put = |i: usize| Write::Put { key: "key".into(), value: Bytes::from(vec![i as u8]), ttl_seconds: None };
        for i in 0..2 {
            store.txn(Txn { compares: vec![], writes: vec![put(i)] }).await.unwrap();
        }
        let first = ListRequest { range: KeyRange::prefix(""), start_key: None, limit: 0, revision: Some(1) };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !matches!(store.list(first.clone()).await, Err(Error::Compacted { .. })) {
            assert!(Instant::now() < deadline, "revision 1 can still be read");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let now = ListRequest { revision: None, ..first };
        assert_eq!(store.list(now).await.unwrap().items[0].value, &[1][..]);
        drop(store);
        tokio::time::timeout(Duration::from_secs(20), task).await.expect("the task outlives its store").unwrap();
    }
}
