//! Standard streams of a container's processes: where what they write goes, and where what they read comes from.
//!
//! A container's own process writes to its log and to every client that is attached. What `exec` runs writes to its client
//! alone. Neither may write faster than its clients read; a client that stands still is dropped.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::container::Container;
use super::lines::Source;
use super::logs::{Log, LogStream, WRITE_PERMIT_BYTES};
use crate::engine::Output;

/// Pieces of standard input that wait for a process to read them.
const QUEUED_PIECES: usize = 16;
/// How long an attached client may stand still before its container goes on without it.
const STALL: Duration = Duration::from_secs(10);

/// The standard streams of one container, or of one command in it.
pub struct Stdio {
    /// `None` for a command that `exec` runs.
    pub log: Option<Arc<Log>>,
    pub clients: Clients,
    pub stdin: Option<Stdin>,
    pub tty: bool,
}

impl Stdio {
    /// Those of a container. `stdin_once` says whether standard input ends with its first client.
    pub fn of_container(log: Arc<Log>, stdin: bool, stdin_once: bool, tty: bool) -> Stdio {
        let stdin = stdin.then(|| Stdin::open(stdin_once));
        Stdio { log: Some(log), clients: Clients::default(), stdin, tty }
    }

    /// Those of a command with one client.
    pub fn of_command(stdin: Option<mpsc::Receiver<Bytes>>, output: mpsc::Sender<Output>, tty: bool) -> Stdio {
        let clients = Clients(Mutex::new(vec![output]));
        Stdio { log: None, clients, stdin: stdin.map(Stdin::from), tty }
    }

    /// Waits until more can be written to the log, if there is one.
    pub async fn room(&self) {
        if let Some(log) = &self.log {
            log.room().await;
        }
    }

    /// Waits until everything is in the log's file.
    pub async fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush().await;
        }
    }

    /// Writes text that no guest has written to a stream (a trap, a log entry), line by line, to standard error.
    pub fn complain(&self, text: &str) {
        match &self.log {
            Some(log) => log.line(Source::Stderr, text),
            None => self.clients.send(&Output::Stderr(format!("{text}\n").into())),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Who reads along.
#[derive(Default)]
pub struct Clients(Mutex<Vec<mpsc::Sender<Output>>>);

impl Clients {
    pub fn add(&self, client: mpsc::Sender<Output>) {
        lock(&self.0).push(client);
    }

    pub fn remove(&self, client: &mpsc::Sender<Output>) {
        lock(&self.0).retain(|found| !found.same_channel(client));
    }

    /// Lets all of them go: nothing more comes.
    pub fn clear(&self) {
        lock(&self.0).clear();
    }

    fn is_empty(&self) -> bool {
        let mut clients = lock(&self.0);
        clients.retain(|client| !client.is_closed());
        clients.is_empty()
    }

    fn have_room(&self) -> bool {
        lock(&self.0).iter().all(|client| client.is_closed() || client.capacity() > 0)
    }

    /// Waits until everybody can take something more, and drops whoever cannot for too long.
    async fn room(&self) {
        loop {
            let full = lock(&self.0).iter().find(|client| !client.is_closed() && client.capacity() == 0).cloned();
            let Some(full) = full else { return };
            if tokio::time::timeout(STALL, full.reserve()).await.is_err() {
                self.remove(&full);
            }
        }
    }

    /// Who is gone, or has been overtaken by another writer and has no room, is dropped.
    fn send(&self, output: &Output) {
        lock(&self.0).retain(|client| client.try_send(output.clone()).is_ok());
    }
}

/// A container's standard input, of which any instance may read.
pub struct Stdin {
    /// What clients write to; gone once standard input has ended.
    sender: Mutex<Option<mpsc::Sender<Bytes>>>,
    once: bool,
    pending: tokio::sync::Mutex<Pending>,
}

struct Pending {
    receiver: mpsc::Receiver<Bytes>,
    bytes: Bytes,
    ended: bool,
}

impl Stdin {
    fn open(once: bool) -> Stdin {
        let (sender, receiver) = mpsc::channel(QUEUED_PIECES);
        Stdin { sender: Mutex::new(Some(sender)), once, ..Stdin::from(receiver) }
    }

    /// Writes what a client says, until it has said everything.
    pub async fn fill(&self, mut client: mpsc::Receiver<Bytes>) {
        let sender = lock(&self.sender).clone();
        if let Some(sender) = sender {
            while let Some(bytes) = client.recv().await {
                if sender.send(bytes).await.is_err() {
                    return;
                }
            }
            if self.once {
                self.end();
            }
        }
    }

    /// Nothing more comes, from no client.
    pub fn end(&self) {
        *lock(&self.sender) = None;
    }

    fn read(&self, size: usize) -> StreamResult<Bytes> {
        // Held only by an instance that waits for bytes: there are none.
        let Ok(mut pending) = self.pending.try_lock() else { return Ok(Bytes::new()) };
        if pending.bytes.is_empty() && !pending.ended {
            match pending.receiver.try_recv() {
                Ok(bytes) => pending.bytes = bytes,
                Err(mpsc::error::TryRecvError::Empty) => {}
                Err(mpsc::error::TryRecvError::Disconnected) => pending.ended = true,
            }
        }
        if pending.bytes.is_empty() && pending.ended {
            return Err(StreamError::Closed);
        }
        let length = size.min(pending.bytes.len());
        Ok(pending.bytes.split_to(length))
    }

    async fn ready(&self) {
        let mut pending = self.pending.lock().await;
        while pending.bytes.is_empty() && !pending.ended {
            match pending.receiver.recv().await {
                Some(bytes) => pending.bytes = bytes,
                None => pending.ended = true,
            }
        }
    }
}

impl From<mpsc::Receiver<Bytes>> for Stdin {
    fn from(receiver: mpsc::Receiver<Bytes>) -> Stdin {
        let pending = Pending { receiver, bytes: Bytes::new(), ended: false };
        Stdin { sender: Mutex::default(), once: false, pending: tokio::sync::Mutex::new(pending) }
    }
}

/// One instance's end of standard input; always ended where the container has none.
pub struct In(pub Arc<Container>);

#[async_trait::async_trait]
impl InputStream for In {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.0.stdio.stdin.as_ref().map_or(Err(StreamError::Closed), |stdin| stdin.read(size))
    }
}

#[async_trait::async_trait]
impl Pollable for In {
    async fn ready(&mut self) {
        if let Some(stdin) = &self.0.stdio.stdin {
            stdin.ready().await;
        }
    }
}

/// One instance's end of standard output or error.
pub struct Out {
    container: Arc<Container>,
    source: Source,
    log: Option<LogStream>,
}

impl Out {
    pub fn new(container: Arc<Container>, source: Source) -> Out {
        let log = container.stdio.log.as_ref().map(|log| LogStream::new(log.clone(), source));
        Out { container, source, log }
    }
}

impl OutputStream for Out {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_PERMIT_BYTES {
            return Err(StreamError::Trap(wasmtime::format_err!("write exceeds what check-write permitted")));
        }
        if let Some(log) = &mut self.log {
            log.push(&bytes);
        }
        self.container.stdio.clients.send(&match self.source {
            Source::Stderr if !self.container.stdio.tty => Output::Stderr(bytes),
            _ => Output::Stdout(bytes),
        });
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let Stdio { clients, log, .. } = &self.container.stdio;
        if log.is_none() && clients.is_empty() {
            return Err(StreamError::Closed);
        }
        let has_room = clients.have_room() && log.as_ref().is_none_or(|log| log.has_room());
        Ok(if has_room { WRITE_PERMIT_BYTES } else { 0 })
    }
}

#[async_trait::async_trait]
impl Pollable for Out {
    async fn ready(&mut self) {
        self.container.stdio.clients.room().await;
        self.container.stdio.room().await;
    }
}
