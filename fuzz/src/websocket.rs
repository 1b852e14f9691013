//! WebSockets: messages on channels are read as they were written, and a tunnel carries just the bytes of the messages.

use std::cell::RefCell;

use futures::StreamExt;
use k8w_apiserver::streams::websocket::{Channels, open, tunnel};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio_tungstenite::tungstenite::Message;

/// Room for a whole input on its way, and for all that is answered.
const PIPE_BYTES: usize = 64 << 10;

thread_local! {
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// See the module.
pub fn check(input: &[u8]) {
    RUNTIME.with_borrow(|runtime| {
        runtime.block_on(async {
            let messages = messages(input).await;
            for message in &messages {
                for channels in [Channels::Binary, Channels::Base64] {
                    if let Some((channel, bytes)) = channels.decode(message.clone()) {
                        assert_eq!(channels.decode(channels.encode(channel, &bytes)), Some((channel, bytes)));
                    }
                }
            }
            let binary = messages.into_iter().filter_map(|message| match message {
                Message::Binary(bytes) => Some(bytes),
                _ => None,
            });
            assert_eq!(tunnelled(input).await, binary.collect::<Vec<_>>().concat());
        });
    });
}

/// A client that has sent these bytes and sends no more, and the server's end of the connection to it. Nobody reads what
/// is answered: it fits.
async fn connect(bytes: &[u8]) -> (DuplexStream, DuplexStream) {
    let (mut near, far) = tokio::io::duplex(PIPE_BYTES);
    near.write_all(bytes).await.expect("the pipe has room");
    near.shutdown().await.expect("the pipe is open");
    (near, far)
}

async fn messages(wire: &[u8]) -> Vec<Message> {
    let (_client, server) = connect(wire).await;
    let mut socket = open(server).await;
    let mut messages = Vec::new();
    while let Some(Ok(message)) = socket.next().await {
        let is_last = message.is_close();
        messages.push(message);
        if is_last {
            break;
        }
    }
    messages
}

async fn tunnelled(wire: &[u8]) -> Vec<u8> {
    let (_client, server) = connect(wire).await;
    let (mut inner, pipe) = tokio::io::duplex(PIPE_BYTES);
    tunnel(open(server).await, pipe).await;
    let mut carried = Vec::new();
    inner.read_to_end(&mut carried).await.expect("a pipe in memory");
    carried
}
