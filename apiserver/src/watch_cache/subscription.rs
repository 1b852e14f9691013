//! One watcher's end of the cache.

use super::change::{EventType, Notice};
use super::kind::Place;
use super::record::Record;
use k8w_storage::datastore::Revision;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A change, and what it means to the watcher that gets it.
pub type Delivery = (Arc<Notice>, EventType);

/// What a watcher reads from. Dropping it ends the watch.
pub struct Subscription {
    /// The objects there were when the watch began, if it asked for them.
    pub initial: Vec<Arc<Record>>,
    /// The revision at which the watch began: everything up to it is in `initial` or was asked to be skipped.
    pub revision: Revision,
    pub(super) backlog: VecDeque<Delivery>,
    pub(super) receiver: mpsc::Receiver<Delivery>,
    pub(super) place: Place,
}

impl Subscription {
    /// The next change; `None` when the watcher was too slow or the cache started over, and it must list again.
    pub async fn next(&mut self) -> Option<Delivery> {
        match self.backlog.pop_front() {
            Some(delivery) => Some(delivery),
            None => self.receiver.recv().await,
        }
    }

    /// Whether there is nothing to watch any more, so that the end is no failure.
    pub fn is_ended(&self) -> bool {
        self.place.kind.is_ended()
    }

    /// How many changes are there already.
    pub fn waiting(&self) -> usize {
        self.backlog.len() + self.receiver.len()
    }

    /// The next change, if it is there already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.backlog.pop_front().or_else(|| self.receiver.try_recv().ok())
    }
}
