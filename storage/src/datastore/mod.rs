//! The cluster's state: a multi-version key-value store with etcd's guarantees, whatever the backend.
//!
//! Keys and values are bytes. Every transaction that writes gets one new [`Revision`], shared by all of its writes.
//! [`Datastore`] states what callers may rely on; every backend proves it by running the one behaviour suite.

pub mod embedded;
pub mod etcd;
mod journal;
mod local;
pub mod memory;
mod mvcc;
#[cfg(test)]
mod suite;
mod watchers;

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

/// Longest key.
pub const MAX_KEY_BYTES: usize = 4 * 1024;
/// Keys and values that one transaction may write, all together: what etcd takes in a request unless configured otherwise,
/// less room for what goes around them.
pub const MAX_TXN_BYTES: usize = 1_500 * 1024;
/// Compares, and writes, of one transaction: etcd's default.
pub const MAX_TXN_OPERATIONS: usize = 128;

/// A point in the store's history. It grows by one for every committed transaction that writes; 0 is "before anything".
pub type Revision = u64;

/// One key as it was at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision of the transaction that created the key (since its last deletion).
    pub create_revision: Revision,
    /// Revision of the transaction that last wrote the key.
    pub mod_revision: Revision,
}

/// A range of keys: `start <= key < end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Bytes,
}

impl KeyRange {
    /// All keys that begin with `prefix`. An empty prefix is every key.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start: Bytes = prefix.into();
        let end = prefix_end(&start);
        Self { start, end }
    }

    /// Whether `key` lies in the range. An empty `end` means "no upper bound".
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && (self.end.is_empty() || key < self.end.as_ref())
    }
}

/// The first key after every key with `prefix`; empty (no upper bound) when there is none.
fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::new()
}

/// What a list asks for.
#[derive(Clone, Debug)]
pub struct ListRequest {
    pub range: KeyRange,
    /// Start after this point in the range: the first key returned is `>= start_key`. `None` starts at the range's start.
    pub start_key: Option<Bytes>,
    /// At most this many keys; 0 means all of them.
    pub limit: usize,
    /// Read the store as it was at this revision; `None` reads the newest state, linearizably.
    pub revision: Option<Revision>,
}

/// What a list answers.
#[derive(Clone, Debug)]
pub struct ListResponse {
    /// In ascending key order.
    pub items: Vec<KeyValue>,
    /// The revision that was read.
    pub revision: Revision,
    /// How many more keys of the range lie behind the last one returned.
    pub remaining: usize,
}

/// What a transaction requires of one key before it commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    /// The key's `mod_revision` must equal this; 0 means that the key must not exist.
    pub mod_revision: Revision,
}

/// One write of a transaction. A transaction writes each key at most once; deleting a key that does not exist does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Bytes,
        value: Bytes,
        /// The key is deleted by the store this long after the put, give or take a second. A later put without a TTL keeps it.
        ttl_seconds: Option<u64>,
    },
    Delete {
        key: Bytes,
    },
}

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Writes that happen together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub writes: Vec<Write>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOutcome {
    /// All writes are durable.
    Committed {
        revision: Revision,
        /// What each write replaced, in the order of `Txn::writes`.
        previous: Vec<Option<KeyValue>>,
    },
    /// A compare failed and nothing was written.
    Conflict {
        /// The store's revision when the compares were evaluated.
        revision: Revision,
        /// The current value of every compared key, in the order of `Txn::compares`, all read at `revision`.
        current: Vec<Option<KeyValue>>,
    },
}

impl TxnOutcome {
    /// The revision at which the transaction was decided.
    pub fn revision(&self) -> Revision {
        match self {
            Self::Committed { revision, .. } | Self::Conflict { revision, .. } => *revision,
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Put {
        kv: KeyValue,
        previous: Option<KeyValue>,
    },
    Delete {
        key: Bytes,
        previous: Option<KeyValue>,
        /// Revision of the deletion.
        revision: Revision,
    },
}

impl Event {
    /// The key that changed.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { kv, .. } => &kv.key,
            Self::Delete { key, .. } => key,
        }
    }
}

/// What a watch yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchItem {
    /// All changes of one transaction that fall into the watched range, in the order of its writes.
    Events { revision: Revision, events: Vec<Event> },
    /// Every change up to and including this revision has been delivered.
    Progress { revision: Revision },
}

/// Why the datastore could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The revision asked for is older than the history that is kept.
    #[error("revision {requested} has been compacted; the oldest readable revision is {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    /// The revision asked for has not happened yet.
    #[error("revision {requested} is in the future; the newest is {current}")]
    FutureRevision { requested: Revision, current: Revision },
    /// The watcher did not keep up and was dropped; list again and watch from there.
    #[error("the watcher fell behind and was closed")]
    Lagged,
    /// The request breaks a bound of the store (a key or value too large, a key written twice in a transaction).
    #[error("invalid request: {0}")]
    Invalid(String),
    /// The store was opened by somebody else.
    #[error("the datastore at {path} is in use by another process")]
    InUse { path: String },
    /// What is on disk was written by a newer version.
    #[error("the datastore at {path} has format {found}, but this version reads up to {supported}; use a newer k8w")]
    NewerFormat { path: String, found: u32, supported: u32 },
    /// The store is closed, unreachable, or its disk failed. Whether a write in flight happened is unknown.
    #[error("the datastore is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Guarantees, in every backend:
///
/// * **Linearizable**: a read that asks for no revision sees every write acknowledged before it began.
/// * **Atomic**: a [`Txn`] commits wholly or not at all, under one revision.
/// * **Durable**: a committed transaction survives the death of the process (in backends that keep anything at all).
/// * **Ordered**: a watch delivers every change of its range after `from`, in revision order, each once, with what it replaced.
/// * **Multi-version**: any revision that has not been compacted can be read and watched from.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// The newest revision, linearizably.
    async fn revision(&self) -> Result<Revision>;

    /// One key, newest state, and the revision that was read.
    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision)>;

    /// Keys of a range. Errors: `Compacted`, `FutureRevision`.
    async fn list(&self, request: ListRequest) -> Result<ListResponse>;

    /// Compares, then writes, atomically. Returns when the writes are durable and watchable.
    /// A transaction that changes nothing answers the store's current revision. Errors: `Invalid`.
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome>;

    /// All changes of `range` with a revision `> from`. An error item ends the stream: `Compacted` when history from
    /// `from + 1` on is not all there any more, `Lagged` when the consumer was too slow.
    /// Sends `Progress` at least every few seconds while nothing happens in the range. Errors: `FutureRevision`.
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<BoxStream<'static, Result<WatchItem>>>;

    /// Forget history older than `revision`: reads and watches below it answer `Compacted`. Errors: `Compacted` when it is
    /// gone already, `FutureRevision`.
    async fn compact(&self, revision: Revision) -> Result<()>;
}

/// The bounds that every backend puts on a transaction.
fn check_txn(txn: &Txn) -> Result<()> {
    let invalid = |what: String| Err(Error::Invalid(what));
    if txn.compares.len() > MAX_TXN_OPERATIONS || txn.writes.len() > MAX_TXN_OPERATIONS {
        return invalid(format!("a transaction has at most {MAX_TXN_OPERATIONS} compares and as many writes"));
    }
    let keys = txn.compares.iter().map(|c| &c.key).chain(txn.writes.iter().map(Write::key));
    for key in keys {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return invalid(format!("a key has 1 to {MAX_KEY_BYTES} bytes, not {}", key.len()));
        }
    }
    let value_bytes = |w: &Write| match w {
        Write::Put { value, .. } => value.len(),
        Write::Delete { .. } => 0,
    };
    let bytes: usize = txn.writes.iter().map(|w| w.key().len() + value_bytes(w)).sum();
    if bytes > MAX_TXN_BYTES {
        return invalid(format!("a transaction writes at most {MAX_TXN_BYTES} bytes, not {bytes}"));
    }
    let distinct: HashSet<&Bytes> = txn.writes.iter().map(Write::key).collect();
    if distinct.len() < txn.writes.len() {
        return invalid("a transaction writes a key only once".into());
    }
    Ok(())
}
