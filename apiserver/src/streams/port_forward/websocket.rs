//! Port-forward over the channels of a WebSocket: two of them per port that the query names, one connection each.

use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::Target;
use crate::query::Query;
use crate::status::Status;
use crate::streams::websocket::{self, Channels};

const BINARY: &str = "v4.channel.k8s.io";
const BASE64: &str = "v4.base64.channel.k8s.io";

pub const NAMES: &[&str] = &[BINARY, BASE64];

/// Ports of one WebSocket: channels are numbered by a byte.
const MAX_PORTS: usize = 100;
/// Pieces that wait for a slow pod, and messages for a slow client.
const QUEUED_PIECES: usize = 8;

/// The ports that a query names.
///
/// # Errors
/// 400 when it names none, or what is no port.
pub fn ports(query: &Query) -> Result<Vec<u16>, Status> {
    let named: Vec<&str> = query.all("ports").chain(query.all("port")).flat_map(|ports| ports.split(',')).collect();
    if named.is_empty() {
        return Err(Status::bad_request("query parameter \"port\" is required"));
    }
    if named.len() > MAX_PORTS {
        return Err(Status::bad_request(format!("at most {MAX_PORTS} ports can be forwarded")));
    }
    let parsed = named.iter().map(|port| port.parse().ok().filter(|port| *port > 0));
    parsed.collect::<Option<Vec<u16>>>().ok_or_else(|| Status::bad_request(format!("invalid port {}", named.join(","))))
}

/// Forwards until every port's connection has ended, or the client is gone.
pub async fn run<T>(io: T, protocol: &str, ports: Vec<u16>, target: Target)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let channels = if protocol == BASE64 { Channels::Base64 } else { Channels::Binary };
    let (mut sink, mut source) = websocket::open(io).await.split();
    let (messages, mut outgoing) = mpsc::channel::<Message>(QUEUED_PIECES);
    let mut inputs = Vec::new();
    let forwarding = FuturesUnordered::new();
    for (number, port) in ports.into_iter().enumerate() {
        let (input, pieces) = mpsc::channel(QUEUED_PIECES);
        inputs.push(input);
        // Bounded by MAX_PORTS.
        let out = Out { data: 2 * number as u8, channels, messages: messages.clone() };
        forwarding.push(forward(port, target.clone(), pieces, out));
    }
    drop(messages);
    let outwards = async {
        while let Some(message) = outgoing.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let inwards = async {
        while let Some(Ok(message)) = source.next().await {
            let Some((channel, bytes)) = channels.decode(message) else { continue };
            if channel.is_multiple_of(2)
                && let Some(input) = inputs.get(usize::from(channel / 2))
            {
                let _ = input.send(bytes).await;
            }
        }
    };
    let forwarded = forwarding.collect::<()>();
    let done = tokio::select! {
        ((), ()) = async { tokio::join!(outwards, forwarded) } => true,
        () = inwards => false,
    };
    if let (true, Ok(socket)) = (done, sink.reunite(source)) {
        websocket::close(socket).await;
    }
}

/// The two channels of one port.
struct Out {
    data: u8,
    channels: Channels,
    messages: mpsc::Sender<Message>,
}

impl Out {
    async fn data(&self, bytes: &[u8]) -> bool {
        self.messages.send(self.channels.encode(self.data, bytes)).await.is_ok()
    }

    async fn error(&self, bytes: &[u8]) -> bool {
        self.messages.send(self.channels.encode(self.data + 1, bytes)).await.is_ok()
    }
}

async fn forward(port: u16, target: Target, pieces: mpsc::Receiver<Bytes>, out: Out) {
    // Each channel begins with its port, lowest byte first.
    if !out.data(&port.to_le_bytes()).await || !out.error(&port.to_le_bytes()).await {
        return;
    }
    let say = |bytes: Bytes| {
        let out = &out;
        async move { out.data(&bytes).await }
    };
    if let Err(why) = target.exchange(port, pieces, say).await {
        out.error(why.as_bytes()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_named_in_the_query() {
        let ports = |query: &str| ports(&Query::parse(query)).map_err(|status| status.message);
        assert_eq!(ports("ports=80&ports=443,8080"), Ok(vec![80, 443, 8080]));
        assert_eq!(ports(""), Err("query parameter \"port\" is required".to_owned()));
        assert_eq!(ports("ports=80,0"), Err("invalid port 80,0".to_owned()));
        assert_eq!(ports("ports=http"), Err("invalid port http".to_owned()));
    }
}
