//! Clients that watch, many on a connection.

use anyhow::{Context, Result, bail};
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::http2::Http2;
use crate::load::Load;

/// Watches on one connection; the server allows 250.
const PER_CONNECTION: usize = 200;

/// Open watches, each a task that tells when an event came.
pub struct Watchers {
    _connections: Vec<Http2>,
    events: mpsc::UnboundedReceiver<Instant>,
}

impl Watchers {
    /// Opens a watch for each of `paths`, none of which has anything to say yet.
    pub async fn open(load: &Load, paths: impl IntoIterator<Item = String>) -> Result<Watchers> {
        let (came, events) = mpsc::unbounded_channel();
        let mut connections: Vec<Http2> = Vec::new();
        for (number, path) in paths.into_iter().enumerate() {
            if number % PER_CONNECTION == 0 {
                connections.push(load.connect().await?);
            }
            let connection = connections.last_mut().context("there is a connection")?;
            let mut events = connection.stream(&path).await?;
            let came = came.clone();
            tokio::spawn(async move {
                while let Some(Ok(_)) = events.frame().await {
                    // Ends with the measurement.
                    let _ = came.send(Instant::now());
                }
            });
        }
        Ok(Watchers { _connections: connections, events })
    }

    /// Waits until `count` events have come, and says when the last one did.
    pub async fn last_of(&mut self, count: usize) -> Result<Instant> {
        let mut last = None;
        for _ in 0..count {
            let event = tokio::time::timeout(crate::cluster::TIMEOUT, self.events.recv()).await;
            last = event.context("an event did not come")?.or(last);
        }
        match last {
            Some(last) => Ok(last),
            None => bail!("no event was waited for"),
        }
    }
}
