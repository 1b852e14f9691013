//! WebSockets: messages on numbered channels, and byte streams inside of binary messages.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use k8w_kinds::node_stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::body::Body;

/// The longest message of a client: what one message to a node may hold, base64 and the channel's number included.
const MAX_MESSAGE_BYTES: usize = node_stream::MAX_PAYLOAD_BYTES;
/// Bytes that are written to a socket whose client does not read.
const MAX_WRITE_BYTES: usize = 1 << 20;
/// How long a client may take to say goodbye.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
const TUNNEL_BYTES: usize = 32 << 10;

/// A server's end of a WebSocket on a connection that was switched to it.
pub async fn open<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE_BYTES))
        .max_frame_size(Some(MAX_MESSAGE_BYTES))
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BYTES);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Says goodbye, and waits a while for the client to do so: what was sent before must arrive.
pub async fn close<T: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<T>) {
    let goodbye = async {
        // Clients take a goodbye without a code for a failure.
        let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
        let _ = socket.close(Some(normal)).await;
        while let Some(Ok(_)) = socket.next().await {}
    };
    let _ = tokio::time::timeout(CLOSE_WAIT, goodbye).await;
}

/// How bytes of a numbered channel are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// A byte for the channel, then the bytes.
    Binary,
    /// A digit for the channel, then the bytes in base64, as text.
    Base64,
}

impl Channels {
    pub fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        match self {
            Channels::Binary => {
                let mut message = BytesMut::with_capacity(1 + bytes.len());
                message.put_u8(channel);
                message.put_slice(bytes);
                Message::Binary(message.freeze())
            }
            Channels::Base64 => {
                let mut message = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
                message.push(char::from(b'0' + channel));
                STANDARD.encode_string(bytes, &mut message);
                Message::text(message)
            }
        }
    }

    /// The channel and the bytes of a message; `None` for what is no message on a channel.
    pub fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        let mut bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            _ => return None,
        };
        if bytes.is_empty() {
            return None;
        }
        let channel = bytes.split_to(1)[0];
        match self {
            Channels::Binary => Some((channel, bytes)),
            // The channel is one character of text.
            Channels::Base64 if !channel.is_ascii() => None,
            Channels::Base64 => Some((channel.checked_sub(b'0')?, STANDARD.decode(&bytes).ok()?.into())),
        }
    }
}

/// The protocols of clients that only read, as `k8s.io/apimachinery` `pkg/util/httpstream/wsstream` names them.
pub const READERS: &[&str] = &["binary.k8s.io", "base64.binary.k8s.io"];

/// How bytes are put into the messages of a client that only reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Binary,
    /// As text, in base64.
    Base64,
}

impl Reader {
    /// The form of a protocol; clients that named none get bytes.
    pub fn of(protocol: &str) -> Reader {
        if protocol == READERS[1] { Reader::Base64 } else { Reader::Binary }
    }

    fn message(self, bytes: Bytes) -> Message {
        match self {
            Reader::Binary => Message::Binary(bytes),
            Reader::Base64 => Message::text(STANDARD.encode(bytes)),
        }
    }
}

/// Sends a body in messages as it comes, after an empty one that says that all is well, until it ends or the client goes.
pub async fn send_body<T: AsyncRead + AsyncWrite + Unpin>(io: T, body: Body, form: Reader) {
    let (mut sink, mut source) = open(io).await.split();
    let outwards = async {
        let mut body = body.into_data_stream();
        let mut next = Some(Bytes::new());
        while let Some(bytes) = next {
            if sink.send(form.message(bytes)).await.is_err() {
                return;
            }
            next = body.next().await.and_then(Result::ok);
        }
    };
    let inwards = async { while let Some(Ok(_)) = source.next().await {} };
    tokio::select! {
        () = outwards => {}
        () = inwards => return,
    }
    if let Ok(socket) = sink.reunite(source) {
        close(socket).await;
    }
}

/// Carries the bytes of `pipe` in binary messages until either side ends.
pub async fn tunnel<T: AsyncRead + AsyncWrite + Unpin>(socket: WebSocketStream<T>, pipe: DuplexStream) {
    let (mut sink, mut source) = socket.split();
    let (mut read, mut write) = tokio::io::split(pipe);
    let inwards = async {
        while let Some(Ok(message)) = source.next().await {
            match message {
                Message::Binary(bytes) if write.write_all(&bytes).await.is_err() => return,
                Message::Close(_) => return,
                _ => {}
            }
        }
    };
    let outwards = async {
        let mut buffer = vec![0; TUNNEL_BYTES];
        while let Ok(length @ 1..) = read.read(&mut buffer).await {
            if sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..length]))).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
    if let Ok(socket) = sink.reunite(source) {
        close(socket).await;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn channels_keep_their_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..100), channel in 0u8..10) {
            for channels in [Channels::Binary, Channels::Base64] {
                let message = channels.encode(channel, &bytes);
                prop_assert_eq!(channels.decode(message), Some((channel, Bytes::from(bytes.clone()))));
            }
        }
    }

    #[test]
    fn what_is_on_no_channel_is_nothing() {
        assert_eq!(Channels::Binary.decode(Message::Binary(Bytes::new())), None);
        assert_eq!(Channels::Base64.decode(Message::text("1~~")), None);
        assert_eq!(Channels::Base64.decode(Message::text(" YQ==")), None);
        // Found by the fuzz target `websocket`: an answer on this channel could not be read again.
        assert_eq!(Channels::Base64.decode(Message::Binary(Bytes::from_static(b"\x81YQ=="))), None);
        assert_eq!(Channels::Binary.decode(Message::Ping(Bytes::new())), None);
    }

    #[tokio::test]
    async fn a_tunnel_carries_bytes_both_ways_and_ends() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let mut client = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
        let (mut inner, pipe) = tokio::io::duplex(1 << 16);
        let tunnelling = tokio::spawn(async move { tunnel(open(far).await, pipe).await });
        client.send(Message::Binary(Bytes::from_static(b"in"))).await.unwrap();
        let mut buffer = [0; 2];
        inner.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"in");
        inner.write_all(b"out").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"out")));
        drop(inner);
        assert!(matches!(client.next().await.unwrap().unwrap(), Message::Close(_)));
        assert!(client.next().await.is_none());
        tunnelling.await.unwrap();
    }
}
