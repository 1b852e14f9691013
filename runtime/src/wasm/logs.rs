//! Standard output and error of a container: a file of [`lines`](super::lines), rotated.
//!
//! Every instance has streams of its own, so that lines of concurrent requests do not mix; a file write carries whole lines
//! only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::bucket::Bucket;
use super::config::GuestLimits;
use super::lines::{Lines, Source};
use super::log_writer::LogWriter;

/// What a guest may write in one call.
pub const WRITE_PERMIT_BYTES: usize = 64 << 10;
/// What is said ahead of the disk.
const MAX_PENDING_BYTES: usize = 512 << 10;
/// Whoever has said too much waits for so long at least: for each line alone it would have to be woken.
const RATE_STEP: Duration = Duration::from_millis(10);
/// A log that was silent may say as much at once as in this much time.
const RATE_BURST: Duration = Duration::from_secs(2);

/// The log file of one attempt of a container. It is opened by the first line: silent containers have none.
///
/// What is said waits here until [`LogWriter`] has written it. Whoever says more than the disk takes, or than its rate
/// allows, waits for [`room`](Log::room).
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    max_bytes: u64,
    keep: usize,
    writer: LogWriter,
    pending: Mutex<Pending>,
    /// Told when lines have been written.
    written: Notify,
    file: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Pending {
    lines: Vec<u8>,
    /// The writer has been told, and has not written everything yet.
    queued: bool,
    rate: Bucket,
}

#[derive(Debug)]
struct Open {
    file: File,
    written_bytes: u64,
}

/// Why nothing more can be said now.
enum Full {
    /// Too much of it is still to be written.
    Unwritten,
    /// It has been too much for its time.
    TooFast(Duration),
}

impl Log {
    /// A log at `path`, renamed to `<path>.<time>` when it exceeds the limit of a file; as many of those are kept as the
    /// limits say.
    pub fn new(path: PathBuf, limits: &GuestLimits, writer: LogWriter) -> Log {
        let rate = Bucket::new(limits.log_bytes_per_second, RATE_BURST, Instant::now());
        Log {
            path,
            max_bytes: limits.log_file_bytes,
            keep: limits.log_files,
            writer,
            pending: Mutex::new(Pending { lines: Vec::new(), queued: false, rate }),
            written: Notify::new(),
            file: Mutex::new(None),
        }
    }

    /// Says text of the engine's own (a trap), line by line.
    pub fn line(self: &Arc<Log>, source: Source, text: &str) {
        let (now, mut lines) = (Timestamp::now(), Lines::new(source));
        self.append(|pending| {
            lines.push(now, text.as_bytes(), pending);
            lines.end(now, pending);
        });
    }

    /// Whether more can be said now.
    pub fn has_room(&self) -> bool {
        self.full().is_none()
    }

    /// Waits until more can be said.
    pub async fn room(&self) {
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            written.as_mut().enable();
            match self.full() {
                None => return,
                Some(Full::Unwritten) => written.await,
                Some(Full::TooFast(wait)) => tokio::time::sleep(wait.max(RATE_STEP)).await,
            }
        }
    }

    /// Waits until everything is written that was said so far.
    pub async fn flush(&self) {
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            written.as_mut().enable();
            if !self.pending().queued {
                return;
            }
            written.await;
        }
    }

    fn full(&self) -> Option<Full> {
        let mut pending = self.pending();
        if pending.lines.len() >= MAX_PENDING_BYTES {
            return Some(Full::Unwritten);
        }
        pending.rate.wait(Instant::now()).map(Full::TooFast)
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets lines be appended to those that wait.
    fn append(self: &Arc<Log>, say: impl FnOnce(&mut Vec<u8>)) {
        let mut pending = self.pending();
        let before = pending.lines.len();
        say(&mut pending.lines);
        let said = pending.lines.len() - before;
        if said == 0 {
            return;
        }
        pending.rate.spend(said as u64);
        let was_queued = std::mem::replace(&mut pending.queued, true);
        drop(pending);
        if !was_queued {
            self.writer.write(self.clone());
        }
    }

    /// Writes what waits; for the writer's thread alone. Says whether more has come meanwhile.
    pub fn write_pending(&self) -> bool {
        let lines = std::mem::take(&mut self.pending().lines);
        self.write(&lines);
        let mut pending = self.pending();
        pending.queued = !pending.lines.is_empty();
        self.written.notify_waiters();
        pending.queued
    }

    /// A log must never stop a guest: what cannot be written is lost, and said on the node's own log.
    fn write(&self, lines: &[u8]) {
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.try_write(&mut open, lines) {
            tracing::warn!(path = %self.path.display(), "container log cannot be written: {error}");
        }
    }

    fn try_write(&self, open: &mut Option<Open>, lines: &[u8]) -> io::Result<()> {
        if open.as_ref().is_some_and(|open| open.written_bytes >= self.max_bytes) {
            *open = None;
            rotate(&self.path, self.keep, Timestamp::now())?;
        }
        let open = match open {
            Some(open) => open,
            None => {
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                let written_bytes = file.metadata()?.len();
                open.insert(Open { file, written_bytes })
            }
        };
        open.file.write_all(lines)?;
        open.written_bytes += lines.len() as u64;
        Ok(())
    }
}

/// Renames the file aside as the kubelet does, and removes the oldest of those renamed before.
fn rotate(path: &Path, keep: usize, now: Timestamp) -> io::Result<()> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    std::fs::rename(path, dir.join(format!("{name}.{}", now.strftime("%Y%m%d-%H%M%S.%f"))))?;
    let prefix = format!("{name}.");
    let mut old: Vec<PathBuf> = std::fs::read_dir(dir)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect();
    old.sort();
    for path in old.iter().rev().skip(keep) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// One instance's end of one stream.
pub struct LogStream {
    log: Arc<Log>,
    lines: Lines,
}

impl LogStream {
    pub fn new(log: Arc<Log>, source: Source) -> LogStream {
        LogStream { log, lines: Lines::new(source) }
    }

    /// Says bytes; a line is written when it is complete.
    pub fn push(&mut self, bytes: &[u8]) {
        self.log.append(|pending| self.lines.push(Timestamp::now(), bytes, pending));
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.log.append(|pending| self.lines.end(Timestamp::now(), pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::lines::MAX_PART_BYTES;

    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    fn log(path: &Path, max_bytes: u64, keep: usize) -> Arc<Log> {
        let limits = GuestLimits { log_file_bytes: max_bytes, log_files: keep, ..GuestLimits::default() };
        Arc::new(Log::new(path.to_owned(), &limits, LogWriter::start().unwrap()))
    }

    #[tokio::test]
    async fn lines_are_written_whole_and_the_last_one_when_its_stream_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = log(&path, 1 << 20, 1);
        let mut out = LogStream::new(log.clone(), Source::Stdout);
        let mut err = LogStream::new(log.clone(), Source::Stderr);
        out.push(b"one\ntw");
        err.push(b"warning\n");
        out.push(b"o\n\nthree");
        drop(out);
        log.flush().await;
        assert_eq!(texts(&path), ["stdout F one", "stderr F warning", "stdout F two", "stdout F ", "stdout F three"]);
    }

    #[tokio::test]
    async fn a_long_line_comes_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = log(&path, 1 << 20, 1);
        let mut out = LogStream::new(log.clone(), Source::Stdout);
        out.push(&vec![b'x'; MAX_PART_BYTES - 1]);
        out.push(b"yz\n");
        log.line(Source::Stderr, &"w".repeat(MAX_PART_BYTES + 1));
        log.flush().await;
        let lines = texts(&path);
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("stdout P xx") && lines[0].ends_with("xy"));
        assert_eq!(lines[1], "stdout F z");
        assert!(lines[2].starts_with("stderr P ww"));
        assert_eq!(lines[3], "stderr F w");
    }

    #[tokio::test]
    async fn a_full_file_is_renamed_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = log(&path, 10, 2);
        for n in 0..6 {
            log.line(Source::Stdout, &format!("line {n}"));
            log.flush().await;
        }
        assert_eq!(texts(&path), ["stdout F line 5"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[tokio::test]
    async fn whoever_says_too_much_waits() {
        let dir = tempfile::tempdir().unwrap();
        let limits = GuestLimits { log_bytes_per_second: 1_000, ..GuestLimits::default() };
        let log = Arc::new(Log::new(dir.path().join("0.log"), &limits, LogWriter::start().unwrap()));
        assert!(log.has_room());
        log.line(Source::Stdout, &"x".repeat(3_000));
        log.flush().await;
        assert!(!log.has_room(), "more than two seconds' worth was said");
        log.room().await;
        assert!(log.has_room());
    }
}
