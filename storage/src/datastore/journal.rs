//! Where a [`super::local::Local`] store keeps its history.

use bytes::Bytes;

use super::Revision;
use super::mvcc::Record;

/// Any error of the medium.
pub(super) type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// Something to do away from the tasks that serve requests.
pub(super) type Job = Box<dyn FnOnce() + Send>;

/// Keeps records. Calls block, and may come from several threads, `append` from one at a time.
pub(super) trait Journal: Send + Sync + 'static {
    /// Whether `append` does nothing that takes time: then every transaction is durable at once.
    const INSTANT: bool;

    /// Runs a job that appends for a crowd, where that may take its time.
    fn run(&self, job: Job);

    /// Keeps all records or, should the process die, a prefix that ends between two revisions. Durable when it returns.
    fn append(&self, records: &[Record]) -> Result<(), JournalError>;

    /// Remembers that history below `revision` is gone. Durable when it returns. `kept` is what is left of it, should the
    /// journal want to write itself anew.
    fn compact(&self, revision: Revision, kept: &dyn Kept) -> Result<(), JournalError>;
}

/// History as the store has it in memory.
pub(super) trait Kept {
    /// About how many bytes it has, on disk.
    fn bytes(&self) -> u64;

    /// The revision of the last compaction.
    fn compacted(&self) -> Revision;

    /// The records up to a revision of some keys, from `start` on, in order of key; and where to go on, if there is more.
    fn page(&self, start: &Bytes, up_to: Revision) -> (Vec<Record>, Option<Bytes>);
}

/// Keeps nothing: the memory backend.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Journal for Nowhere {
    const INSTANT: bool = true;

    fn run(&self, job: Job) {
        job();
    }

    fn append(&self, _: &[Record]) -> Result<(), JournalError> {
        Ok(())
    }

    fn compact(&self, _: Revision, _: &dyn Kept) -> Result<(), JournalError> {
        Ok(())
    }
}
