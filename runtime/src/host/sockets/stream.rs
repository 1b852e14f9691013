//! The two directions of a connection as `wasi:io` streams.
//!
//! Reads and writes go straight to the connection; a task exists only while a write has to wait for the peer.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use k8w_networking::{Audience, Stream};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::host::pod_network::SocketPermit;

/// Bytes read from a connection at once, and bytes that a guest may write ahead of its peer.
const BUFFER_BYTES: usize = 64 << 10;

/// Both directions of one connection. The socket keeps one copy for `shutdown`, each stream another.
#[derive(Clone)]
pub struct Connection {
    reader: Arc<Mutex<Reader>>,
    writer: Arc<Mutex<Writer>>,
    audience: Arc<Audience>,
    permit: Arc<SocketPermit>,
}

impl Connection {
    pub fn new(stream: Stream, permit: Arc<SocketPermit>) -> Connection {
        let audience = Arc::new(stream.audience());
        let (read, write) = tokio::io::split(stream);
        Connection {
            reader: Arc::new(Mutex::new(Reader { half: Some(read), buffered: Bytes::new(), error: None })),
            writer: Arc::new(Mutex::new(Writer::Ready(write))),
            audience,
            permit,
        }
    }

    /// Further reads find the end of the stream.
    pub fn shutdown_receive(&self) {
        let mut reader = lock(&self.reader);
        reader.half = None;
        reader.buffered.clear();
    }

    /// Sends the end of the stream after everything written so far.
    pub fn shutdown_send(&self) {
        let mut writer = lock(&self.writer);
        let waiting = match std::mem::replace(&mut *writer, Writer::Closed(None)) {
            Writer::Ready(half) => Pending::Half(half),
            Writer::Writing(task) => Pending::Task(task),
            Writer::Closed(_) => return,
        };
        tokio::spawn(async move {
            let half = match waiting {
                Pending::Half(half) => Ok(half),
                Pending::Task(task) => task.await.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())),
            };
            // A peer that is gone needs no end of stream.
            if let Ok(mut half) = half {
                let _ = half.shutdown().await;
            }
        });
    }
}

enum Pending {
    Half(WriteHalf<Stream>),
    Task(JoinHandle<io::Result<WriteHalf<Stream>>>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Reader {
    /// Absent after the end of the stream.
    half: Option<ReadHalf<Stream>>,
    buffered: Bytes,
    error: Option<io::Error>,
}

impl Reader {
    /// Ready when a read would not wait.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(half) = self.half.as_mut().filter(|_| self.buffered.is_empty() && self.error.is_none()) else {
            return Poll::Ready(());
        };
        let mut bytes = BytesMut::zeroed(BUFFER_BYTES);
        let mut into = ReadBuf::new(&mut bytes);
        let read = ready!(Pin::new(half).poll_read(cx, &mut into));
        let length = into.filled().len();
        bytes.truncate(length);
        match read {
            Ok(()) if length == 0 => self.half = None,
            Ok(()) => self.buffered = bytes.freeze(),
            Err(error) => {
                self.half = None;
                self.error = Some(error);
            }
        }
        Poll::Ready(())
    }
}

impl InputStream for Connection {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut reader = lock(&self.reader);
        if reader.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending() || size == 0 {
            return Ok(Bytes::new());
        }
        if let Some(error) = reader.error.take() {
            return Err(StreamError::LastOperationFailed(error.into()));
        }
        if reader.buffered.is_empty() {
            return Err(StreamError::Closed);
        }
        let length = size.min(reader.buffered.len());
        Ok(reader.buffered.split_to(length))
    }
}

#[async_trait::async_trait]
impl Pollable for Connection {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| lock(&self.reader).poll_fill(cx)).await;
    }
}

enum Writer {
    Ready(WriteHalf<Stream>),
    /// The peer was slower than the guest: a task writes the rest and gives the half back.
    Writing(JoinHandle<io::Result<WriteHalf<Stream>>>),
    Closed(Option<io::Error>),
}

impl Writer {
    /// Ready when the last write has been taken by the connection.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Writer::Writing(task) = self {
            *self = match ready!(pin!(task).poll(cx)) {
                Ok(Ok(half)) => Writer::Ready(half),
                Ok(Err(error)) => Writer::Closed(Some(error)),
                Err(_) => Writer::Closed(None),
            };
        }
        Poll::Ready(())
    }

    /// Writes what the connection takes at once, and leaves the rest to a task.
    ///
    /// The guest may be gone before that has written all. Then it counts as a socket of the guest's for as long if it is one of
    /// the kernel's; inside this process it ends at the latest when nobody reads at either end.
    fn write(&mut self, mut bytes: Bytes, audience: &Audience, permit: &Arc<SocketPermit>) -> StreamResult<()> {
        let Writer::Ready(half) = self else { return Err(self.error()) };
        while !bytes.is_empty() {
            match Pin::new(&mut *half).poll_write(&mut Context::from_waker(Waker::noop()), &bytes) {
                Poll::Ready(Ok(written)) => bytes.advance(written),
                Poll::Ready(Err(error)) => {
                    *self = Writer::Closed(Some(error));
                    return Err(self.error());
                }
                Poll::Pending => break,
            }
        }
        if !bytes.is_empty()
            && let Writer::Ready(mut half) = std::mem::replace(self, Writer::Closed(None))
        {
            let (unheard, permit) = (audience.unheard(), audience.is_half().then(|| permit.clone()));
            *self = Writer::Writing(tokio::spawn(async move {
                let _permit = permit;
                tokio::select! {
                    wrote = half.write_all(&bytes) => wrote.map(|()| half),
                    () = unheard => Err(io::ErrorKind::BrokenPipe.into()),
                }
            }));
        }
        Ok(())
    }

    fn error(&mut self) -> StreamError {
        match self {
            Writer::Closed(error @ Some(_)) => match error.take() {
                Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    StreamError::LastOperationFailed(error.into())
                }
                _ => StreamError::Closed,
            },
            Writer::Closed(None) => StreamError::Closed,
            Writer::Ready(_) | Writer::Writing(_) => {
                StreamError::Trap(wasmtime::format_err!("write without a permit from check-write"))
            }
        }
    }
}

/// The sending direction.
pub struct Sender {
    pub connection: Connection,
    /// Whether dropping it sends the end of the stream. Otherwise the socket's `shutdown` does, or dropping the socket.
    pub ends: bool,
}

impl Drop for Sender {
    fn drop(&mut self) {
        if self.ends {
            self.connection.shutdown_send();
        }
    }
}

impl OutputStream for Sender {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > BUFFER_BYTES {
            return Err(StreamError::Trap(wasmtime::format_err!("write exceeds what check-write permitted")));
        }
        let Connection { writer, audience, permit, .. } = &self.connection;
        lock(writer).write(bytes, audience, permit)
    }

    fn flush(&mut self) -> StreamResult<()> {
        match &mut *lock(&self.connection.writer) {
            closed @ Writer::Closed(_) => Err(closed.error()),
            _ => Ok(()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut writer = lock(&self.connection.writer);
        if writer.poll_idle(&mut Context::from_waker(Waker::noop())).is_pending() {
            return Ok(0);
        }
        match &mut *writer {
            closed @ Writer::Closed(_) => Err(closed.error()),
            _ => Ok(BUFFER_BYTES),
        }
    }
}

#[async_trait::async_trait]
impl Pollable for Sender {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| lock(&self.connection.writer).poll_idle(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Names;

    #[tokio::test]
    async fn a_slow_peer_makes_the_guest_wait_and_loses_nothing() {
        let network = Arc::new(crate::wasm::tests::pod_network(Names::default()));
        let (near, mut far) = Stream::pipe();
        let near = Connection::new(near, Arc::new(SocketPermit::take(&network).unwrap()));
        let mut sender = Sender { connection: near.clone(), ends: false };
        let mut sent = 0;
        while sender.check_write().unwrap() > 0 {
            sender.write(Bytes::from(vec![7; 50_000])).unwrap();
            sent += 50_000;
        }
        assert!(sent <= 3 * BUFFER_BYTES, "{sent} bytes were buffered");
        near.shutdown_send();
        let mut received = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut far, &mut received).await.unwrap();
        assert_eq!(received, vec![7; sent]);
        assert!(matches!(sender.check_write(), Err(StreamError::Closed)));
    }
}
