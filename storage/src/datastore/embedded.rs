//! The store of a cluster that needs no database beside it: one folder, one process, every acknowledged write on disk.
//!
//! Values live in memory, shared with whoever reads them; the disk is there to bring them back. History is kept as etcd
//! keeps it, revision by revision, in an LSM tree ([`fjall`]), whose own log is the only thing that a write waits for.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use futures::stream::BoxStream;

use super::journal::{Journal, JournalError};
use super::local::Local;
use super::mvcc::{Index, Record, Version};
use super::{
    Datastore, Error, KeyRange, KeyValue, ListRequest, ListResponse, Result, Revision, Txn, TxnOutcome, WatchItem,
};

/// What this version writes, and the newest that it reads. 1: records keyed as [`encode_key`] says.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const HISTORY_FOLDER: &str = "history";

/// Writes held in memory by the LSM tree before it sorts them into a table; also about what is read again on opening.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Blocks of tables kept in memory. Tables are read when opening and when merging only.
const BLOCK_CACHE_BYTES: u64 = 1024 * 1024;
/// Records dropped by compaction in one go, so that writers get in between.
const DROPPED_PER_BATCH: usize = 512;

/// A durable store in a folder of its own. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct Embedded(Arc<Local<History>>);

impl Embedded {
    /// Opens the store in `path`, and makes it if it is not there. Blocks. Errors: `InUse`, `NewerFormat`, `Unavailable`.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        check_format(path)?;
        let (history, index) = History::open(path, lock).map_err(Error::Unavailable)?;
        Ok(Self(Local::new(index, history, Box::new(unix_ms))))
    }

    /// The store, with the expiring keys that it was opened with attended to: that takes a runtime, which there need not be
    /// when it is opened.
    fn sweeping(&self) -> &Arc<Local<History>> {
        self.0.start_sweeping();
        &self.0
    }
}

#[async_trait]
impl Datastore for Embedded {
    async fn revision(&self) -> Result<Revision> {
        self.0.revision()
    }

    async fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision)> {
        self.0.get(key)
    }

    async fn list(&self, request: ListRequest) -> Result<ListResponse> {
        self.sweeping().list(&request)
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome> {
        self.0.txn(txn).await
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<BoxStream<'static, Result<WatchItem>>> {
        self.sweeping().watch(range, from).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        self.0.compact(revision).await
    }
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Makes the folder and takes the lock in it; the kernel gives it back however the process ends.
fn lock(path: &Path) -> Result<File> {
    let open = || {
        std::fs::create_dir_all(path)?;
        File::options().create(true).truncate(false).write(true).open(path.join(LOCK_FILE))
    };
    let file = open().map_err(|error| unavailable(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.display().to_string() }),
        Err(TryLockError::Error(error)) => Err(unavailable(path, error)),
    }
}

/// Refuses what a newer version has written; marks an empty folder with this version's format.
fn check_format(path: &Path) -> Result<()> {
    let file = path.join(FORMAT_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => {
            let found: u32 = text.trim().parse().map_err(|error| unavailable(&file, error))?;
            if found > FORMAT {
                return Err(Error::NewerFormat { path: path.display().to_string(), found, supported: FORMAT });
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_atomically(path, FORMAT_FILE, format!("{FORMAT}\n").as_bytes())
                .map_err(|error| unavailable(&file, error))
        }
        Err(error) => Err(unavailable(&file, error)),
    }
}

fn write_atomically(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(folder.join(name))?;
    File::open(folder)?.sync_all()
}

/// What went wrong, and with which file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
struct At {
    path: String,
    source: JournalError,
}

fn unavailable(path: &Path, error: impl Into<JournalError>) -> Error {
    Error::Unavailable(Box::new(At { path: path.display().to_string(), source: error.into() }))
}

/// The journal on disk: a record per change, ordered by revision.
struct History {
    // Before `lock`, so that it is closed when the lock is given back.
    database: Database,
    records: Keyspace,
    _lock: File,
}

impl History {
    fn open(path: &Path, lock: File) -> Result<(Self, Index), JournalError> {
        let database =
            Database::builder(path.join(HISTORY_FOLDER)).cache_size(BLOCK_CACHE_BYTES).worker_threads(1).open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let records = database.keyspace("records", options)?;
        let history = Self { database, records, _lock: lock };
        let index = history.replay()?;
        Ok((history, index))
    }

    fn replay(&self) -> Result<Index, JournalError> {
        let mut index = Index::default();
        let mut compacted = 0;
        for entry in self.records.iter() {
            let (key, value) = entry.into_inner()?;
            if key.as_ref() == COMPACTED_KEY {
                compacted = value.as_ref().try_get_u64()?;
            } else {
                index.restore(decode(&key, &value)?);
            }
        }
        // A compaction may have been cut short after it had been decided.
        let forgotten = index.compact(compacted);
        self.drop_records(&forgotten)?;
        Ok(index)
    }

    fn drop_records(&self, forgotten: &[Record]) -> Result<(), JournalError> {
        for chunk in forgotten.chunks(DROPPED_PER_BATCH) {
            let mut batch = self.database.batch();
            for record in chunk {
                batch.remove(&self.records, encode_key(record));
            }
            batch.commit()?;
        }
        Ok(())
    }
}

impl Journal for History {
    const INSTANT: bool = false;

    fn append(&self, records: &[Record]) -> Result<(), JournalError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for record in records {
            let value = record.version.value.clone().unwrap_or_default();
            batch.insert(&self.records, encode_key(record), value);
        }
        Ok(batch.commit()?)
    }

    fn compact(&self, revision: Revision, forgotten: &[Record]) -> Result<(), JournalError> {
        let mut decision = self.database.batch().durability(Some(PersistMode::SyncData));
        decision.insert(&self.records, COMPACTED_KEY, revision.to_be_bytes());
        decision.commit()?;
        self.drop_records(forgotten)
    }
}

/// Under this key stands the revision of the last compaction. It sorts before every record: no record has revision 0.
const COMPACTED_KEY: &[u8] = b"\0\0\0\0\0\0\0\0compacted";
const PUT: u8 = 1;
const DELETE: u8 = 0;

/// A record's key: everything but its value, which is thus written as it is, without a copy.
/// `mod_revision u64 | position u32 | op u8 | create_revision u64 | expires_at_ms u64, 0 for never | key`, big-endian.
fn encode_key(record: &Record) -> Bytes {
    let version = &record.version;
    let mut key = Vec::with_capacity(8 + 4 + 1 + 8 + 8 + record.key.len());
    key.put_u64(version.mod_revision);
    key.put_u32(version.position);
    key.put_u8(if version.value.is_some() { PUT } else { DELETE });
    key.put_u64(version.create_revision);
    key.put_u64(version.expires_at_ms.unwrap_or(0));
    key.put_slice(&record.key);
    key.into()
}

fn decode(mut key: &[u8], value: &[u8]) -> Result<Record, JournalError> {
    let mod_revision = key.try_get_u64()?;
    let position = key.try_get_u32()?;
    let op = key.try_get_u8()?;
    let create_revision = key.try_get_u64()?;
    let expires_at_ms = Some(key.try_get_u64()?).filter(|at| *at != 0);
    // Copied, so that a small value does not keep the block in memory that it was read from.
    let value = (op == PUT).then(|| Bytes::copy_from_slice(value));
    let version = Version { mod_revision, position, create_revision, value, expires_at_ms };
    Ok(Record { key: Bytes::copy_from_slice(key), version })
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
