//! Who is told about changes, and how far behind they may fall.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::{Event, KeyRange, Revision, WatchItem};

/// Transactions that wait for one watcher before it is closed as lagging. Their values are shared with the store.
const MAX_BUFFERED_TRANSACTIONS: usize = 16 * 1024;

/// The receiving side of one watcher.
pub(super) struct Subscription {
    pub items: mpsc::Receiver<WatchItem>,
    /// Set when the channel was closed because it was full.
    pub lagged: Arc<AtomicBool>,
}

struct Watcher {
    range: KeyRange,
    items: mpsc::Sender<WatchItem>,
    lagged: Arc<AtomicBool>,
}

/// The watchers of one store.
#[derive(Default)]
pub(super) struct Watchers(Vec<Watcher>);

impl Watchers {
    pub fn subscribe(&mut self, range: KeyRange) -> Subscription {
        let (sender, items) = mpsc::channel(MAX_BUFFERED_TRANSACTIONS);
        let lagged = Arc::new(AtomicBool::new(false));
        self.0.push(Watcher { range, items: sender, lagged: lagged.clone() });
        Subscription { items, lagged }
    }

    /// Tells every watcher what falls into its range; drops those that are gone or too slow.
    pub fn publish(&mut self, changes: Vec<(Revision, Vec<Event>)>) {
        self.0.retain(|watcher| {
            let sent = changes.iter().filter_map(|(revision, events)| only(&watcher.range, *revision, events));
            for item in sent {
                if let Err(error) = watcher.items.try_send(item) {
                    let full = matches!(error, mpsc::error::TrySendError::Full(_));
                    watcher.lagged.store(full, Ordering::Release);
                    return false;
                }
            }
            !watcher.items.is_closed()
        });
    }

    /// Ends every watch.
    pub fn close(&mut self) {
        self.0.clear();
    }
}

/// What of one transaction falls into a range.
pub(super) fn only(range: &KeyRange, revision: Revision, events: &[Event]) -> Option<WatchItem> {
    let events: Vec<Event> = events.iter().filter(|event| range.contains(event.key())).cloned().collect();
    (!events.is_empty()).then_some(WatchItem::Events { revision, events })
}
