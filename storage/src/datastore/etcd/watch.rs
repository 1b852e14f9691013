//! One watch: a call of its own, events grouped by transaction, and progress asked for when there is silence.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::super::{Error, Event, KeyRange, Result, Revision, WatchItem};
use super::client::Client;
use super::{key_value, proto, range_end, range_start};

/// A watch without events asks this often how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// Requests on their way to etcd: the creation, and one for progress.
const REQUESTS: usize = 2;

/// Opens a watch and waits until etcd has taken it. `exact_progress`: whether etcd says no more than it has delivered.
pub(super) async fn open(
    client: &Client,
    range: KeyRange,
    from: Revision,
    exact_progress: bool,
) -> Result<BoxStream<'static, Result<WatchItem>>> {
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let create = proto::WatchCreateRequest {
        key: range_start(&range, &Bytes::new()),
        range_end: range_end(&range),
        // From `from` itself and not from the one behind it, so that etcd answers `compacted` exactly when our history
        // begins later; what happened at `from` is dropped below. 0 would mean "now".
        start_revision: from.max(1) as i64,
        prev_kv: true,
    };
    let create = proto::WatchRequest { action: Some(proto::WatchAction::Create(create)) };
    // The channel is empty, and its receiver here.
    let _ = requests.try_send(create);
    let responses = client.watch(ReceiverStream::new(receiver)).await?;
    let mut watch =
        Watch { requests, responses, delivered: from, ready: VecDeque::new(), announced: 0, exact_progress };
    let created = watch.response().await?;
    let current = created.header.as_ref().map_or(0, |header| header.revision as Revision);
    watch.take(created)?;
    if from > current {
        return Err(Error::FutureRevision { requested: from, current });
    }
    let items = stream::unfold(Some(watch), |watch| async move {
        let mut watch = watch?;
        let item = watch.next().await;
        let ended = item.is_err();
        Some((item, (!ended).then_some(watch)))
    });
    Ok(items.boxed())
}

struct Watch {
    requests: mpsc::Sender<proto::WatchRequest>,
    responses: Streaming<proto::WatchResponse>,
    /// Everything up to here has been yielded or is in `ready`.
    delivered: Revision,
    ready: VecDeque<WatchItem>,
    /// Progress that etcd has announced, and that is believed when the next announcement comes.
    announced: Revision,
    exact_progress: bool,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchItem> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            match tokio::time::timeout(PROGRESS_INTERVAL, self.response()).await {
                Ok(response) => self.take(response?)?,
                Err(_) => {
                    let progress = proto::WatchAction::Progress(proto::WatchProgressRequest {});
                    // If the last request has not even been sent, its answer is still to come.
                    let _ = self.requests.try_send(proto::WatchRequest { action: Some(progress) });
                }
            }
        }
    }

    /// Cancel safe.
    async fn response(&mut self) -> Result<proto::WatchResponse> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => Err(Error::Unavailable("etcd has ended the watch".into())),
            Err(status) => Err(Error::Unavailable(status.into())),
        }
    }

    fn take(&mut self, response: proto::WatchResponse) -> Result<()> {
        let revision = response.header.map_or(0, |header| header.revision as Revision);
        if response.compact_revision > 0 {
            let compacted = response.compact_revision as Revision;
            return Err(Error::Compacted { requested: self.delivered, compacted });
        }
        if response.canceled {
            return Err(Error::Unavailable(format!("etcd has cancelled the watch: {}", response.cancel_reason).into()));
        }
        if response.events.is_empty() && !response.created {
            self.progress(revision);
        }
        for event in response.events {
            self.event(event);
        }
        Ok(())
    }

    fn progress(&mut self, revision: Revision) {
        let certain = if self.exact_progress { revision } else { self.announced.min(revision) };
        self.announced = revision;
        if certain >= self.delivered && certain > 0 {
            self.delivered = certain;
            self.ready.push_back(WatchItem::Progress { revision: certain });
        }
    }

    /// etcd sends all events of a transaction in one response, in the order of its writes.
    fn event(&mut self, event: proto::Event) {
        let Some(kv) = event.kv else { return };
        let revision = kv.mod_revision as Revision;
        if revision <= self.delivered
            && !matches!(self.ready.back(), Some(WatchItem::Events { revision: r, .. }) if *r == revision)
        {
            return;
        }
        let previous = event.prev_kv.map(key_value);
        let event = match event.kind {
            proto::EVENT_DELETE => Event::Delete { key: Bytes::copy_from_slice(&kv.key), previous, revision },
            _ => Event::Put { kv: key_value(kv), previous },
        };
        match self.ready.back_mut() {
            Some(WatchItem::Events { revision: last, events }) if *last == revision => events.push(event),
            _ => self.ready.push_back(WatchItem::Events { revision, events: vec![event] }),
        }
        self.delivered = revision;
    }
}
