//! What the API server and a node say to each other over [`NodeConnector`](crate::plugins::NodeConnector): one request
//! whose two bodies are both under way at once.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8w_kinds::node_stream::{Decoder, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::ApiServer;
use crate::body::Body;
use crate::plugins::ConnectError;
use crate::status::Status;

/// Pieces that wait for a slow node.
const QUEUED_PIECES: usize = 8;
/// Bytes that each direction of a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

/// A conversation with a node. Dropping the sender ends what it hears, dropping the receiver all of it.
pub struct Conversation {
    pub sender: mpsc::Sender<Bytes>,
    pub receiver: Receiver,
}

/// What the node says.
pub struct Receiver {
    body: Body,
    decoder: Decoder,
}

/// Asks a node for something that both sides then talk in.
///
/// # Errors
/// What the node refuses, in its words; 500 when it cannot be reached.
pub async fn converse(server: &ApiServer, node: &str, path: &str) -> Result<Conversation, Status> {
    let (sender, pieces) = mpsc::channel(QUEUED_PIECES);
    let frames = ReceiverStream::new(pieces).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let request = Request::post(path).body(Body::stream(StreamBody::new(frames))).map_err(Status::internal)?;
    let body = send(server, node, request).await?;
    Ok(Conversation { sender, receiver: Receiver { body, decoder: Decoder::default() } })
}

/// Sends a node a request, and returns the body of its answer.
///
/// # Errors
/// As [`converse`].
pub async fn send(server: &ApiServer, node: &str, request: Request<Body>) -> Result<Body, Status> {
    let connector = server.node_connector().ok_or_else(|| Status::unavailable("no node is connected"))?;
    let response = connector.request(node, request).await.map_err(unreachable)?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    Ok(response.into_body())
}

pub fn unreachable(error: ConnectError) -> Status {
    Status::internal(error)
}

/// What a node answers to a request that it does not grant is text, worded for the user.
async fn refusal(response: http::Response<Body>) -> Status {
    /// Enough for any sentence.
    const MESSAGE_BYTES: usize = 4096;
    let code = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MESSAGE_BYTES);
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let message = String::from_utf8_lossy(&bytes).trim().to_owned();
    match code {
        StatusCode::NOT_FOUND => {
            let mut status = Status::no_such_resource();
            status.message = message;
            status
        }
        StatusCode::BAD_REQUEST => Status::bad_request(message),
        _ => Status::internal(message),
    }
}

impl Receiver {
    /// The next bytes; `None` when the node has said everything.
    pub async fn bytes(&mut self) -> Option<Bytes> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Some(bytes);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "a node's answer broke off");
                    return None;
                }
            }
        }
    }

    /// The next message of a command, of which the last one says how it ended.
    pub async fn message(&mut self) -> Message {
        loop {
            match self.decoder.pop() {
                Ok(Some(message)) => return message,
                Ok(None) => match self.bytes().await {
                    Some(bytes) => self.decoder.push(&bytes),
                    None => return Message::Failed("the connection to the node broke off".to_owned()),
                },
                Err(error) => return Message::Failed(error.to_string()),
            }
        }
    }
}

impl Conversation {
    /// The conversation as a byte stream, for what speaks a protocol of its own over it.
    pub fn into_pipe(self) -> DuplexStream {
        let Conversation { sender, mut receiver } = self;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        let (mut read, mut write) = tokio::io::split(far);
        tokio::spawn(async move {
            while let Some(bytes) = receiver.bytes().await {
                if write.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; PIPE_BYTES];
            while let Ok(length @ 1..) = read.read(&mut buffer).await {
                if sender.send(Bytes::copy_from_slice(&buffer[..length])).await.is_err() {
                    return;
                }
            }
        });
        near
    }
}
