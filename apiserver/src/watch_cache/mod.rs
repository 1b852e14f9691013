//! The newest state of every object in memory, fed by one watch on the datastore, and the source of all reads and watches.
//!
//! ```text
//! datastore watch ── demultiplexed by key ──> KindCache ─┬─ objects    -> get, list
//!                                                        ├─ history    -> watches that start in the past
//!                                                        └─ watchers   -> a bounded buffer each
//! ```
//!
//! A consistent read asks the datastore for its revision and waits until the cache has reached it.

mod change;
mod kind;
mod progress;
mod record;
mod subscription;

pub use change::{Change, EventType, Notice, frame, frame_metadata, frame_object};
pub use kind::{From, KindCache};
pub use record::{Corrupt, Record, encode};
pub use subscription::{Delivery, Subscription};

use progress::Progress;

use crate::limits::REQUEST_TIMEOUT_MS;
use crate::status::Status;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use k8w_storage::datastore::{self, Datastore, Event, KeyRange, ListRequest, Revision, WatchItem};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// Objects are stored below this.
const OBJECTS: &str = "/registry/";
/// Everything of ours in the datastore is below this. All of it is watched, so that progress is seen in all of it.
const EVERYTHING: &str = "/";
/// How many objects are read at a time when the cache fills.
const FILL_PAGE_OBJECTS: usize = 1000;
/// How long a read waits for a revision that its client names, as in Kubernetes.
const READ_WAIT_MS: u64 = 3_000;
/// How long to wait before the datastore is asked again after it failed.
const RETRY_MS: u64 = 500;

/// All kinds. Cheap to share.
pub struct WatchCache {
    datastore: Arc<dyn Datastore>,
    kinds: RwLock<HashMap<String, Arc<KindCache>>>,
    progress: Progress,
}

type Changes = BoxStream<'static, datastore::Result<WatchItem>>;

impl WatchCache {
    /// Reads everything and begins to follow the datastore; the task ends when the cache is dropped.
    pub async fn start(datastore: Arc<dyn Datastore>) -> datastore::Result<Arc<Self>> {
        let cache = Arc::new(WatchCache { datastore, kinds: RwLock::default(), progress: Progress::default() });
        let changes = cache.fill().await?;
        tokio::spawn(follow(Arc::downgrade(&cache), changes));
        Ok(cache)
    }

    /// The objects of a kind; an empty one when nobody has stored any.
    pub fn kind(&self, group: &str, plural: &str) -> Arc<KindCache> {
        self.kind_below(&kind_prefix(group, plural))
    }

    fn kind_below(&self, prefix: &str) -> Arc<KindCache> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(kind) = kinds.get(prefix) {
            return kind.clone();
        }
        drop(kinds);
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        let fresh = || {
            let kind = Arc::new(KindCache::default());
            kind.reset(BTreeMap::new(), self.revision());
            kind
        };
        kinds.entry(prefix.to_string()).or_insert_with(fresh).clone()
    }

    /// One object, as far as the cache has got.
    pub fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Record>> {
        self.kind(group, plural).get(namespace, name)
    }

    /// All changes up to this revision are in the cache and with their watchers.
    pub fn revision(&self) -> Revision {
        self.progress.reached()
    }

    /// Waits until reads see everything that was acknowledged before this call; returns the revision reached.
    ///
    /// # Errors
    /// The datastore's, and 504 `Timeout` when the cache stays behind it for as long as a request may take: then the
    /// machine stalls, and there is nothing wrong with the request.
    pub async fn catch_up(&self) -> Result<Revision, Status> {
        let newest = self.datastore.revision().await?;
        self.reach(newest, REQUEST_TIMEOUT_MS).await.ok_or_else(Status::request_timed_out)
    }

    /// Waits until the cache has reached `revision`, which a client named; returns the revision reached.
    ///
    /// # Errors
    /// 504 `Timeout` when it does not within three seconds: the revision lies in the future.
    pub async fn wait_for(&self, revision: Revision) -> Result<Revision, Status> {
        let reached = self.reach(revision, READ_WAIT_MS).await;
        reached.ok_or_else(|| Status::future_revision(revision, self.revision()))
    }

    async fn reach(&self, revision: Revision, wait_ms: u64) -> Option<Revision> {
        if self.revision() < revision {
            tokio::time::timeout(Duration::from_millis(wait_ms), self.progress.wait_for(revision)).await.ok()?;
        }
        Some(self.revision())
    }

    /// Replaces everything by what the datastore holds now, and watches from there.
    async fn fill(&self) -> datastore::Result<Changes> {
        let range = KeyRange::prefix(OBJECTS);
        let mut kinds: HashMap<String, BTreeMap<Bytes, Arc<Record>>> = HashMap::new();
        let mut revision = None;
        let mut start_key = None;
        loop {
            let request = ListRequest { range: range.clone(), start_key, limit: FILL_PAGE_OBJECTS, revision };
            let page = self.datastore.list(request).await?;
            revision = Some(page.revision);
            start_key = page.items.last().map(|last| successor(&last.key));
            for item in page.items {
                let Some((prefix, key)) = split_key(&item.key) else { continue };
                if let Some(record) = read_record(key.clone(), item.value, item.mod_revision) {
                    kinds.entry(prefix.to_string()).or_default().insert(key, record);
                }
            }
            if page.remaining == 0 {
                break;
            }
        }
        let revision = revision.unwrap_or_default();
        let known = self.kinds.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect::<Vec<_>>();
        for prefix in known {
            kinds.entry(prefix).or_default();
        }
        for (prefix, objects) in kinds {
            self.kind_below(&prefix).reset(objects, revision);
        }
        self.progress.advance(revision);
        self.datastore.watch(KeyRange::prefix(EVERYTHING), revision).await
    }

    fn apply(&self, item: WatchItem) {
        let revision = match item {
            WatchItem::Progress { revision } => revision,
            WatchItem::Events { revision, events } => {
                for event in events {
                    self.apply_event(revision, event);
                }
                revision
            }
        };
        self.progress.advance(revision);
    }

    fn apply_event(&self, revision: Revision, event: Event) {
        let (key, value) = match event {
            Event::Put { kv, .. } => (kv.key, Some(kv.value)),
            Event::Delete { key, .. } => (key, None),
        };
        let Some((prefix, below)) = split_key(&key) else { return };
        let record = value.and_then(|value| read_record(below.clone(), value, revision));
        self.kind_below(prefix).apply(revision, &below, record);
    }
}

/// Applies changes until the cache is gone. When the datastore drops us, everything is read anew.
async fn follow(cache: std::sync::Weak<WatchCache>, mut changes: Changes) {
    loop {
        let item = changes.next().await;
        let Some(cache) = cache.upgrade() else { return };
        let reason = match item {
            Some(Ok(item)) => {
                cache.apply(item);
                continue;
            }
            Some(Err(error)) => error.to_string(),
            None => "the watch ended".to_string(),
        };
        tracing::warn!(reason, "the watch cache starts over");
        changes = loop {
            match cache.fill().await {
                Ok(changes) => break changes,
                Err(error) => tracing::error!(%error, "the datastore cannot be read"),
            }
            tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
        };
    }
}

fn read_record(key: Bytes, value: Bytes, revision: Revision) -> Option<Arc<Record>> {
    match Record::new(key, value, revision) {
        Ok(record) => Some(Arc::new(record)),
        Err(error) => {
            tracing::error!(%error, "an object is skipped");
            None
        }
    }
}

/// Where a kind's objects are stored.
pub fn kind_prefix(group: &str, plural: &str) -> String {
    [OBJECTS, stored_group(group), "/", plural, "/"].concat()
}

/// Where an object is stored.
pub fn storage_key(group: &str, plural: &str, namespace: &str, name: &str) -> Bytes {
    let slash = if namespace.is_empty() { "" } else { "/" };
    [OBJECTS, stored_group(group), "/", plural, "/", namespace, slash, name].concat().into()
}

/// The core group has a name in keys alone.
fn stored_group(group: &str) -> &str {
    if group.is_empty() { "core" } else { group }
}

/// The kind's prefix, and the object's key below it.
fn split_key(key: &Bytes) -> Option<(&str, Bytes)> {
    let text = std::str::from_utf8(key).ok()?;
    let rest = text.strip_prefix(OBJECTS)?;
    let group = rest.find('/')?;
    let plural = rest[group + 1..].find('/')?;
    let at = OBJECTS.len() + group + 1 + plural + 1;
    Some((&text[..at], key.slice(at..)))
}

/// The first key after `key`.
pub fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use k8w_storage::datastore::memory::Memory;
    use k8w_storage::datastore::{KeyValue, ListResponse, Txn, TxnOutcome, Write};
    use tokio::sync::Semaphore;

    /// A datastore whose watches are silent until they are let go.
    struct Stalled {
        store: Memory,
        go: Arc<Semaphore>,
    }

    #[async_trait::async_trait]
    impl Datastore for Stalled {
        async fn revision(&self) -> datastore::Result<Revision> {
            self.store.revision().await
        }

        async fn get(&self, key: &[u8]) -> datastore::Result<(Option<KeyValue>, Revision)> {
            self.store.get(key).await
        }

        async fn list(&self, request: ListRequest) -> datastore::Result<ListResponse> {
            self.store.list(request).await
        }

        async fn txn(&self, txn: Txn) -> datastore::Result<TxnOutcome> {
            self.store.txn(txn).await
        }

        async fn watch(&self, range: KeyRange, from: Revision) -> datastore::Result<Changes> {
            let (items, go) = (self.store.watch(range, from).await?, self.go.clone());
            let opened = async move { drop(go.acquire().await) };
            Ok(opened.into_stream().filter_map(|()| async { None }).chain(items).boxed())
        }

        async fn compact(&self, revision: Revision) -> datastore::Result<()> {
            self.store.compact(revision).await
        }
    }

    #[tokio::test]
    async fn a_stall_is_waited_out_and_is_not_the_clients_fault() {
        let go = Arc::new(Semaphore::new(0));
        let store = Arc::new(Stalled { store: Memory::default(), go: go.clone() });
        let cache = WatchCache::start(store.clone()).await.unwrap();
        let write = Write::Put { key: "/registry/core/pods/a/b".into(), value: "{}".into(), ttl_seconds: None };
        store.txn(Txn { compares: vec![], writes: vec![write] }).await.unwrap();
        let mut read = Box::pin(cache.catch_up());
        assert!((&mut read).now_or_never().is_none());
        assert_eq!(cache.reach(1, 1).await, None);
        assert_eq!(
            Status::request_timed_out().to_string(),
            "Timeout: request did not complete within the allotted timeout"
        );
        go.add_permits(1);
        assert_eq!(read.await.unwrap(), 1);
    }
}
