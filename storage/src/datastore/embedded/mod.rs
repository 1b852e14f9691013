//! The store of a cluster that needs no database beside it: one folder, one process, every acknowledged write on disk.
//!
//! Values live in memory, shared with whoever reads them; the disk is there to bring them back. A write is one append to a
//! log and one `fdatasync`, shared by all writers that come while another one runs. ([`history`] holds the files, [`log`]
//! their format. Measured against it: redb takes ten to forty times the processor time per write, fjall does not open
//! after a torn write.)

mod history;
mod log;
mod writer;

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures::stream::BoxStream;

use self::history::{History, sync_folder};
use super::journal::JournalError;
use super::local::Local;
use super::{
    Datastore, Error, KeyRange, KeyValue, ListRequest, ListResponse, Result, Revision, Txn, TxnOutcome, WatchItem,
};

/// What this version writes, and the newest that it reads. 1: the files of [`history`].
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
const HISTORY_FOLDER: &str = "history";

/// A durable store in a folder of its own. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone)]
pub struct Embedded(Arc<Local<History>>);

impl Embedded {
    /// Opens the store in `path`, and makes it if it is not there. Blocks. Errors: `InUse`, `NewerFormat`, `Unavailable`.
    pub fn open(path: &Path) -> Result<Self> {
        let lock = lock(path)?;
        check_format(path)?;
        let (history, index) =
            History::open(&path.join(HISTORY_FOLDER), lock).map_err(|error| unavailable(path, error))?;
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
    sync_folder(folder)
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

#[cfg(test)]
mod tests;
