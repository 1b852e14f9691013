//! Clients that watch, many on a connection.

use anyhow::{Context, Result, bail};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::frames::Frames;
use crate::http2::Endpoint;

/// Watches on one connection; the server allows 250.
const PER_CONNECTION: usize = 200;

/// Open watches, each connection a task that tells how many events came, and when.
pub struct Watchers {
    events: mpsc::UnboundedReceiver<Result<(usize, Instant)>>,
    _connections: JoinSet<()>,
}

impl Watchers {
    /// Opens a watch for each of `paths`, none of which has anything to say yet.
    pub async fn open(server: &Endpoint, paths: impl IntoIterator<Item = String>) -> Result<Watchers> {
        let paths: Vec<String> = paths.into_iter().collect();
        let (came, events) = mpsc::unbounded_channel();
        let mut connections = JoinSet::new();
        for paths in paths.chunks(PER_CONNECTION) {
            let mut frames =
                Frames::open(server.connect().await?, &server.address.to_string(), &server.token, paths).await?;
            let came = came.clone();
            connections.spawn(async move {
                loop {
                    let lines = frames.lines().await.map(|lines| (lines, Instant::now()));
                    let ended = lines.is_err();
                    if came.send(lines).is_err() || ended {
                        return;
                    }
                }
            });
        }
        Ok(Watchers { events, _connections: connections })
    }

    /// Waits until `count` events have come, and says when the last one did.
    pub async fn last_of(&mut self, count: usize) -> Result<Instant> {
        let (mut come, mut last) = (0, None);
        while come < count {
            let events = tokio::time::timeout(crate::cluster::TIMEOUT, self.events.recv()).await;
            let (events, at) = events.context("an event did not come")?.context("the watches have ended")??;
            come += events;
            last = Some(at);
        }
        match last {
            Some(last) if come == count => Ok(last),
            _ => bail!("{come} events came in place of {count}"),
        }
    }
}
