//! What the API server and a node say to each other over [`NodeConnector`](crate::plugins::NodeConnector): one request
//! whose two bodies are both under way at once.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream};
use http::{Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use k8w_kinds::node_stream::{Decoder, Message};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::PollSender;

use crate::ApiServer;
use crate::body::Body;
use crate::plugins::ConnectError;
use crate::status::Status;

/// Pieces that wait for a slow node.
const QUEUED_PIECES: usize = 8;

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
/// What the node refuses, in its words; 404 when there is no such node, and 500 when it cannot be reached.
pub async fn converse(server: &ApiServer, node: &str, path: &str) -> Result<Conversation, Status> {
    let (sender, pieces) = mpsc::channel(QUEUED_PIECES);
    let frames = ReceiverStream::new(pieces).map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let request = Request::post(path).body(Body::stream(StreamBody::new(frames))).map_err(Status::internal)?;
    let body = ask(server, node, request, |_, reason| format!("error dialing backend: {reason}")).await?;
    Ok(Conversation { sender, receiver: Receiver { body, decoder: Decoder::default() } })
}

/// Sends a node a request, and returns the body of its answer.
///
/// # Errors
/// As [`converse`].
pub async fn send(server: &ApiServer, node: &str, request: Request<Body>) -> Result<Body, Status> {
    let path = request.uri().clone();
    ask(server, node, request, |address, reason| format!("Get \"https://{address}{path}\": {reason}")).await
}

/// `unreachable` says that nobody answers at an address, and why, as Kubernetes does for what is asked.
async fn ask(
    server: &ApiServer,
    node: &str,
    request: Request<Body>,
    unreachable: impl Fn(&str, &str) -> String,
) -> Result<Body, Status> {
    let connector = server.node_connector().ok_or_else(|| Status::unavailable("no node is connected"))?;
    let response = connector.request(node, request).await.map_err(|error| match error {
        ConnectError::UnknownNode(name) => Status::not_found("", "nodes", &name),
        ConnectError::Unreachable { address, reason } => Status::failure(unreachable(&address, &reason)),
    })?;
    if response.status() != StatusCode::OK {
        return Err(refusal(response).await);
    }
    Ok(response.into_body())
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
    ///
    /// # Errors
    /// What the node says broke off.
    pub async fn bytes(&mut self) -> io::Result<Option<Bytes>> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(bytes) = frame.map_err(|_| broken_off())?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The next message of a command, of which the last one says how it ended.
    pub async fn message(&mut self) -> Message {
        loop {
            match self.decoder.pop() {
                Ok(Some(message)) => return message,
                Ok(None) => match self.bytes().await {
                    Ok(Some(bytes)) => self.decoder.push(&bytes),
                    Ok(None) | Err(_) => return Message::Failed(broken_off().to_string()),
                },
                Err(error) => return Message::Failed(error.to_string()),
            }
        }
    }
}

fn broken_off() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the connection to the node broke off")
}

impl Conversation {
    /// The conversation as a byte stream, for what speaks a protocol of its own over it.
    pub fn into_io(self) -> impl AsyncRead + AsyncWrite + Send + Unpin + 'static {
        let heard = stream::try_unfold(self.receiver, |mut receiver| async {
            Ok::<_, io::Error>(receiver.bytes().await?.map(|bytes| (bytes, receiver)))
        });
        let said = PollSender::new(self.sender).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        tokio::io::join(StreamReader::new(Box::pin(heard)), SinkWriter::new(CopyToBytes::new(said)))
    }
}
