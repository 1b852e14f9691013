//! Standard output and error of a container, as lines of the CRI log format, rotated.
//!
//! `2024-01-01T00:00:00.000000000Z stdout F text`: time, stream, `F` for a whole line or `P` for a part of one, and the
//! text (kubernetes/design-proposals-archive, `node/kubelet-cri-logging.md`). Every instance has streams of its own, so
//! that lines of concurrent requests do not mix; a file write carries whole lines only.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

/// A longer line is written in parts of this size, as container runtimes do.
const MAX_PART_BYTES: usize = 16 << 10;
/// What a guest may write in one call.
pub const WRITE_PERMIT_BYTES: usize = 64 << 10;

/// Which of the two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        }
    }
}

/// The log file of one attempt of a container. It is opened by the first line: silent containers have none.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    max_bytes: u64,
    keep: usize,
    file: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    file: File,
    written_bytes: u64,
}

impl Log {
    /// A log at `path`, renamed to `<path>.<time>` when it exceeds `max_bytes`; `keep` of those are kept.
    pub fn new(path: PathBuf, max_bytes: u64, keep: usize) -> Log {
        Log { path, max_bytes, keep, file: Mutex::new(None) }
    }

    /// Writes text of the engine's own (a trap), line by line.
    pub fn line(&self, source: Source, text: &str) {
        let mut formatted = Vec::new();
        for line in text.lines() {
            format_line(&mut formatted, Timestamp::now(), source, true, line.as_bytes());
        }
        self.append(&formatted);
    }

    /// A log must never stop a guest: what cannot be written is lost, and said on the node's own log.
    fn append(&self, lines: &[u8]) {
        let mut open = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Err(error) = self.try_append(&mut open, lines) {
            tracing::warn!(path = %self.path.display(), "container log cannot be written: {error}");
        }
    }

    fn try_append(&self, open: &mut Option<Open>, lines: &[u8]) -> io::Result<()> {
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

fn format_line(into: &mut Vec<u8>, time: Timestamp, source: Source, whole: bool, text: &[u8]) {
    let tag = if whole { 'F' } else { 'P' };
    // Writing to a Vec cannot fail.
    let _ = write!(into, "{time:.9} {} {tag} ", source.as_str());
    into.extend_from_slice(text);
    into.push(b'\n');
}

/// One instance's end of one stream.
pub struct LogStream {
    log: Arc<Log>,
    source: Source,
    /// The line that is not complete yet; shorter than [`MAX_PART_BYTES`].
    partial: Vec<u8>,
}

impl LogStream {
    pub fn new(log: Arc<Log>, source: Source) -> LogStream {
        LogStream { log, source, partial: Vec::new() }
    }

    /// Writes bytes; a line is written when it is complete.
    pub fn push(&mut self, mut bytes: &[u8]) {
        let (time, mut formatted) = (Timestamp::now(), Vec::new());
        while !bytes.is_empty() {
            let room = MAX_PART_BYTES - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let line_end = window.iter().position(|byte| *byte == b'\n');
            let text = &window[..line_end.unwrap_or(window.len())];
            bytes = &bytes[text.len() + usize::from(line_end.is_some())..];
            let complete = line_end.is_some() || self.partial.len() + text.len() == MAX_PART_BYTES;
            if complete && self.partial.is_empty() {
                format_line(&mut formatted, time, self.source, line_end.is_some(), text);
                continue;
            }
            self.partial.extend_from_slice(text);
            if complete {
                format_line(&mut formatted, time, self.source, line_end.is_some(), &self.partial);
                self.partial.clear();
            }
        }
        if !formatted.is_empty() {
            self.log.append(&formatted);
        }
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        if !self.partial.is_empty() {
            self.push(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn lines_are_written_whole_and_the_last_one_when_its_stream_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = Arc::new(Log::new(path.clone(), 1 << 20, 1));
        let mut out = LogStream::new(log.clone(), Source::Stdout);
        let mut err = LogStream::new(log, Source::Stderr);
        out.push(b"one\ntw");
        err.push(b"warning\n");
        out.push(b"o\n\nthree");
        drop(out);
        assert_eq!(texts(&path), ["stdout F one", "stderr F warning", "stdout F two", "stdout F ", "stdout F three"]);
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut out = LogStream::new(Arc::new(Log::new(path.clone(), 1 << 20, 1)), Source::Stdout);
        out.push(&vec![b'x'; MAX_PART_BYTES - 1]);
        out.push(b"yz\n");
        let lines = texts(&path);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("stdout P xx") && lines[0].ends_with("xy"));
        assert_eq!(lines[1], "stdout F z");
    }

    #[test]
    fn times_have_nine_digits() {
        let mut line = Vec::new();
        format_line(&mut line, Timestamp::UNIX_EPOCH, Source::Stdout, true, b"hi");
        expect_test::expect![[r#"
            1970-01-01T00:00:00.000000000Z stdout F hi
        "#]]
        .assert_eq(&String::from_utf8(line).unwrap());
    }

    #[test]
    fn a_full_file_is_renamed_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let log = Log::new(path.clone(), 10, 2);
        for n in 0..6 {
            log.line(Source::Stdout, &format!("line {n}"));
        }
        assert_eq!(texts(&path), ["stdout F line 5"]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
