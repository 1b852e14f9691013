//! `read-directory`: some entries at a time, however many there are. wasmtime-wasi reads all of them ahead (0.2), or has a
//! thread of the node's wait for a guest that does not (0.3).

use std::any::Any;
use std::fs::{DirEntry, FileType, ReadDir};
use std::io;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use nix::errno::Errno;
use wasmtime_wasi::runtime::spawn_blocking;

use super::by_name::Directory;

/// Entries that are read ahead of a guest.
const ENTRIES_AHEAD: usize = 64;

/// What a directory holds, in no order.
pub type Listing = BoxStream<'static, io::Result<Entry>>;

/// One name in a directory.
pub struct Entry {
    pub kind: FileType,
    pub name: String,
}

impl Entry {
    /// Of a name that no guest can be told: EILSEQ.
    fn of(found: &DirEntry) -> io::Result<Entry> {
        let name = found.file_name().into_string().map_err(|_| Errno::EILSEQ)?;
        Ok(Entry { kind: found.file_type()?, name })
    }
}

/// A directory that is being read.
pub(super) struct Reading {
    pub entries: ReadDir,
    /// Counts as an open file.
    pub _open: Arc<dyn Any + Send + Sync>,
}

impl Reading {
    /// The next entries; none at the end.
    fn next(&mut self) -> Vec<io::Result<Entry>> {
        self.entries.by_ref().take(ENTRIES_AHEAD).map(|found| Entry::of(&found?)).collect()
    }
}

/// Reads a directory, off the thread that runs guests.
///
/// # Errors
/// As opening a directory.
pub async fn read_directory(dir: io::Result<Directory>) -> io::Result<Listing> {
    let dir = dir?;
    let reading = spawn_blocking(move || dir.read()).await?;
    let chunks = stream::unfold(reading, |mut reading| async {
        let (chunk, reading) = spawn_blocking(move || (reading.next(), reading)).await;
        (!chunk.is_empty()).then(|| (stream::iter(chunk), reading))
    });
    Ok(chunks.flatten().boxed())
}

/// What an entry is in the words of one version of WASI, whose types differ in nothing but what has none. A socket has none, as
/// wasmtime-wasi has it: programs of preview 1 trap on its type, by their adapter.
macro_rules! kind {
    ($types:ident, $kind:expr, $other:expr) => {{
        use std::os::unix::fs::FileTypeExt as _;
        match $kind {
            kind if kind.is_file() => $types::DescriptorType::RegularFile,
            kind if kind.is_dir() => $types::DescriptorType::Directory,
            kind if kind.is_symlink() => $types::DescriptorType::SymbolicLink,
            kind if kind.is_fifo() => $types::DescriptorType::Fifo,
            kind if kind.is_block_device() => $types::DescriptorType::BlockDevice,
            kind if kind.is_char_device() => $types::DescriptorType::CharacterDevice,
            _ => $other,
        }
    }};
}
pub(crate) use kind;
