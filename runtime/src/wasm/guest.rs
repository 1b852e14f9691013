//! A poll of guest code: charged to its container, pre-empted by epochs, ended by an interrupt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::container::Container;
use super::cpu::{CpuAccount, Throttle};
use super::runners::Job;
use super::slice::{self, Ran};
use super::store::Interrupted;

type Work<T> = BoxFuture<'static, wasmtime::Result<T>>;

/// Runs a future that calls into a guest. Every path on which guest code runs goes through here.
pub struct Guest<T> {
    container: Arc<Container>,
    place: Place<T>,
    throttle: Throttle,
    /// Made when the guest first waits for something, so that a call that never waits pays nothing for it.
    interrupted: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

/// Where a guest is.
enum Place<T> {
    Here(Work<T>),
    /// It goes on among [`Runners`](super::runners::Runners), until it waits for something or ends.
    Away(oneshot::Receiver<Back<T>>),
}

/// How a guest comes back.
enum Back<T> {
    Waits(Work<T>),
    Ended(wasmtime::Result<T>),
}

impl<T> Guest<T> {
    pub fn new(
        container: Arc<Container>,
        work: impl Future<Output = wasmtime::Result<T>> + Send + 'static,
    ) -> Guest<T> {
        let place = Place::Here(Box::pin(work));
        Guest { container, place, throttle: Throttle::default(), interrupted: None }
    }
}

impl<T: Send + 'static> Future for Guest<T> {
    type Output = wasmtime::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let work = match &mut this.place {
                Place::Here(work) => work,
                Place::Away(back) => match ready!(Pin::new(back).poll(cx)) {
                    Ok(Back::Ended(outcome)) => return Poll::Ready(outcome),
                    // Polled once more, as it has been woken by nobody meanwhile.
                    Ok(Back::Waits(work)) => {
                        this.place = Place::Here(work);
                        continue;
                    }
                    Err(_) => return Poll::Ready(Err(wasmtime::format_err!("a host function panicked"))),
                },
            };
            if let Some(interrupted) = &mut this.interrupted
                && interrupted.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(Interrupted.into()));
            }
            ready!(this.throttle.poll_allowed(&this.container.cpu, cx));
            let (polled, cut) = slice(&this.container, work, cx);
            if polled.is_ready() {
                return polled;
            }
            // Outside of a runtime it stays here: it has woken itself.
            if cut && let Ok(runtime) = Handle::try_current() {
                let (sender, back) = oneshot::channel();
                if let Place::Here(work) = std::mem::replace(&mut this.place, Place::Away(back)) {
                    let container = this.container.clone();
                    this.container.runners.add(Box::new(Absent { container, work, back: sender, runtime }));
                }
                continue;
            }
            if this.interrupted.is_none() {
                let interrupted = this.container.interrupt.clone().cancelled_owned();
                if this.interrupted.insert(Box::pin(interrupted)).as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Interrupted.into()));
                }
            }
            return Poll::Pending;
        }
    }
}

/// One slice, and whether it was cut short.
fn slice<T>(container: &Container, work: &mut Work<T>, cx: &mut Context<'_>) -> (Poll<wasmtime::Result<T>>, bool) {
    let _running = container.ticker.enter();
    let Ran { done, cut, nanos } = slice::run(|| work.as_mut().poll(cx));
    container.cpu.charge(nanos);
    (done, cut)
}

/// A guest that is away.
struct Absent<T> {
    container: Arc<Container>,
    work: Work<T>,
    back: oneshot::Sender<Back<T>>,
    /// Where its timers and tasks belong.
    runtime: Handle,
}

impl<T: Send + 'static> Job for Absent<T> {
    fn account(&self) -> &CpuAccount {
        &self.container.cpu
    }

    fn run(mut self: Box<Self>) -> Option<Box<dyn Job>> {
        let runtime = self.runtime.clone();
        let _within = runtime.enter();
        if self.back.is_closed() {
            // Nobody waits for it any more.
            drop(self);
            return None;
        }
        let (polled, cut) = match self.container.cpu.debt() {
            None => slice(&self.container, &mut self.work, &mut Context::from_waker(Waker::noop())),
            // It waits that out where it came from.
            Some(_) => (Poll::Pending, false),
        };
        if polled.is_pending() && cut {
            return Some(self);
        }
        let Absent { work, back, .. } = *self;
        let returned = match polled {
            Poll::Pending => Back::Waits(work),
            Poll::Ready(outcome) => {
                drop(work);
                Back::Ended(outcome)
            }
        };
        // Whoever left meanwhile drops it.
        drop(back.send(returned));
        None
    }
}
