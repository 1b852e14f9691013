//! The journal on disk: a log, and now and then a snapshot that takes the place of what lies before it.
//!
//! ```text
//!   snapshot-N   everything kept of history before log-N       (none for N = 0)
//!   log-N        every change since, and the revision of every compaction
//! ```
//!
//! A snapshot is made when compaction has left more garbage than content: writers change over to `log-N+1`, `snapshot-N+1`
//! is written beside them under another name and renamed when it is whole, and only then the older files go. A crash in
//! between leaves files of both generations, and reading all of them in order gives the same history.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::super::Revision;
use super::super::journal::{Job, Journal, JournalError, Kept};
use super::super::mvcc::{Index, Record};
use super::log::{self, Behind, Entry, LogFile, Tail};
use super::writer::Writer;

/// Garbage that is not worth a snapshot.
const TOLERATED_BYTES: u64 = 16 * 1024 * 1024;

pub(super) struct History {
    folder: PathBuf,
    log: Mutex<Log>,
    /// Held while a snapshot is made.
    snapshot: Mutex<()>,
    writer: Writer,
    /// Held as long as the store is open.
    _lock: File,
}

struct Log {
    file: LogFile,
    /// The newest revision in it, or before it.
    revision: Revision,
    /// Bytes in all older files.
    older_bytes: u64,
}

/// The files do not hold together. They are left as they are.
#[derive(Debug, thiserror::Error)]
enum Damaged {
    #[error("{path} is damaged at byte {position}; restore the folder from a backup")]
    File { path: String, position: u64 },
    #[error(
        "{path} is damaged at byte {position}, and later writes stand behind that; restore the folder from a backup, or \
         give the later writes up with `truncate --size={position} {path}`"
    )]
    NewestLog { path: String, position: u64 },
    #[error("{path} is missing; restore the folder from a backup")]
    Missing { path: String },
    #[error("{path} goes on with revision {found} after revision {last}; restore the folder from a backup")]
    Gap { path: String, last: Revision, found: Revision },
}

impl History {
    /// Reads what is in `folder`; `lock` is held until the journal is dropped.
    pub fn open(folder: &Path, lock: File) -> Result<(Self, Index), JournalError> {
        fs::create_dir_all(folder)?;
        let found = Files::find(folder)?;
        let mut records = Vec::new();
        let mut compacted = 0;
        let mut entry = |entry| match entry {
            Entry::Change(record) => records.push(record),
            Entry::Compacted(revision) => compacted = compacted.max(revision),
            Entry::End(_) => {}
        };
        let mut older_bytes = 0;
        if let Some(number) = found.snapshot {
            older_bytes += read_snapshot(&snapshot_path(folder, number), number, &mut entry)?;
        }
        let mut newest = None;
        let mut last = None;
        for (i, &number) in found.logs(folder)?.iter().enumerate() {
            let path = log_path(folder, number);
            let tail = read_log(&path, number, &mut last, &mut entry)?;
            if i + 1 < found.logs.len() {
                // A newer log was only begun when all of this one was on disk.
                whole(&path, tail)?;
                older_bytes += tail.end;
            } else {
                newest = Some((path, number, tail));
            }
        }
        let file = match newest {
            Some((path, number, tail)) => {
                match tail.behind {
                    Behind::Nothing => {}
                    Behind::Unfinished => {
                        tracing::warn!(path = %path.display(), position = tail.end, "dropped an unfinished write");
                    }
                    Behind::Damage => {
                        return Err(Damaged::NewestLog { path: shown(&path), position: tail.end }.into());
                    }
                }
                LogFile::resume(&path, number, tail)?
            }
            None => new_log(folder, 0)?,
        };
        // A snapshot is in the order of its keys.
        records.sort_unstable_by_key(|record| (record.version.mod_revision, record.version.position));
        let mut index = Index::default();
        records.into_iter().for_each(|record| index.restore(record));
        index.compact(compacted);
        let log = Mutex::new(Log { file, revision: index.revision(), older_bytes });
        Ok((
            Self { folder: folder.to_owned(), log, snapshot: Mutex::new(()), writer: Writer::start()?, _lock: lock },
            index,
        ))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of all frames of all files.
    pub fn len_bytes(&self) -> u64 {
        let log = self.log();
        log.older_bytes + log.file.len_bytes()
    }

    fn make_snapshot(&self, kept: &dyn Kept) -> Result<(), JournalError> {
        let (number, up_to) = self.begin_log()?;
        let path = snapshot_path(&self.folder, number);
        let unfinished = path.with_extension(UNFINISHED);
        // One may be there from a snapshot that was not finished.
        remove_if_there(&unfinished)?;
        let mut file = LogFile::create(&unfinished, number)?;
        let mut changes = 0;
        let mut next = Some(Bytes::new());
        while let Some(start) = next {
            let (records, behind) = kept.page(&start, up_to);
            for record in &records {
                file.push_change(record);
                if file.is_full() {
                    file.write()?;
                }
            }
            changes += records.len() as u64;
            next = behind;
        }
        // Asked for at the end: what was compacted meanwhile may be missing from the pages.
        file.push(&Entry::Compacted(kept.compacted()));
        file.push(&Entry::End(changes));
        file.write()?;
        let bytes = file.len_bytes();
        file.finish()?;
        fs::rename(&unfinished, &path)?;
        sync_folder(&self.folder)?;
        self.log().older_bytes = bytes;
        Files::find(&self.folder)?.remove_superseded()?;
        Ok(())
    }

    /// Changes over to a new log; returns its number, and the newest revision that is in the older ones.
    pub(super) fn begin_log(&self) -> io::Result<(u64, Revision)> {
        let mut log = self.log();
        let number = log.file.number() + 1;
        let file = new_log(&self.folder, number)?;
        let before = std::mem::replace(&mut log.file, file);
        log.older_bytes += before.len_bytes();
        before.finish()?;
        Ok((number, log.revision))
    }
}

impl Journal for History {
    const INSTANT: bool = false;

    fn run(&self, job: Job) {
        self.writer.run(job);
    }

    fn append(&self, records: &[Record]) -> Result<(), JournalError> {
        let mut log = self.log();
        for record in records {
            if record.version.mod_revision > log.revision {
                if log.file.is_full() {
                    log.file.write()?;
                    // Before the next frame: only the last one in the file may be unfinished.
                    log.file.sync()?;
                }
                log.revision = record.version.mod_revision;
            }
            log.file.push_change(record);
        }
        log.file.write()?;
        Ok(log.file.sync()?)
    }

    fn compact(&self, revision: Revision, kept: &dyn Kept) -> Result<(), JournalError> {
        {
            let mut log = self.log();
            log.file.push(&Entry::Compacted(revision));
            log.file.write()?;
            log.file.sync()?;
        }
        let _one_at_a_time = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if self.len_bytes() > 2 * kept.bytes() + TOLERATED_BYTES {
            self.make_snapshot(kept)?;
        }
        Ok(())
    }
}

const UNFINISHED: &str = "unfinished";

fn snapshot_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("snapshot-{number}"))
}

fn log_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("log-{number}"))
}

fn new_log(folder: &Path, number: u64) -> io::Result<LogFile> {
    let path = log_path(folder, number);
    // Nothing can be in it: its number is taken once it is part of the history.
    remove_if_there(&path)?;
    let file = LogFile::create(&path, number)?;
    sync_folder(folder)?;
    Ok(file)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn whole(path: &Path, tail: Tail) -> Result<(), Damaged> {
    match tail.behind {
        Behind::Nothing => Ok(()),
        Behind::Unfinished | Behind::Damage => Err(Damaged::File { path: shown(path), position: tail.end }),
    }
}

fn read_snapshot(path: &Path, number: u64, mut entry: impl FnMut(Entry)) -> Result<u64, JournalError> {
    let (mut changes, mut end) = (0, None);
    let tail = log::read(path, number, |next| {
        match &next {
            Entry::Change(_) => changes += 1,
            Entry::End(expected) => end = Some(*expected),
            Entry::Compacted(_) => {}
        }
        entry(next);
    })?;
    whole(path, tail)?;
    match end == Some(changes) {
        true => Ok(tail.end),
        false => Err(Damaged::File { path: shown(path), position: tail.end }.into()),
    }
}

/// Reads a log; `last` is the revision that the one before it ended with, and is brought up to this one's last.
fn read_log(
    path: &Path,
    number: u64,
    last: &mut Option<Revision>,
    mut entry: impl FnMut(Entry),
) -> Result<Tail, JournalError> {
    let mut gap = None;
    let tail = log::read(path, number, |next| {
        if let Entry::Change(record) = &next {
            let found = record.version.mod_revision;
            // A transaction has one revision for all that it changes, and the next one has the next.
            if let Some(last) = last.replace(found)
                && found != last
                && found != last + 1
            {
                gap.get_or_insert(Damaged::Gap { path: shown(path), last, found });
            }
        }
        entry(next);
    })?;
    gap.map_or(Ok(tail), |gap| Err(gap.into()))
}

/// The files that make up the history.
struct Files {
    /// The newest snapshot.
    snapshot: Option<u64>,
    /// The logs from there on, oldest first.
    logs: Vec<u64>,
    /// Everything older.
    superseded: Vec<PathBuf>,
}

impl Files {
    fn find(folder: &Path) -> io::Result<Self> {
        let (mut snapshots, mut logs) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            let number = |prefix| name.strip_prefix(prefix).and_then(|n: &str| n.parse::<u64>().ok());
            snapshots.extend(number("snapshot-"));
            logs.extend(number("log-"));
        }
        let snapshot = snapshots.iter().copied().max();
        let base = snapshot.unwrap_or(0);
        logs.sort_unstable();
        let old_snapshots = snapshots.iter().filter(|n| **n < base).map(|n| snapshot_path(folder, *n));
        let old_logs = logs.iter().filter(|n| **n < base).map(|n| log_path(folder, *n));
        let superseded = old_snapshots.chain(old_logs).collect();
        logs.retain(|n| *n >= base);
        Ok(Self { snapshot, logs, superseded })
    }

    /// The numbers of the logs, after checking that none is missing among them.
    fn logs(&self, folder: &Path) -> Result<&[u64], Damaged> {
        let first = self.snapshot.unwrap_or(0);
        // A snapshot is named after the log that goes on behind it, which is there before the snapshot is.
        let count = (self.logs.len() as u64).max(u64::from(self.snapshot.is_some()));
        match (first..first + count).find(|number| !self.logs.contains(number)) {
            Some(missing) => Err(Damaged::Missing { path: shown(&log_path(folder, missing)) }),
            None => Ok(&self.logs),
        }
    }

    fn remove_superseded(&self) -> io::Result<()> {
        self.superseded.iter().try_for_each(|path| remove_if_there(path))
    }
}
