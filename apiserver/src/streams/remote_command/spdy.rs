//! A command's streams as streams of a SPDY connection (`v4.channel.k8s.io` and before).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use k8w_kinds::node_stream::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::terminal::{FirstSize, TerminalSize};
use super::{Command, StatusForm, Streams};
use crate::streams::node::{Conversation, Receiver};
use crate::streams::spdy::{Connection, Stream, Writer};

/// How long a client may take to open all of its streams, as the kubelet lets it.
const OPEN_WAIT: Duration = Duration::from_secs(30);
/// The longest text of a terminal's size that is waited for to be whole.
const MAX_SIZE_BYTES: usize = 1 << 10;

/// How a version of the protocol differs from the others.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    name: &'static str,
    status: StatusForm,
    resizes: bool,
}

const PROTOCOLS: &[Protocol] = &[
    Protocol { name: "v4.channel.k8s.io", status: StatusForm::Json, resizes: true },
    Protocol { name: "v3.channel.k8s.io", status: StatusForm::Text, resizes: true },
    Protocol { name: "v2.channel.k8s.io", status: StatusForm::Text, resizes: false },
    Protocol { name: "channel.k8s.io", status: StatusForm::Text, resizes: false },
];

pub const NAMES: &[&str] = &[PROTOCOLS[0].name, PROTOCOLS[1].name, PROTOCOLS[2].name, PROTOCOLS[3].name];

/// The protocol of that name; clients that named none speak `channel.k8s.io`.
pub fn protocol(name: &str) -> Protocol {
    PROTOCOLS.iter().find(|protocol| protocol.name == name).copied().unwrap_or(PROTOCOLS[3])
}

/// Runs until the command has ended, or the client is gone.
pub async fn run<T>(io: T, protocol: Protocol, streams: Streams, node: Conversation, command: Command)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (connection, run) = Connection::new(io);
    tokio::join!(run, serve(connection, protocol, streams, node, command));
}

async fn serve(mut connection: Connection, protocol: Protocol, streams: Streams, node: Conversation, command: Command) {
    let opened = tokio::time::timeout(OPEN_WAIT, Opened::all(&mut connection, protocol, streams)).await;
    let Ok(Some(opened)) = opened else {
        return tracing::debug!("a client has not opened the streams that it asked for");
    };
    let Opened { error, stdin, stdout, stderr, resize } = opened;
    let Conversation { sender, mut receiver } = node;
    let size = FirstSize::default();
    let has_size = resize.is_some();
    let inwards = async {
        tokio::join!(send_stdin(stdin, &sender), send_sizes(resize, &sender, &size));
        // Nothing more to say, but the client is still there.
        std::future::pending::<()>().await;
    };
    let outwards = async {
        let last = Outputs { stdout, stderr }.fill(&mut receiver).await;
        if has_size {
            size.wait().await;
        }
        last
    };
    let last = tokio::select! {
        last = outwards => last,
        () = inwards => return,
        () = gone(&mut connection) => return,
    };
    drop(receiver);
    let status = command.end(&last, protocol.status);
    let _ = error.write(status.into()).await;
    error.finish().await;
    connection.close().await;
}

/// Done when the connection is over; streams that nobody asked for are dropped.
async fn gone(connection: &mut Connection) {
    while connection.accept().await.is_some() {}
}

/// The streams of one command.
struct Opened {
    error: Writer,
    stdin: Option<mpsc::Receiver<Bytes>>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    resize: Option<mpsc::Receiver<Bytes>>,
}

impl Opened {
    /// Waits for all streams; `None` when the client goes away before.
    async fn all(connection: &mut Connection, protocol: Protocol, streams: Streams) -> Option<Opened> {
        let (mut error, mut stdin, mut stdout, mut stderr, mut resize) = (None, None, None, None, None);
        loop {
            let wanted = (streams.stdin, streams.stdout, streams.stderr, streams.tty && protocol.resizes);
            if wanted == (stdin.is_some(), stdout.is_some(), stderr.is_some(), resize.is_some())
                && let Some(error) = error.take()
            {
                return Some(Opened { error, stdin, stdout, stderr, resize });
            }
            let stream = connection.accept().await?;
            let place = stream.header("streamtype").to_owned();
            let Stream { reader, writer, .. } = stream;
            match place.as_str() {
                "error" => error = Some(writer),
                "stdin" if streams.stdin => stdin = Some(reader),
                "stdout" if streams.stdout => stdout = Some(writer),
                "stderr" if streams.stderr => stderr = Some(writer),
                "resize" if streams.tty && protocol.resizes => resize = Some(reader),
                _ => {}
            }
        }
    }
}

async fn send_stdin(stdin: Option<mpsc::Receiver<Bytes>>, node: &mpsc::Sender<Bytes>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(bytes) = stdin.recv().await {
        let _ = node.send(Message::Stdin(bytes).encode()).await;
    }
    let _ = node.send(Message::StdinEnd.encode()).await;
}

/// Sizes are JSON objects, one after the other.
async fn send_sizes(resize: Option<mpsc::Receiver<Bytes>>, node: &mpsc::Sender<Bytes>, first: &FirstSize) {
    let Some(mut resize) = resize else { return };
    let mut buffer = BytesMut::new();
    while let Some(bytes) = resize.recv().await {
        buffer.extend_from_slice(&bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&buffer).into_iter::<TerminalSize>();
        let read: Vec<TerminalSize> = sizes.by_ref().map_while(Result::ok).collect();
        let taken = sizes.byte_offset();
        let _ = buffer.split_to(taken.min(buffer.len()));
        if buffer.len() > MAX_SIZE_BYTES {
            return;
        }
        for TerminalSize { width, height } in read {
            first.came();
            let _ = node.send(Message::Resize { columns: width, rows: height }.encode()).await;
        }
    }
}

struct Outputs {
    stdout: Option<Writer>,
    stderr: Option<Writer>,
}

impl Outputs {
    /// Passes on what the node says, to its last message.
    async fn fill(self, node: &mut Receiver) -> Message {
        loop {
            let (writer, bytes) = match node.message().await {
                Message::Stdout(bytes) => (&self.stdout, bytes),
                Message::Stderr(bytes) => (&self.stderr, bytes),
                last => {
                    for writer in [self.stdout, self.stderr].into_iter().flatten() {
                        writer.finish().await;
                    }
                    return last;
                }
            };
            if let Some(writer) = writer {
                let _ = writer.write(bytes).await;
            }
        }
    }
}
