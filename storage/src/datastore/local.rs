//! A store inside this process: the index, the queue in front of its journal, its watchers and its expiring keys.
//!
//! ```text
//!   txn ─► compare + apply to the index ─► pending ─┬─ nobody flushes: append + fsync right here
//!          (one short lock, revision given)         └─ somebody does: wait; the next flush takes all that came meanwhile
//!                                                          │
//!                                     durable ◄────────────┘ ─► watchers, waiting writers, readers
//! ```
//!
//! Readers and watchers see what is durable and nothing newer. A transaction is compared with the newest state, durable or
//! not, and answers when all that it saw is durable. If the journal fails the store stops for good: what is in flight may or
//! may not have happened, and only opening it again can tell.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{Notify, oneshot};

use super::journal::{Journal, JournalError, Kept};
use super::mvcc::{Index, Record};
use super::watchers::{Subscription, Watchers, only};
use super::{
    Compare, Error, Event, KeyRange, KeyValue, ListRequest, ListResponse, Result, Revision, Txn, TxnOutcome, WatchItem,
    Write, check_txn,
};

/// Keys that a list visits before it lets writers in.
const KEYS_PER_LOCK: usize = 1024;
/// A watch without events says this often how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Milliseconds on a clock that the store's deadlines are set by.
pub(super) type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

pub(super) struct Local<J> {
    state: Mutex<State>,
    journal: J,
    clock: Clock,
    /// Wakes the sweeper: the earliest deadline may have changed, or the store is gone.
    deadlines_changed: Arc<Notify>,
}

struct State {
    index: Index,
    /// Everything up to here is in the journal.
    durable: Revision,
    /// Applied, but not in the journal yet.
    pending: Vec<Record>,
    /// Applied, but not durable yet: what watchers will be told, a transaction at a time.
    unpublished: VecDeque<(Revision, Vec<Event>)>,
    /// Somebody is writing the journal, and will look at `pending` again afterwards.
    flushing: bool,
    /// How many writers a flush served of late; tells a lone writer from a crowd, in which now and then one is alone.
    recent_group: usize,
    /// Who waits for a revision to be durable, in ascending order of revision.
    waiting: VecDeque<(Revision, oneshot::Sender<()>)>,
    watchers: Watchers,
    /// When keys expire. May name deadlines that a later put has lifted.
    deadlines: BTreeSet<(u64, Bytes)>,
    sweeping: bool,
    failed: Option<Arc<str>>,
}

/// The journal failed, or the store was closed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Stopped(Arc<str>);

enum Turn {
    Done,
    Lead { alone: bool },
    Wait(oneshot::Receiver<()>),
}

impl<J: Journal> Local<J> {
    /// A store whose history so far is `index`.
    pub fn new(index: Index, journal: J, clock: Clock) -> Arc<Self> {
        let state = State {
            durable: index.revision(),
            deadlines: index.expiries().collect(),
            index,
            pending: Vec::new(),
            unpublished: VecDeque::new(),
            flushing: false,
            recent_group: 0,
            waiting: VecDeque::new(),
            watchers: Watchers::default(),
            sweeping: false,
            failed: None,
        };
        Arc::new(Self { state: Mutex::new(state), journal, clock, deadlines_changed: Arc::default() })
    }

    // A panic while the lock was held is a bug, but no reason to take every reader down: the state is changed in small,
    // complete steps.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn revision(&self) -> Result<Revision> {
        let state = self.lock();
        state.alive()?;
        Ok(state.durable)
    }

    pub fn get(&self, key: &[u8]) -> Result<(Option<KeyValue>, Revision)> {
        let state = self.lock();
        state.alive()?;
        Ok((state.index.get(key, state.durable), state.durable))
    }

    pub fn list(&self, request: &ListRequest) -> Result<ListResponse> {
        loop {
            match self.list_once(request) {
                // The state that was newest when the list began was compacted away while it ran.
                Err(Error::Compacted { .. }) if request.revision.is_none() => continue,
                answer => return answer,
            }
        }
    }

    fn list_once(&self, request: &ListRequest) -> Result<ListResponse> {
        let revision = match request.revision {
            Some(revision) => revision,
            None => self.revision()?,
        };
        let limit = if request.limit == 0 { usize::MAX } else { request.limit };
        let mut items = Vec::new();
        let mut next = Some(request.start_key.clone().unwrap_or_default());
        while items.len() < limit
            && let Some(start) = next.take()
        {
            let state = self.readable(revision)?;
            let page = state.index.page(&request.range, &start, KEYS_PER_LOCK.min(limit - items.len()), revision);
            items.extend(page.items);
            next = page.next;
        }
        let mut remaining = 0;
        while let Some(start) = next.take() {
            let state = self.readable(revision)?;
            let (count, behind) = state.index.count(&request.range, &start, KEYS_PER_LOCK, revision);
            remaining += count;
            next = behind;
        }
        Ok(ListResponse { items, revision, remaining })
    }

    fn readable(&self, revision: Revision) -> Result<MutexGuard<'_, State>> {
        let state = self.lock();
        state.alive()?;
        state.index.readable(revision, state.durable)?;
        Ok(state)
    }

    pub async fn txn(self: &Arc<Self>, txn: Txn) -> Result<TxnOutcome> {
        check_txn(&txn)?;
        let (outcome, turn) = self.begin(txn)?;
        let durable = match turn {
            Turn::Done => true,
            Turn::Lead { alone } => {
                self.flush(alone).await;
                self.lock().durable >= outcome.revision()
            }
            Turn::Wait(durable) => durable.await.is_ok(),
        };
        match durable {
            true => Ok(outcome),
            false => Err(self.lock().alive().err().unwrap_or_else(|| unavailable("the journal did not answer"))),
        }
    }

    /// Decides a transaction and applies it; says what its caller must do until the outcome is durable.
    fn begin(self: &Arc<Self>, txn: Txn) -> Result<(TxnOutcome, Turn)> {
        let mut state = self.lock();
        let state = &mut *state;
        state.alive()?;
        let outcome = match state.index.conflict(&txn.compares) {
            Some(conflict) => conflict,
            None => {
                let expires = txn.writes.iter().any(|w| matches!(w, Write::Put { ttl_seconds: Some(_), .. }));
                let applied = state.index.apply(txn.writes, (self.clock)());
                if expires {
                    let deadline = |r: &Record| r.version.expires_at_ms.map(|at| (at, r.key.clone()));
                    state.deadlines.extend(applied.records.iter().filter_map(deadline));
                    self.sweep_when_due(state);
                }
                state.pending.extend(applied.records);
                if !applied.events.is_empty() {
                    state.unpublished.push_back((applied.revision, applied.events));
                }
                TxnOutcome::Committed { revision: applied.revision, previous: applied.previous }
            }
        };
        let turn = if outcome.revision() <= state.durable {
            Turn::Done
        } else if J::INSTANT {
            state.pending.clear();
            state.reach(outcome.revision());
            Turn::Done
        } else if !state.flushing {
            state.flushing = true;
            Turn::Lead { alone: state.recent_group <= 1 }
        } else {
            let (durable, wait) = oneshot::channel();
            state.waiting.push_back((outcome.revision(), durable));
            Turn::Wait(wait)
        };
        Ok((outcome, turn))
    }

    /// Writes what is pending. A lone writer does so on its own thread, with no hop; in a crowd the hop to the journal's
    /// thread is what lets more writers into the group.
    async fn flush(self: &Arc<Self>, alone: bool) {
        let multi_thread =
            tokio::runtime::Handle::current().runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread;
        let this = self.clone();
        if alone && multi_thread {
            if tokio::task::block_in_place(|| this.flush_group(1)) {
                self.journal.run(Box::new(move || while this.flush_group(0) {}));
            }
            return;
        }
        let (durable, wait) = oneshot::channel::<()>();
        let first = move || {
            let mut more = this.flush_group(1);
            drop(durable);
            while more {
                more = this.flush_group(0);
            }
        };
        self.journal.run(Box::new(first));
        drop(wait.await);
    }

    /// One append and one fsync for all that is pending; `leaders` of its writers do not wait in the queue. Returns whether
    /// more is pending; if not, the next writer leads.
    fn flush_group(self: &Arc<Self>, leaders: usize) -> bool {
        let (records, reached) = {
            let mut state = self.lock();
            (std::mem::take(&mut state.pending), state.index.revision())
        };
        let written = self.journal.append(&records);
        let (served, more) = {
            let mut state = self.lock();
            let served = match written {
                Ok(()) => state.reach(reached),
                Err(error) => {
                    state.stop(&format!("the datastore's journal failed: {error}"));
                    Vec::new()
                }
            };
            state.recent_group = (leaders + served.len()).max(state.recent_group / 2);
            state.flushing = !state.pending.is_empty();
            (served, state.flushing)
        };
        // Not before the lock is free: they, and whom they answer, come for it.
        for writer in served {
            // A writer that is gone has given up its request; the write stands.
            let _ = writer.send(());
        }
        more
    }

    pub async fn watch(
        self: &Arc<Self>,
        range: KeyRange,
        from: Revision,
    ) -> Result<BoxStream<'static, Result<WatchItem>>> {
        let mut state = self.readable(from)?;
        let backlog = state.index.changes(from, state.durable);
        let subscription = state.watchers.subscribe(range.clone());
        drop(state);
        let backlog: Vec<_> = backlog.iter().filter_map(|(revision, events)| only(&range, *revision, events)).collect();
        let live = Live { store: Arc::downgrade(self), subscription };
        let live = stream::unfold(Some(live), |live| async move {
            let mut live = live?;
            let item = live.next().await;
            let ended = item.is_err();
            Some((item, (!ended).then_some(live)))
        });
        Ok(stream::iter(backlog.into_iter().map(Ok)).chain(live).boxed())
    }

    pub async fn compact(self: &Arc<Self>, revision: Revision) -> Result<()> {
        {
            let mut state = self.readable(revision)?;
            let compacted = state.index.compacted();
            if revision <= compacted {
                return Err(Error::Compacted { requested: revision, compacted });
            }
            state.index.compact(revision);
        }
        let this = self.clone();
        let compacted = tokio::task::spawn_blocking(move || this.journal.compact(revision, &*this)).await;
        let failed: JournalError = match compacted {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(panicked) => panicked.into(),
        };
        let mut state = self.lock();
        state.stop(&format!("the datastore's journal failed: {failed}"));
        Err(Error::Unavailable(failed))
    }

    /// Starts the task that deletes expired keys, if there are any and it does not run yet.
    pub fn start_sweeping(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.deadlines.is_empty() && !state.sweeping {
            self.sweep_when_due(&mut state);
        }
    }

    fn sweep_when_due(self: &Arc<Self>, state: &mut State) {
        if std::mem::replace(&mut state.sweeping, true) {
            self.deadlines_changed.notify_one();
            return;
        }
        // The task must not keep the store alive, or a store with deadlines could never be closed.
        let store = Arc::downgrade(self);
        let changed = self.deadlines_changed.clone();
        tokio::spawn(async move {
            while let Some(this) = store.upgrade() {
                let Some(due) = this.sweep().await else { return };
                let wait = Duration::from_millis(due.saturating_sub((this.clock)()).max(1));
                drop(this);
                // Woken early or late, the next sweep sorts it out.
                let _ = tokio::time::timeout(wait, changed.notified()).await;
            }
        });
    }

    /// Deletes what is due; returns the next deadline, or `None` (and ends the sweeping) when there is none.
    async fn sweep(self: &Arc<Self>) -> Option<u64> {
        loop {
            let (key, revision) = {
                let mut state = self.lock();
                let Some((at, key)) = state.deadlines.first().cloned() else {
                    state.sweeping = false;
                    return None;
                };
                if at > (self.clock)() {
                    return Some(at);
                }
                state.deadlines.pop_first();
                match state.index.expiry(&key) {
                    Some((expires_at, revision)) if expires_at == at => (key, revision),
                    _ => continue,
                }
            };
            let compares = vec![Compare { key: key.clone(), mod_revision: revision }];
            // A conflict means that the key was put again; then that put's deadline counts.
            if let Err(error) = self.txn(Txn { compares, writes: vec![Write::Delete { key }] }).await {
                tracing::warn!(%error, "cannot delete an expired key");
                self.lock().sweeping = false;
                return None;
            }
        }
    }
}

impl<J: Journal> Kept for Local<J> {
    fn bytes(&self) -> u64 {
        self.lock().index.bytes()
    }

    fn compacted(&self) -> Revision {
        self.lock().index.compacted()
    }

    fn page(&self, start: &Bytes, up_to: Revision) -> (Vec<Record>, Option<Bytes>) {
        self.lock().index.records(start, KEYS_PER_LOCK, up_to)
    }
}

impl<J> Drop for Local<J> {
    fn drop(&mut self) {
        self.deadlines_changed.notify_one();
    }
}

impl State {
    fn alive(&self) -> Result<()> {
        self.failed.as_ref().map_or(Ok(()), |reason| Err(unavailable(reason)))
    }

    /// Everything up to `revision` is durable: tells watchers. Returns the writers that waited for it.
    fn reach(&mut self, revision: Revision) -> Vec<oneshot::Sender<()>> {
        let durable = self.unpublished.partition_point(|(happened, _)| *happened <= revision);
        self.watchers.publish(self.unpublished.drain(..durable).collect());
        self.durable = revision;
        let served = self.waiting.partition_point(|(waits_for, _)| *waits_for <= revision);
        self.waiting.drain(..served).map(|(_, writer)| writer).collect()
    }

    fn stop(&mut self, reason: &str) {
        tracing::error!(reason, "the datastore has stopped");
        self.failed = Some(reason.into());
        self.pending.clear();
        self.unpublished.clear();
        self.waiting.clear();
        self.watchers.close();
    }
}

/// The part of a watch that waits for new changes. It does not keep the store open.
struct Live<J> {
    store: Weak<Local<J>>,
    subscription: Subscription,
}

impl<J: Journal> Live<J> {
    async fn next(&mut self) -> Result<WatchItem> {
        match tokio::time::timeout(PROGRESS_INTERVAL, self.subscription.items.recv()).await {
            Ok(Some(item)) => Ok(item),
            Ok(None) => Err(self.ended()),
            Err(_) => self.progress(),
        }
    }

    fn progress(&mut self) -> Result<WatchItem> {
        let revision = self.store.upgrade().ok_or_else(|| self.ended())?.revision()?;
        // Everything up to this revision had been sent when it was read, so an empty channel means delivered.
        match self.subscription.items.try_recv() {
            Ok(item) => Ok(item),
            Err(TryRecvError::Empty) => Ok(WatchItem::Progress { revision }),
            Err(TryRecvError::Disconnected) => Err(self.ended()),
        }
    }

    fn ended(&self) -> Error {
        if self.subscription.lagged.load(Ordering::Acquire) {
            return Error::Lagged;
        }
        let stopped = self.store.upgrade().and_then(|store| store.lock().alive().err());
        stopped.unwrap_or_else(|| unavailable("the datastore was closed"))
    }
}

fn unavailable(reason: &str) -> Error {
    let error: JournalError = Box::new(Stopped(reason.into()));
    Error::Unavailable(error)
}
