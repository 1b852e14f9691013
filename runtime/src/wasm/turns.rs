//! Whose turn it is to use one of a few workers: in turn among those who ask, so that one who asks for a lot holds up
//! only itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

/// A few workers, and who waits for them.
#[derive(Debug)]
pub struct Turns {
    waiting: Mutex<Waiting>,
    /// Told when somebody has to wait.
    wanted: Notify,
}

#[derive(Debug)]
struct Waiting {
    free: usize,
    /// Those who wait for something, in the order of their turns.
    order: VecDeque<String>,
    by_owner: HashMap<String, VecDeque<oneshot::Sender<Turn>>>,
}

/// The use of one worker; dropping it gives the worker to the next.
#[derive(Debug)]
pub struct Turn(Arc<Turns>);

impl Turns {
    pub fn new(workers: usize) -> Arc<Turns> {
        let waiting = Waiting { free: workers, order: VecDeque::new(), by_owner: HashMap::new() };
        Arc::new(Turns { waiting: Mutex::new(waiting), wanted: Notify::new() })
    }

    /// Waits for a worker. Dropping the future gives up the place.
    pub async fn take(self: &Arc<Turns>, owner: &str) -> Turn {
        let turn = {
            let mut waiting = self.lock();
            if waiting.free > 0 {
                waiting.free -= 1;
                return Turn(self.clone());
            }
            let (sender, turn) = oneshot::channel();
            if !waiting.by_owner.contains_key(owner) {
                waiting.order.push_back(owner.to_owned());
            }
            waiting.by_owner.entry(owner.to_owned()).or_default().push_back(sender);
            turn
        };
        self.wanted.notify_waiters();
        match turn.await {
            Ok(turn) => turn,
            // Senders are kept until they have sent.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until somebody waits for a worker.
    pub async fn wanted(&self) {
        loop {
            let mut wanted = std::pin::pin!(self.wanted.notified());
            wanted.as_mut().enable();
            if !self.lock().order.is_empty() {
                return;
            }
            wanted.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// The next in turn; whoever asked for more goes to the end.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let owner = self.order.pop_front()?;
        let queue = self.by_owner.get_mut(&owner)?;
        let next = queue.pop_front();
        if queue.is_empty() {
            self.by_owner.remove(&owner);
        } else {
            self.order.push_back(owner);
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut waiting = self.0.lock();
            loop {
                match waiting.next() {
                    Some(sender) if sender.is_closed() => {}
                    Some(sender) => break Some(sender),
                    None => {
                        waiting.free += 1;
                        break None;
                    }
                }
            }
        };
        // Who has left meanwhile gives the turn back by dropping it, outside the lock.
        if let Some(sender) = next {
            drop(sender.send(Turn(self.0.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_asks_for_a_lot_waits_for_itself() {
        let turns = Turns::new(1);
        let first = turns.take("greedy").await;
        let mut greedy: Vec<_> = (0..3).map(|_| Box::pin(turns.take("greedy"))).collect();
        for waiting in &mut greedy {
            assert!(waiting.as_mut().now_or_never().is_none());
        }
        let mut modest = Box::pin(turns.take("modest"));
        assert!(modest.as_mut().now_or_never().is_none());
        drop(first);
        drop(greedy.remove(0).await);
        let turn = modest.as_mut().now_or_never().expect("the second turn is the other's");
        assert!(greedy[0].as_mut().now_or_never().is_none());
        turns.wanted().now_or_never().expect("somebody waits");
        drop(turn);
        drop(greedy.remove(0).await);
    }

    #[tokio::test]
    async fn who_leaves_gives_up_its_place() {
        let turns = Turns::new(1);
        let first = turns.take("a").await;
        let mut leaving = Box::pin(turns.take("a"));
        assert!(leaving.as_mut().now_or_never().is_none());
        drop(leaving);
        drop(first);
        drop(turns.take("b").await);
        assert_eq!(turns.lock().free, 1);
    }
}
