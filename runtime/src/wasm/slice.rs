//! How long a guest has run at a stretch, and the cut that ends it.
//!
//! A slice is a poll of one guest on one thread, so that thread-locals hold it. Guests can be polled from within each other
//! (a call between components): the inner one has a slice of its own.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Default)]
struct Slice {
    begun: Option<Instant>,
    cut: bool,
}

thread_local! {
    static SLICE: Cell<Slice> = const { Cell::new(Slice { begun: None, cut: false }) };
}

/// Runs a slice; says whether the guest was cut short, and would have gone on.
pub fn run<T>(work: impl FnOnce() -> T) -> (T, bool) {
    let outer = SLICE.replace(Slice { begun: Some(Instant::now()), cut: false });
    let done = work();
    (done, SLICE.replace(outer).cut)
}

/// Whether the slice has taken as long as it may.
pub fn is_over(limit: Duration) -> bool {
    SLICE.get().begun.is_none_or(|begun| begun.elapsed() >= limit)
}

/// Ends the slice where it is awaited.
#[derive(Default)]
pub struct Cut {
    done: bool,
}

impl Future for Cut {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.done, true) {
            return Poll::Ready(());
        }
        SLICE.set(Slice { cut: true, ..SLICE.get() });
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_slice_is_cut_and_those_around_it_are_not() {
        let mut cut = Cut::default();
        let (inner, outer_was_cut) = run(|| run(|| (&mut cut).now_or_never()));
        assert_eq!((inner, outer_was_cut), ((None, true), false));
        assert_eq!(run(|| (&mut cut).now_or_never()), (Some(()), false), "it goes on afterwards");
    }

    #[test]
    fn a_slice_is_over_after_its_time() {
        assert!(is_over(Duration::MAX), "outside of any");
        run(|| assert!(!is_over(Duration::MAX) && is_over(Duration::ZERO)));
    }
}
