//! Reads a container's log files, and follows them: woken by inotify and by the container's end, never by polling.

use std::ffi::OsString;
use std::io::{self, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::fs::File;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use crate::pod::logs::{Options, Renderer};

/// Bytes read from a file at once.
const READ_BYTES: usize = 64 << 10;
/// Longest line that is kept together; a longer one is cut here. The writer splits at 16 KiB.
const MAX_LINE_BYTES: usize = 1 << 20;

/// Sends what `options` asks for until the end, the receiver's end, or, when following, until `ended` resolves and all
/// was read. `path` is the current file; those it was rotated to lie beside it.
pub async fn send(
    path: PathBuf,
    options: Options,
    ended: impl Future<Output = ()>,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) {
    let follow = options.follow;
    let reader = Reader { renderer: Renderer::new(options.clone()), pending: Vec::new(), chunks: chunks.clone() };
    let result = async {
        // Watching begins before reading, so that nothing falls between the two.
        let changes = if follow { Some(Changes::watch(&path)?) } else { None };
        reader.run(&path, options.tail, changes, ended).await
    };
    if let Err(error) = result.await {
        let _ = chunks.send(Err(error)).await;
    }
}

struct Reader {
    renderer: Renderer,
    /// The beginning of a line whose end was not read yet.
    pending: Vec<u8>,
    chunks: mpsc::Sender<io::Result<Bytes>>,
}

/// Whether to read on.
#[derive(PartialEq)]
enum Next {
    More,
    Done,
}

impl Reader {
    async fn run(
        mut self,
        path: &Path,
        tail: Option<u64>,
        changes: Option<Changes>,
        ended: impl Future<Output = ()>,
    ) -> io::Result<()> {
        // All that was rotated away before what is current now.
        let (mut files, mut current) = loop {
            let current = open(path).await?;
            let files = rotated(path).await?;
            if !was_replaced(current.as_ref(), path).await {
                break (files, current);
            }
        };
        if current.is_some() {
            files.push(path.to_owned());
        }
        let (first, offset) = match tail {
            Some(lines) => start_of_tail(&files, lines).await?,
            None => (0, 0),
        };
        for (index, file) in files.iter().enumerate().skip(first) {
            let is_current = current.is_some() && index + 1 == files.len();
            let mut opened = if is_current { None } else { open(file).await? };
            let Some(file) = (if is_current { current.as_mut() } else { opened.as_mut() }) else { continue };
            if index == first {
                file.seek(SeekFrom::Start(offset)).await?;
            }
            if self.read(file).await? == Next::Done {
                return Ok(());
            }
        }
        match changes {
            Some(changes) => self.follow(path, current, changes, ended).await,
            None => Ok(()),
        }
    }

    async fn follow(
        &mut self,
        path: &Path,
        mut current: Option<File>,
        changes: Changes,
        ended: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut ended = std::pin::pin!(ended);
        let mut over = false;
        loop {
            if let Some(file) = &mut current
                && self.read(file).await? == Next::Done
            {
                return Ok(());
            }
            if was_replaced(current.as_ref(), path).await {
                // What was rotated away may have got more lines since it was read to its end, and gets none any more.
                if let Some(file) = &mut current
                    && self.read(file).await? == Next::Done
                {
                    return Ok(());
                }
                current = open(path).await?;
                continue;
            }
            if over {
                return Ok(());
            }
            tokio::select! {
                changed = changes.wait() => changed?,
                () = &mut ended => over = true,
                () = self.chunks.closed() => return Ok(()),
            }
        }
    }

    /// Reads to the end of the file as it is now.
    async fn read(&mut self, file: &mut File) -> io::Result<Next> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = file.read(&mut buffer).await?;
            if length == 0 {
                return Ok(Next::More);
            }
            let mut out = Vec::new();
            self.pending.extend_from_slice(&buffer[..length]);
            let mut begin = 0;
            while let Some(end) = self.pending[begin..].iter().position(|byte| *byte == b'\n') {
                self.renderer.line(&self.pending[begin..begin + end], &mut out);
                begin += end + 1;
            }
            self.pending.drain(..begin);
            self.pending.truncate(MAX_LINE_BYTES);
            if !out.is_empty() && self.chunks.send(Ok(out.into())).await.is_err() || self.renderer.is_done() {
                return Ok(Next::Done);
            }
            // Of a file, less than what was asked for is all there is.
            if length < buffer.len() {
                return Ok(Next::More);
            }
        }
    }
}

/// The files that were rotated away, oldest first: `<path>.<time>`, whose times sort as text.
pub(crate) async fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let mut prefix: OsString = name.to_owned();
    prefix.push(".");
    let mut entries = match tokio::fs::read_dir(dir).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut files = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        if entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

async fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path).await {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether `path` is another file than the one that is open.
async fn was_replaced(open: Option<&File>, path: &Path) -> bool {
    let Ok(found) = tokio::fs::metadata(path).await else { return false };
    let Some(open) = open else { return true };
    open.metadata().await.is_ok_and(|open| open.ino() != found.ino() || open.dev() != found.dev())
}

/// In which file, and where in it, the last `lines` lines begin.
async fn start_of_tail(files: &[PathBuf], lines: u64) -> io::Result<(usize, u64)> {
    let mut left = lines;
    for (index, path) in files.iter().enumerate().rev() {
        let Some(mut file) = open(path).await? else { continue };
        let mut end = file.metadata().await?.len();
        let length = end;
        while end > 0 {
            let begin = end.saturating_sub(READ_BYTES as u64);
            let mut block = vec![0; usize::try_from(end - begin).unwrap_or(READ_BYTES)];
            file.seek(SeekFrom::Start(begin)).await?;
            file.read_exact(&mut block).await?;
            for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let after = begin + at as u64 + 1;
                // The newline that ends the file begins no line.
                if after == length && lines > 0 {
                    continue;
                }
                if left <= 1 {
                    return Ok((index, if lines == 0 { length } else { after }));
                }
                left -= 1;
            }
            end = begin;
        }
        if left <= 1 {
            return Ok((index, 0));
        }
        left -= 1;
    }
    Ok((0, 0))
}

/// Tells when something in the log's directory was written, made or renamed.
struct Changes {
    inotify: AsyncFd<OwnedFd>,
}

impl Changes {
    fn watch(path: &Path) -> io::Result<Changes> {
        let dir = path.parent().unwrap_or(path);
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(dir, events)?;
        let inotify = OwnedFd::from(inotify);
        #[expect(unsafe_code, reason = "tokio cannot see that an OwnedFd keeps its descriptor")]
        // SAFETY: the OwnedFd is open, always returns the one descriptor it owns, and lives as long as the AsyncFd.
        let registered = unsafe { AsyncFd::register(inotify) };
        Ok(Changes { inotify: registered? })
    }

    async fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; 4_096];
        loop {
            let mut ready = self.inotify.readable().await?;
            let read = ready.try_io(|fd| nix::unistd::read(fd.get_ref(), &mut buffer).map_err(io::Error::from));
            match read {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::oneshot;

    use super::*;

    fn line(text: &str) -> String {
        format!("2024-01-01T00:00:00.000000000Z stdout F {text}\n")
    }

    async fn read(path: &Path, options: Options) -> String {
        let (sender, mut receiver) = mpsc::channel(8);
        tokio::spawn(send(path.to_owned(), options, std::future::pending(), sender));
        let mut all = String::new();
        while let Some(chunk) = receiver.recv().await {
            all.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
        all
    }

    fn tail(lines: u64) -> Options {
        Options { tail: Some(lines), ..Options::default() }
    }

    #[tokio::test]
    async fn reads_rotated_files_in_order_and_tails_across_them() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        fs::write(root.path().join("0.log.20240101-000000.1"), line("1") + &line("2")).unwrap();
        fs::write(root.path().join("0.log.20240101-000000.2"), line("3")).unwrap();
        fs::write(&path, line("4") + &line("5")).unwrap();
        fs::write(root.path().join("10.log"), line("no")).unwrap();
        assert_eq!(read(&path, Options::default()).await, "1\n2\n3\n4\n5\n");
        let tails = ["", "5\n", "4\n5\n", "3\n4\n5\n", "2\n3\n4\n5\n", "1\n2\n3\n4\n5\n", "1\n2\n3\n4\n5\n"];
        for (lines, expected) in tails.iter().enumerate() {
            assert_eq!(read(&path, tail(lines as u64)).await, *expected, "tail {lines}");
        }
    }

    #[tokio::test]
    async fn a_silent_container_has_an_empty_log() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(read(&root.path().join("0.log"), tail(5)).await, "");
    }

    #[tokio::test]
    async fn follows_writes_and_rotation_until_the_container_ends() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("0.log");
        let (sender, mut receiver) = mpsc::channel(8);
        let (end, ended) = oneshot::channel::<()>();
        let options = Options { follow: true, ..Options::default() };
        let ended = async move { drop(ended.await) };
        let task = tokio::spawn(send(path.clone(), options, ended, sender));
        let mut seen = String::new();
        for (step, text) in ["a", "b", "c"].into_iter().enumerate() {
            if step == 2 {
                fs::rename(&path, root.path().join("0.log.20240101-000000.1")).unwrap();
            }
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
            io::Write::write_all(&mut file, line(text).as_bytes()).unwrap();
            let chunk = receiver.recv().await.unwrap().unwrap();
            seen.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert_eq!(seen, "a\nb\nc\n");
        end.send(()).unwrap();
        assert!(receiver.recv().await.is_none());
        task.await.unwrap();
    }
}
