//! Port-forward over SPDY: each forwarded connection is a pair of streams, for data and for what went wrong.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Target;
use crate::streams::spdy::{Connection, Stream};

/// How long the second stream of a pair may take.
const PAIR_WAIT: Duration = Duration::from_secs(30);
/// Streams that wait for their other half.
const MAX_UNPAIRED: usize = 128;

/// Half of a pair.
struct Half {
    stream: Stream,
    opened: Instant,
}

/// Forwards until the client is gone.
pub async fn serve(mut connection: Connection, target: Target) {
    let mut halves: HashMap<String, Half> = HashMap::new();
    let mut forwarded = JoinSet::new();
    loop {
        let stream = tokio::select! {
            stream = connection.accept() => stream,
            Some(_) = forwarded.join_next() => continue,
        };
        let Some(stream) = stream else { return };
        let now = Instant::now();
        halves.retain(|_, half| now - half.opened < PAIR_WAIT);
        let request = stream.header("requestid").to_owned();
        match halves.remove(&request) {
            Some(Half { stream: other, .. }) => match pair(other, stream) {
                Some((data, error)) => drop(forwarded.spawn(forward(data, error, target.clone()))),
                None => tracing::debug!(request, "two streams of one kind are no pair"),
            },
            None if halves.len() < MAX_UNPAIRED => {
                halves.insert(request, Half { stream, opened: now });
            }
            None => tracing::debug!("too many streams wait for their other half"),
        }
    }
}

/// Data and error stream, whichever came first.
fn pair(first: Stream, second: Stream) -> Option<(Stream, Stream)> {
    match (first.header("streamtype"), second.header("streamtype")) {
        ("data", "error") => Some((first, second)),
        ("error", "data") => Some((second, first)),
        _ => None,
    }
}

async fn forward(data: Stream, error: Stream, target: Target) {
    let port = data.header("port").parse::<u16>().unwrap_or_default();
    let invalid = format!("invalid port {:?}", data.header("port"));
    let Stream { reader, writer, .. } = data;
    let forwarded = match port {
        0 => Err(invalid),
        1.. => tokio::select! {
            ended = target.exchange(port, reader, |bytes| async { writer.write(bytes).await.is_ok() }) => ended,
            () = writer.is_reset() => Ok(()),
        },
    };
    if let Err(why) = forwarded {
        let _ = error.writer.write(why.into()).await;
    }
    writer.finish().await;
    error.writer.finish().await;
}
