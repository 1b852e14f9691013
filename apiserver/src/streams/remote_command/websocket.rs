//! A command's streams on numbered channels of a WebSocket (`v5.channel.k8s.io` and before).

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use k8w_kinds::node_stream::Message as NodeMessage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::terminal::{FirstSize, TerminalSize};
use super::{Command, StatusForm, Streams};
use crate::streams::node::{Conversation, Receiver};
use crate::streams::websocket::{self, Channels};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// The byte after it names a channel on which the client sends nothing more.
const CLOSE: u8 = 255;

/// How a version of the protocol differs from the others.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    name: &'static str,
    channels: Channels,
    status: StatusForm,
    /// Clients can end standard input and keep the rest.
    closes: bool,
}

const PROTOCOLS: &[Protocol] = &[
    Protocol { name: "v5.channel.k8s.io", channels: Channels::Binary, status: StatusForm::Json, closes: true },
    Protocol { name: "v4.channel.k8s.io", channels: Channels::Binary, status: StatusForm::Json, closes: false },
    Protocol { name: "v4.base64.channel.k8s.io", channels: Channels::Base64, status: StatusForm::Json, closes: false },
    Protocol { name: "channel.k8s.io", channels: Channels::Binary, status: StatusForm::Text, closes: false },
    Protocol { name: "base64.channel.k8s.io", channels: Channels::Base64, status: StatusForm::Text, closes: false },
];

pub const NAMES: &[&str] =
    &[PROTOCOLS[0].name, PROTOCOLS[1].name, PROTOCOLS[2].name, PROTOCOLS[3].name, PROTOCOLS[4].name];

/// The protocol of that name; clients that named none speak `channel.k8s.io`.
pub fn protocol(name: &str) -> Protocol {
    PROTOCOLS.iter().find(|protocol| protocol.name == name).copied().unwrap_or(PROTOCOLS[3])
}

/// Runs until the command has ended, or the client is gone.
pub async fn run<T>(io: T, protocol: Protocol, streams: Streams, node: Conversation, command: Command)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sink, mut source) = websocket::open(io).await.split();
    let Conversation { sender, mut receiver } = node;
    let size = FirstSize::default();
    let ended = tokio::select! {
        ended = outwards(&mut receiver, &mut sink, protocol, streams, &command, &size) => ended,
        () = inwards(&mut source, sender, protocol, streams, &size) => false,
    };
    drop(receiver);
    if let (true, Ok(socket)) = (ended, sink.reunite(source)) {
        websocket::close(socket).await;
    }
}

/// From the node to the client; whether the client was told everything.
async fn outwards<T: AsyncRead + AsyncWrite + Unpin>(
    node: &mut Receiver,
    sink: &mut SplitSink<WebSocketStream<T>, Message>,
    protocol: Protocol,
    streams: Streams,
    command: &Command,
    size: &FirstSize,
) -> bool {
    // An empty message on the lowest channel that we write to says that all is well so far.
    let lowest = if streams.stdout {
        STDOUT
    } else if streams.stderr {
        STDERR
    } else {
        ERROR
    };
    if sink.send(protocol.channels.encode(lowest, &[])).await.is_err() {
        return false;
    }
    loop {
        let message = node.message().await;
        let (channel, bytes) = match &message {
            NodeMessage::Stdout(bytes) => (STDOUT, bytes),
            NodeMessage::Stderr(bytes) => (STDERR, bytes),
            last => {
                if streams.tty {
                    size.wait().await;
                }
                let status = command.end(last, protocol.status);
                return status.is_empty() || sink.send(protocol.channels.encode(ERROR, &status)).await.is_ok();
            }
        };
        if sink.send(protocol.channels.encode(channel, bytes)).await.is_err() {
            return false;
        }
    }
}

/// From the client to the node, until the client is gone.
async fn inwards<T: AsyncRead + AsyncWrite + Unpin>(
    source: &mut SplitStream<WebSocketStream<T>>,
    node: tokio::sync::mpsc::Sender<bytes::Bytes>,
    protocol: Protocol,
    streams: Streams,
    size: &FirstSize,
) {
    while let Some(Ok(message)) = source.next().await {
        let message = match protocol.channels.decode(message) {
            Some((STDIN, bytes)) if streams.stdin && !bytes.is_empty() => NodeMessage::Stdin(bytes),
            Some((RESIZE, bytes)) => match serde_json::from_slice(&bytes) {
                Ok(TerminalSize { width, height }) => {
                    size.came();
                    NodeMessage::Resize { columns: width, rows: height }
                }
                Err(_) => continue,
            },
            Some((CLOSE, bytes)) if protocol.closes && bytes[..] == [STDIN] => NodeMessage::StdinEnd,
            _ => continue,
        };
        // A node that takes nothing more has said, or will say, how the command ended.
        let _ = node.send(message.encode()).await;
    }
}
