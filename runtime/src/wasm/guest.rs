//! A poll of guest code: charged to its container, pre-empted by epochs, ended by an interrupt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::container::Container;
use super::cpu::{CpuAccount, Throttle};
use super::runners::{Job, Share};
use super::slice::{self, Ran};
use super::store::Interrupted;
use super::ticker::Running;

type Work<T> = BoxFuture<'static, wasmtime::Result<T>>;

/// Runs a future that calls into a guest. Every path on which guest code runs goes through here.
pub struct Guest<T> {
    container: Arc<Container>,
    place: Place<T>,
    /// It runs for as long as its container does, not for one request.
    is_process: bool,
    /// It has been cut short, or is a process that has had its brief moments: what is left of it runs among the runners, as
    /// soon as it may.
    is_long: bool,
    /// Of a guest that has been among the runners.
    alarm: Option<Arc<Alarm>>,
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
    /// Its container may not run for now.
    InDebt(Work<T>),
    Ended(wasmtime::Result<T>),
}

impl<T> Guest<T> {
    pub fn new(
        container: Arc<Container>,
        work: impl Future<Output = wasmtime::Result<T>> + Send + 'static,
    ) -> Guest<T> {
        let place = Place::Here(Box::pin(work));
        let throttle = Throttle::default();
        Guest { container, place, is_process: false, is_long: false, alarm: None, throttle, interrupted: None }
    }

    /// The same for a guest that is a process: it may wait and go on for ever, and where others want the processors it has only
    /// so much of the threads that serve requests ([`CpuAccount::spend_brief`]).
    pub fn process(self) -> Guest<T> {
        Guest { is_process: true, ..self }
    }
}

/// Tells a guest that waits, and was polled among the runners, to go back to them.
#[derive(Default)]
struct Alarm {
    rung: AtomicBool,
    /// Who is to poll the guest; nobody while it is away.
    task: AtomicWaker,
}

impl Alarm {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
    }

    /// Whether it has rung since it was asked last. If not, `waker` hears of it.
    fn has_rung(&self, waker: &Waker) -> bool {
        self.task.register(waker);
        let rung = self.rung.swap(false, Ordering::AcqRel);
        if rung {
            drop(self.task.take());
        }
        rung
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
        self.task.wake();
    }
}

impl<T: Send + 'static> Guest<T> {
    /// Ends the poll of a guest that waits, unless it is interrupted.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<wasmtime::Result<T>> {
        let interrupt = || Box::pin(self.container.interrupt.clone().cancelled_owned());
        let interrupted = self.interrupted.get_or_insert_with(interrupt);
        interrupted.as_mut().poll(cx).map(|()| Err(Interrupted.into()))
    }

    /// Lets it go on among the runners.
    fn leave(&mut self, alarm: Arc<Alarm>, runtime: Handle) {
        let (sender, back) = oneshot::channel();
        if let Place::Here(work) = std::mem::replace(&mut self.place, Place::Away(back)) {
            let container = self.container.clone();
            self.container.runners.add(Box::new(Absent { container, work, alarm, back: sender, runtime }));
        }
    }

    /// Charges a process for time of the threads that serve requests. Where others want the processors, it has only so much of it.
    fn has_had_its_moments(&self, nanos: u64) -> bool {
        self.is_process && !self.container.cpu.spend_brief(nanos) && self.container.ticker.is_contended()
    }

    /// The alarm, which has rung for one that has not been away yet.
    fn alarm(&mut self) -> Arc<Alarm> {
        let rung = || Arc::new(Alarm { rung: AtomicBool::new(true), task: AtomicWaker::new() });
        self.alarm.get_or_insert_with(rung).clone()
    }
}

impl<T: Send + 'static> Future for Guest<T> {
    type Output = wasmtime::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        loop {
            let work = match &mut this.place {
                Place::Here(work) => work,
                Place::Away(back) => match Pin::new(back).poll(cx) {
                    // It may be long until it is its turn, and none of it is left to do for one that is interrupted.
                    Poll::Pending => return this.wait(cx),
                    Poll::Ready(Ok(Back::Ended(outcome))) => return Poll::Ready(outcome),
                    // A request is polled once more: what it waits for rings an alarm that nobody asks.
                    Poll::Ready(Ok(Back::Waits(work))) => {
                        this.place = Place::Here(work);
                        this.is_long = this.has_had_its_moments(0);
                        continue;
                    }
                    Poll::Ready(Ok(Back::InDebt(work))) => {
                        this.place = Place::Here(work);
                        this.alarm().ring();
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(wasmtime::format_err!("a host function panicked"))),
                },
            };
            if let Some(interrupted) = &mut this.interrupted
                && interrupted.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(Interrupted.into()));
            }
            if this.throttle.poll_allowed(&this.container.cpu, cx).is_pending() {
                return this.wait(cx);
            }
            // Outside of a runtime it stays here: it has woken itself.
            if this.is_long
                && let Ok(runtime) = Handle::try_current()
            {
                let alarm = this.alarm();
                if !alarm.has_rung(cx.waker()) {
                    return this.wait(cx);
                }
                this.leave(alarm, runtime);
                continue;
            }
            let ticker = &this.container.ticker;
            let running = if this.is_process { ticker.enter() } else { ticker.enter_request() };
            let Ran { done, cut, nanos } = slice(&this.container, running, work, cx);
            if done.is_ready() {
                return done;
            }
            let has_had_enough = this.has_had_its_moments(nanos);
            this.is_long = (cut || has_had_enough) && Handle::try_current().is_ok();
            if this.is_long {
                // What it waits for has been told to wake whoever polls this.
                this.alarm().ring();
            }
            if !(cut && this.is_long) {
                return this.wait(cx);
            }
        }
    }
}

/// One slice, charged for.
fn slice<T>(
    container: &Container,
    running: Running<'_>,
    work: &mut Work<T>,
    cx: &mut Context<'_>,
) -> Ran<Poll<wasmtime::Result<T>>> {
    let ran = slice::run(|| work.as_mut().poll(cx));
    drop(running);
    container.cpu.charge(ran.nanos);
    ran
}

/// A guest that is away.
struct Absent<T> {
    container: Arc<Container>,
    work: Work<T>,
    alarm: Arc<Alarm>,
    back: oneshot::Sender<Back<T>>,
    /// Where its timers and tasks belong.
    runtime: Handle,
}

impl<T: Send + 'static> Job for Absent<T> {
    fn account(&self) -> &CpuAccount {
        &self.container.cpu
    }

    fn is_abandoned(&self) -> bool {
        self.back.is_closed()
    }

    fn run(mut self: Box<Self>, share: Share) -> Option<Box<dyn Job>> {
        let runtime = self.runtime.clone();
        let _within = runtime.enter();
        if self.is_abandoned() {
            drop(self);
            return None;
        }
        let is_in_debt = self.container.cpu.debt().is_some();
        let polled = if is_in_debt {
            Poll::Pending
        } else {
            let (begun, cpu) = (Instant::now(), &self.container.cpu);
            let waker = Waker::from(self.alarm.clone());
            let running = self.container.ticker.enter();
            let ran = slice(&self.container, running, &mut self.work, &mut Context::from_waker(&waker));
            cpu.weigh(ran.nanos);
            match share {
                Share::Promised => cpu.spend_promise(ran.nanos),
                // Others may have taken the processor before it was through.
                Share::Spare => {
                    let now = Instant::now();
                    cpu.has_waited((now - begun).saturating_sub(Duration::from_nanos(ran.nanos)), now);
                }
            }
            if ran.done.is_pending() && ran.cut {
                return Some(self);
            }
            ran.done
        };
        let Absent { work, back, .. } = *self;
        let returned = match polled {
            // It waits that out where it came from.
            Poll::Pending if is_in_debt => Back::InDebt(work),
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
