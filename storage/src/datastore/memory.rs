//! A store that keeps nothing: for tests, for simulation, and for clusters that are thrown away.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::time::Instant;

use super::journal::Nowhere;
use super::local::Local;
use super::mvcc::Index;
use super::{Datastore, KeyRange, KeyValue, ListRequest, ListResponse, Result, Revision, Txn, TxnOutcome, WatchItem};

/// Multi-version state in memory. Deadlines follow tokio's clock, so that a test that pauses it decides when keys expire.
#[derive(Clone)]
pub struct Memory(Arc<Local<Nowhere>>);

impl Memory {
    pub fn new() -> Self {
        let started = Instant::now();
        Self(Local::new(Index::default(), Nowhere, Box::new(move || started.elapsed().as_millis() as u64)))
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Datastore for Memory {
    async fn revision(&self) -> Result<Revision> {
        self.0.revision()
    }

    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision)> {
        self.0.get(key)
    }

    async fn list(&self, request: ListRequest) -> Result<ListResponse> {
        self.0.list(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        self.0.txn(txn).await
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<BoxStream<'static, Result<WatchItem>>> {
        self.0.watch(range, from).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.0.compact(revision).await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::StreamExt;

    use super::*;
    use crate::datastore::{Error, Write, suite};

    async fn open() -> Option<(Arc<dyn Datastore>, ())> {
        Some((Arc::new(Memory::new()), ()))
    }

    suite::run!(open);

    fn put(key: &str) -> Txn {
        let key = Bytes::copy_from_slice(key.as_bytes());
        Txn { compares: vec![], writes: vec![Write::Put { key, value: Bytes::new(), ttl_seconds: None }] }
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_read_is_closed_and_told_so() {
        let store = Memory::new();
        let mut watch = store.watch(KeyRange::prefix(""), 0).await.unwrap();
        let mut quick = store.watch(KeyRange::prefix("a"), 0).await.unwrap();
        let written = 20_000;
        for _ in 0..written {
            store.txn(put("a")).await.unwrap();
            assert!(quick.next().await.unwrap().is_ok());
        }
        let mut delivered = 0;
        let end = loop {
            match watch.next().await.unwrap() {
                Ok(_) => delivered += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(end, Error::Lagged), "{end:?}");
        assert!(delivered < written);
        assert!(watch.next().await.is_none());
    }
}
