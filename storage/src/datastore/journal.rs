//! Where a [`super::local::Local`] store keeps its history.

use super::Revision;
use super::mvcc::Record;

/// Any error of the medium.
pub(super) type JournalError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps records. Calls block, and may come from several threads, `append` from one at a time.
pub(super) trait Journal: Send + Sync + 'static {
    /// Whether `append` does nothing that takes time: then every transaction is durable at once.
    const INSTANT: bool;

    /// Keeps all records or, should the process die, a prefix that ends between two revisions. Durable when it returns.
    fn append(&self, records: &[Record]) -> Result<(), JournalError>;

    /// Remembers that history below `revision` is gone, then drops the records. Durable when it returns, at least as far
    /// as the revision goes.
    fn compact(&self, revision: Revision, forgotten: &[Record]) -> Result<(), JournalError>;
}

/// Keeps nothing: the memory backend.
#[derive(Debug)]
pub(super) struct Nowhere;

impl Journal for Nowhere {
    const INSTANT: bool = true;

    fn append(&self, _: &[Record]) -> Result<(), JournalError> {
        Ok(())
    }

    fn compact(&self, _: Revision, _: &[Record]) -> Result<(), JournalError> {
        Ok(())
    }
}
