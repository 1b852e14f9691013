//! Connections that serve one request: its share is theirs until they are closed.
//!
//! A request is over for hyper before all of it is sent: the rest lies in a buffer. A server that answers and reads nothing would
//! have such connections without end, and none of them counted.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::runtime::Handle;

use super::share::Share;

/// Once its request is answered, a connection that takes nothing more for so long is closed.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What a connection and the answer that came by it have in common.
#[derive(Clone)]
pub(super) struct Single(Arc<State>);

#[derive(Default)]
struct State {
    patience: Duration,
    share: Mutex<Option<Arc<Share>>>,
    is_closed: AtomicBool,
    is_late: AtomicBool,
    written: AtomicU64,
    /// Who writes to the connection.
    task: AtomicWaker,
}

impl Single {
    /// For a connection that is open, and waited for so long.
    pub fn new(patience: Duration) -> Single {
        Single(Arc::new(State { patience, ..State::default() }))
    }

    /// The connection is open; the share is kept until it is not.
    pub fn keep(self, share: &Arc<Share>) -> Answered {
        let mut kept = self.0.share();
        // Those who close it look under the lock.
        if !self.0.is_closed.load(Ordering::Relaxed) {
            *kept = Some(share.clone());
        }
        drop(kept);
        Answered(self)
    }

    /// The connection is closed.
    pub fn close(&self) {
        let mut kept = self.0.share();
        self.0.is_closed.store(true, Ordering::Relaxed);
        let share = kept.take();
        drop(kept);
        drop(share);
    }

    /// Whether the connection may still write.
    ///
    /// # Errors
    /// TimedOut.
    pub fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.0.task.register(cx.waker());
        if self.0.is_late.load(Ordering::Acquire) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Takes note of what was written.
    pub fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.0.written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl State {
    fn share(&self) -> MutexGuard<'_, Option<Arc<Share>>> {
        self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lives until all of the answer has come in, or nobody wants it any more.
pub(super) struct Answered(Single);

impl Drop for Answered {
    fn drop(&mut self) {
        let state = &self.0.0;
        let Ok(runtime) = Handle::try_current() else { return };
        if state.is_closed.load(Ordering::Relaxed) {
            return;
        }
        let mut written = state.written.load(Ordering::Relaxed);
        let (state, patience) = (Arc::downgrade(state), state.patience);
        runtime.spawn(async move {
            loop {
                tokio::time::sleep(patience).await;
                let Some(state) = state.upgrade().filter(|state| !state.is_closed.load(Ordering::Relaxed)) else {
                    return;
                };
                let before = std::mem::replace(&mut written, state.written.load(Ordering::Relaxed));
                if before == written {
                    state.is_late.store(true, Ordering::Release);
                    return state.task.wake();
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::share::Shares;
    use super::*;
    use crate::origin::Origin;

    /// Ends with the error of a connection that is late.
    async fn late(single: &Single) -> io::ErrorKind {
        poll_fn(|cx| single.check(cx).map_or_else(|error| Poll::Ready(error.kind()), |()| Poll::Pending)).await
    }

    #[tokio::test]
    async fn what_is_answered_and_takes_nothing_more_is_late_and_has_its_share_until_it_is_closed() {
        let share = Shares::default().take(Origin::Node, None).await;
        let single = Single::new(Duration::from_millis(1));
        let answered = single.clone().keep(&share);
        assert_eq!(Arc::strong_count(&share), 2);
        drop(answered);
        assert_eq!(late(&single).await, io::ErrorKind::TimedOut);
        assert_eq!(Arc::strong_count(&share), 2, "it is not closed yet");
        single.close();
        assert_eq!(Arc::strong_count(&share), 1);
        drop(single.clone().keep(&share));
        assert_eq!(Arc::strong_count(&share), 1, "it is closed");
    }

    #[tokio::test]
    async fn what_goes_on_is_not_late() {
        let share = Shares::default().take(Origin::Node, None).await;
        let single = Single::new(Duration::from_millis(100));
        drop(single.clone().keep(&share));
        let late = late(&single);
        let writing = async {
            for _ in 0..100 {
                single.wrote(&Poll::Ready(Ok(1)));
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
        };
        tokio::select! {
            _ = late => panic!("it has taken something all the time"),
            () = writing => {}
        }
    }
}
