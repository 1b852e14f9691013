//! Forgetting history that nobody can want any more.
//!
//! As in Kubernetes, lists and watches can go back at least five minutes, and at most twice as long.

use k8w_storage::datastore::{Datastore, Error, Revision};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How long every revision is kept at least.
const INTERVAL_SECONDS: u64 = 300;

/// Compacts the datastore at every interval to where it was at the one before; ends when nobody uses it any more.
pub fn start(datastore: &Arc<dyn Datastore>) {
    tokio::spawn(run(Arc::downgrade(datastore)));
}

async fn run(datastore: Weak<dyn Datastore>) {
    let mut ticks = interval(Duration::from_secs(INTERVAL_SECONDS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = None;
    loop {
        ticks.tick().await;
        let Some(datastore) = datastore.upgrade() else { return };
        before = step(&*datastore, before).await;
    }
}

/// Compacts to `before` and returns the revision to compact to next time.
async fn step(datastore: &dyn Datastore, before: Option<Revision>) -> Option<Revision> {
    if let Some(before) = before {
        match datastore.compact(before).await {
            // Nothing has happened since, or another API server was first.
            Ok(()) | Err(Error::Compacted { .. }) => {}
            Err(error) => tracing::warn!(%error, "the datastore cannot be compacted"),
        }
    }
    match datastore.revision().await {
        Ok(revision) => Some(revision),
        Err(error) => {
            tracing::warn!(%error, "the datastore does not tell its revision");
            before
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8w_storage::datastore::memory::Memory;
    use k8w_storage::datastore::{KeyRange, ListRequest, Txn, Write};

    #[tokio::test]
    async fn history_is_kept_for_one_interval_at_least() {
        let datastore = Memory::new();
        let mut before = None;
        let mut revisions = Vec::new();
        for key in ["/a", "/b", "/c"] {
            let write = Write::Put { key: key.into(), value: "1".into(), ttl_seconds: None };
            datastore.txn(Txn { compares: Vec::new(), writes: vec![write] }).await.unwrap();
            before = step(&datastore, before).await;
            revisions.extend(before);
        }
        let list = async |revision| {
            let request = ListRequest { range: KeyRange::prefix("/"), start_key: None, limit: 0, revision };
            datastore.list(request).await.map(|list| list.items.len())
        };
        assert!(matches!(list(Some(revisions[0])).await, Err(Error::Compacted { .. })));
        assert_eq!(list(Some(revisions[1])).await.unwrap(), 2);
    }
}
