//! A poll of guest code: charged to its container, pre-empted by epochs, ended by an interrupt.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::container::Container;
use super::cpu::Throttle;
use super::store::Interrupted;

/// Runs a future that calls into a guest. Every path on which guest code runs goes through here.
pub struct Guest<T> {
    container: Arc<Container>,
    work: BoxFuture<'static, wasmtime::Result<T>>,
    throttle: Throttle,
    /// Made when the guest first waits for something, so that a call that never waits pays nothing for it.
    interrupted: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl<T> Guest<T> {
    pub fn new(
        container: Arc<Container>,
        work: impl Future<Output = wasmtime::Result<T>> + Send + 'static,
    ) -> Guest<T> {
        Guest { container, work: Box::pin(work), throttle: Throttle::default(), interrupted: None }
    }
}

impl<T> Future for Guest<T> {
    type Output = wasmtime::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(interrupted) = &mut this.interrupted
            && interrupted.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(Interrupted.into()));
        }
        ready!(this.throttle.poll_allowed(&this.container.cpu, cx));
        let running = this.container.ticker.enter();
        let polled = this.container.cpu.charge(|| this.work.as_mut().poll(cx));
        drop(running);
        if polled.is_pending() && this.interrupted.is_none() {
            let interrupted = this.container.interrupt.clone().cancelled_owned();
            if this.interrupted.insert(Box::pin(interrupted)).as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Interrupted.into()));
            }
        }
        polled
    }
}
