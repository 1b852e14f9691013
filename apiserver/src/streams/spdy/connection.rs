//! The streams of one connection, as a server sees them: clients open them, both sides send on them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{Decoder, Encoder, Frame, MAX_DATA_BYTES, Malformed};
use super::headers::{self, Headers};

/// Streams open at once on one connection.
const MAX_STREAMS: usize = 512;
/// Pieces of data that wait for a stream's reader; then the connection is not read until it catches up.
const QUEUED_PIECES: usize = 8;
/// Frames that wait to be written.
const QUEUED_FRAMES: usize = 32;
/// Opened streams that wait to be accepted.
const QUEUED_STREAMS: usize = 8;
/// Bytes of frames that are written at once.
const WRITE_BYTES: usize = 64 << 10;
const READ_BYTES: usize = 32 << 10;

/// SPDY/3, section 2.6.3: status codes of RST_STREAM.
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 3;

/// A server's end of a connection.
pub struct Connection {
    streams: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
}

/// A stream that the client has opened.
pub struct Stream {
    headers: Headers,
    /// What the client sends; ends where it says so, or with the connection.
    pub reader: mpsc::Receiver<Bytes>,
    pub writer: Writer,
}

impl Stream {
    /// A header that the stream was opened with, by its name in lower case.
    pub fn header(&self, name: &str) -> &str {
        headers::value(&self.headers, name).unwrap_or_default()
    }
}

/// The sending side of a stream. Dropping it ends the stream for us, without telling the client.
pub struct Writer {
    stream: u32,
    frames: mpsc::Sender<Frame>,
    end: Arc<End>,
}

/// How far a stream is over.
#[derive(Default)]
struct End {
    /// The client has reset it.
    reset: CancellationToken,
    /// We send nothing on it any more.
    finished: AtomicBool,
}

/// Nobody is there to be sent anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub struct Closed;

impl Writer {
    /// Sends bytes, as fast as the client takes them.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn write(&self, mut bytes: Bytes) -> Result<(), Closed> {
        while !bytes.is_empty() {
            if self.end.reset.is_cancelled() {
                return Err(Closed);
            }
            let piece = bytes.split_to(bytes.len().min(MAX_DATA_BYTES));
            self.send(Frame::Data { stream: self.stream, bytes: piece, fin: false }).await?;
        }
        Ok(())
    }

    /// Tells the client that nothing more comes.
    pub async fn finish(self) {
        let _ = self.send(Frame::Data { stream: self.stream, bytes: Bytes::new(), fin: true }).await;
    }

    /// Done when the client has reset the stream: nobody reads it any more.
    pub fn is_reset(&self) -> impl Future<Output = ()> + Send + 'static {
        self.end.reset.clone().cancelled_owned()
    }

    async fn send(&self, frame: Frame) -> Result<(), Closed> {
        self.frames.send(frame).await.map_err(|_| Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end.finished.store(true, Ordering::Relaxed);
    }
}

impl Connection {
    /// A connection over `io`, and the task that must run for it: it ends when the client has gone, when it breaks the
    /// protocol, or after [`Connection::close`].
    pub fn new<T>(io: T) -> (Connection, impl Future<Output = ()> + Send)
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (accepted, streams) = mpsc::channel(QUEUED_STREAMS);
        let (frames, outgoing) = mpsc::channel(QUEUED_FRAMES);
        let (read, write) = tokio::io::split(io);
        let receiver = Receiver { accepted, frames: frames.clone(), open: HashMap::new(), last_stream: 0 };
        let run = async move {
            let ended = tokio::select! {
                ended = receiver.run(read) => ended,
                ended = send(write, outgoing) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a SPDY connection broke off");
            }
        };
        (Connection { streams, frames }, run)
    }

    /// The next stream that the client opens; `None` when the connection is over.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// Ends the connection once everything sent so far is written.
    pub async fn close(self) {
        let _ = self.frames.send(Frame::GoAway { last_stream: 0 }).await;
        self.frames.closed().await;
    }
}

/// Writes frames until the one that says goodbye.
async fn send<T: AsyncWrite>(mut io: WriteHalf<T>, mut frames: mpsc::Receiver<Frame>) -> io::Result<()> {
    let (mut encoder, mut buffer) = (Encoder::default(), Vec::new());
    while let Some(frame) = frames.recv().await {
        buffer.clear();
        encoder.encode(&frame, &mut buffer);
        let mut last = matches!(frame, Frame::GoAway { .. });
        while !last && buffer.len() < WRITE_BYTES {
            let Ok(frame) = frames.try_recv() else { break };
            encoder.encode(&frame, &mut buffer);
            last = matches!(frame, Frame::GoAway { .. });
        }
        io.write_all(&buffer).await?;
        io.flush().await?;
        if last {
            return io.shutdown().await;
        }
    }
    Ok(())
}

/// Takes in what the client sends.
struct Receiver {
    accepted: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
    open: HashMap<u32, Open>,
    last_stream: u32,
}

/// A stream as the receiver knows it.
struct Open {
    /// Gone once the client has sent its last bytes.
    pieces: Option<mpsc::Sender<Bytes>>,
    end: Arc<End>,
}

impl Open {
    fn is_over(&self) -> bool {
        self.end.finished.load(Ordering::Relaxed) && self.pieces.as_ref().is_none_or(mpsc::Sender::is_closed)
    }
}

impl Receiver {
    async fn run<T: AsyncRead>(mut self, mut io: ReadHalf<T>) -> io::Result<()> {
        let mut decoder = Decoder::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let length = io.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            decoder.push(&buffer[..length]);
            let malformed = |error: Malformed| io::Error::new(io::ErrorKind::InvalidData, error);
            while let Some(frame) = decoder.pop().map_err(malformed)? {
                if matches!(frame, Frame::GoAway { .. }) {
                    return Ok(());
                }
                self.take(frame).await;
            }
        }
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::SynStream { stream, headers, fin } => self.open(stream, headers, fin).await,
            Frame::Data { stream, bytes, fin } => {
                let Some(open) = self.open.get_mut(&stream) else { return };
                if let Some(pieces) = open.pieces.as_ref().filter(|_| !bytes.is_empty()) {
                    // A reader that is gone does not want it.
                    let _ = pieces.send(bytes).await;
                }
                if fin {
                    open.pieces = None;
                }
            }
            Frame::Reset { stream, .. } => {
                if let Some(open) = self.open.remove(&stream) {
                    open.end.reset.cancel();
                }
            }
            // Even numbers would answer pings of ours, and we send none.
            Frame::Ping(id) if id % 2 == 1 => self.answer(Frame::Ping(id)).await,
            Frame::SynReply { .. } | Frame::Ping(_) | Frame::GoAway { .. } | Frame::Other(_) => {}
        }
    }

    /// Clients number their streams upwards, in odd numbers.
    async fn open(&mut self, stream: u32, headers: Headers, fin: bool) {
        if stream <= self.last_stream || stream.is_multiple_of(2) {
            return self.answer(Frame::Reset { stream, status: PROTOCOL_ERROR }).await;
        }
        self.last_stream = stream;
        self.open.retain(|_, open| !open.is_over());
        if self.open.len() == MAX_STREAMS {
            return self.answer(Frame::Reset { stream, status: REFUSED_STREAM }).await;
        }
        let (pieces, reader) = mpsc::channel(QUEUED_PIECES);
        let end = Arc::<End>::default();
        self.open.insert(stream, Open { pieces: (!fin).then_some(pieces), end: end.clone() });
        self.answer(Frame::SynReply { stream, headers: Headers::new(), fin: false }).await;
        let writer = Writer { stream, frames: self.frames.clone(), end };
        let _ = self.accepted.send(Stream { headers, reader, writer }).await;
    }

    async fn answer(&self, frame: Frame) {
        let _ = self.frames.send(frame).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that speaks in frames.
    struct Client {
        io: tokio::io::DuplexStream,
        encoder: Encoder,
        decoder: Decoder,
    }

    impl Client {
        fn connect() -> (Client, Connection) {
            let (near, far) = tokio::io::duplex(256 << 10);
            let (connection, run) = Connection::new(far);
            tokio::spawn(run);
            (Client { io: near, encoder: Encoder::default(), decoder: Decoder::default() }, connection)
        }

        async fn send(&mut self, frame: Frame) {
            let mut wire = Vec::new();
            self.encoder.encode(&frame, &mut wire);
            self.io.write_all(&wire).await.unwrap();
        }

        async fn open(&mut self, stream: u32) {
            let headers = vec![("streamtype".to_owned(), "data".to_owned())];
            self.send(Frame::SynStream { stream, headers, fin: false }).await;
        }

        async fn data(&mut self, stream: u32, text: &'static str, fin: bool) {
            self.send(Frame::Data { stream, bytes: Bytes::from_static(text.as_bytes()), fin }).await;
        }

        async fn next(&mut self) -> Option<Frame> {
            loop {
                if let Some(frame) = self.decoder.pop().unwrap() {
                    return Some(frame);
                }
                let mut buffer = [0; 4096];
                let length = self.io.read(&mut buffer).await.unwrap();
                if length == 0 {
                    return None;
                }
                self.decoder.push(&buffer[..length]);
            }
        }
    }

    #[tokio::test]
    async fn both_sides_send_and_finish() {
        let (mut client, mut connection) = Client::connect();
        client.open(1).await;
        client.data(1, "ping", true).await;
        let mut stream = connection.accept().await.unwrap();
        assert_eq!(stream.header("streamtype"), "data");
        assert_eq!(stream.reader.recv().await.unwrap(), "ping");
        assert_eq!(stream.reader.recv().await, None);
        stream.writer.write(Bytes::from_static(b"pong")).await.unwrap();
        stream.writer.finish().await;
        tokio::join!(connection.close(), async {
            assert!(matches!(client.next().await, Some(Frame::SynReply { stream: 1, .. })));
            let data = Frame::Data { stream: 1, bytes: Bytes::from_static(b"pong"), fin: false };
            assert_eq!(client.next().await, Some(data));
            assert!(matches!(client.next().await, Some(Frame::Data { fin: true, .. })));
            assert!(matches!(client.next().await, Some(Frame::GoAway { .. })));
            assert_eq!(client.next().await, None);
        });
    }

    #[tokio::test]
    async fn pings_are_answered_and_wrong_numbers_refused() {
        let (mut client, _connection) = Client::connect();
        client.send(Frame::Ping(1)).await;
        assert_eq!(client.next().await, Some(Frame::Ping(1)));
        client.open(3).await;
        assert!(matches!(client.next().await, Some(Frame::SynReply { stream: 3, .. })));
        for wrong in [1, 3, 4] {
            client.open(wrong).await;
            assert_eq!(client.next().await, Some(Frame::Reset { stream: wrong, status: PROTOCOL_ERROR }));
        }
    }

    #[tokio::test]
    async fn a_stream_that_is_reset_takes_nothing_more() {
        let (mut client, mut connection) = Client::connect();
        client.open(1).await;
        let mut stream = connection.accept().await.unwrap();
        client.send(Frame::Reset { stream: 1, status: 5 }).await;
        assert_eq!(stream.reader.recv().await, None);
        stream.writer.is_reset().await;
        assert_eq!(stream.writer.write(Bytes::from_static(b"x")).await, Err(Closed));
    }

    #[tokio::test]
    async fn there_is_a_bound_on_open_streams() {
        let (mut client, mut connection) = Client::connect();
        let accepting = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Some(stream) = connection.accept().await {
                open.push(stream);
            }
            open.len()
        });
        for number in 0..=MAX_STREAMS as u32 {
            client.open(2 * number + 1).await;
            let refused = matches!(client.next().await, Some(Frame::Reset { status: REFUSED_STREAM, .. }));
            assert_eq!(refused, number == MAX_STREAMS as u32);
        }
        drop(client);
        assert_eq!(accepting.await.unwrap(), MAX_STREAMS);
    }

    #[tokio::test]
    async fn what_is_no_spdy_ends_the_connection() {
        let (mut client, mut connection) = Client::connect();
        client.io.write_all(&[0x80, 2, 0, 1, 0, 0, 0, 0]).await.unwrap();
        assert!(connection.accept().await.is_none());
    }
}
