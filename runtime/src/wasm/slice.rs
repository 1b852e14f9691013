//! How long a guest has run at a stretch, and the cut that ends it.
//!
//! A slice is a poll of one guest on one thread, so that thread-locals hold it. It is measured on the thread's own clock:
//! where processors are short, a guest is not blamed for waiting. That clock takes a system call, a tenth of what a request
//! costs in all, so it is read every [`SHORT_NANOS`] only. What ends sooner after it began is taken by the time of day, and
//! what ends later has had at most what the thread has had since the reading before it. Guests can be polled from within
//! each other (a call between components): the inner one has a slice of its own, and what it costs is not the outer one's.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What a guest can be charged too much for, at the most, when its thread was stopped meanwhile.
const SHORT_NANOS: u64 = 100_000;

#[derive(Clone, Copy)]
struct Slice {
    begun: Reading,
    /// What slices within this one have cost.
    inner_nanos: u64,
    cut: bool,
}

/// Of both clocks, the thread's being up to [`SHORT_NANOS`] old.
#[derive(Clone, Copy)]
struct Reading {
    wall_nanos: u64,
    thread_nanos: u64,
}

const NEVER: Reading = Reading { wall_nanos: 0, thread_nanos: 0 };

thread_local! {
    static SLICE: Cell<Slice> = const { Cell::new(Slice { begun: NEVER, inner_nanos: 0, cut: false }) };
    /// The last one for which the thread's clock was read.
    static READ: Cell<Reading> = const { Cell::new(NEVER) };
}

/// What came of a slice.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran<T> {
    pub done: T,
    /// The guest was cut short, and would have gone on.
    pub cut: bool,
    /// CPU time of this guest alone.
    pub nanos: u64,
}

/// Runs a slice.
pub fn run<T>(work: impl FnOnce() -> T) -> Ran<T> {
    let begun = Reading::now();
    let outer = SLICE.replace(Slice { begun, inner_nanos: 0, cut: false });
    let done = work();
    let spent = begun.spent_nanos();
    let Slice { inner_nanos, cut, .. } =
        SLICE.replace(Slice { inner_nanos: outer.inner_nanos.saturating_add(spent), ..outer });
    Ran { done, cut, nanos: spent.saturating_sub(inner_nanos) }
}

/// Whether the guest has run as long as it may in its slice.
pub fn is_over(limit: Duration) -> bool {
    let Slice { begun, inner_nanos, .. } = SLICE.get();
    Duration::from_nanos(begun.spent_nanos().saturating_sub(inner_nanos)) >= limit
}

impl Reading {
    fn now() -> Reading {
        let wall_nanos = nanos(ClockId::CLOCK_MONOTONIC);
        let last = READ.get();
        if wall_nanos.saturating_sub(last.wall_nanos) < SHORT_NANOS {
            return Reading { wall_nanos, ..last };
        }
        Reading::of_both(wall_nanos)
    }

    fn of_both(wall_nanos: u64) -> Reading {
        let read = Reading { wall_nanos, thread_nanos: nanos(ClockId::CLOCK_THREAD_CPUTIME_ID) };
        READ.set(read);
        read
    }

    /// CPU time since then.
    fn spent_nanos(self) -> u64 {
        let wall_nanos = nanos(ClockId::CLOCK_MONOTONIC);
        let passed = wall_nanos.saturating_sub(self.wall_nanos);
        if passed < SHORT_NANOS {
            return passed;
        }
        passed.min(Reading::of_both(wall_nanos).thread_nanos.saturating_sub(self.thread_nanos))
    }
}

fn nanos(clock: ClockId) -> u64 {
    let Ok(now) = clock_gettime(clock) else { return 0 };
    u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
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
        let outer = run(|| run(|| (&mut cut).now_or_never()));
        assert_eq!((outer.done.done, outer.done.cut, outer.cut), (None, true, false));
        let again = run(|| (&mut cut).now_or_never());
        assert_eq!((again.done, again.cut), (Some(()), false), "it goes on afterwards");
    }

    #[test]
    fn a_slice_is_over_after_its_time_on_the_processor() {
        run(|| {
            assert!(!is_over(Duration::MAX));
            while !is_over(Duration::from_millis(1)) {}
        });
    }

    #[test]
    fn time_in_which_the_thread_does_not_run_is_not_charged() {
        let asleep = run(|| std::thread::sleep(Duration::from_millis(50)));
        assert!(asleep.nanos < 25_000_000, "{} ns", asleep.nanos);
        let short = run(|| ());
        assert!(short.nanos < 25_000_000, "{} ns", short.nanos);
    }

    #[test]
    fn a_slice_within_another_is_not_the_others() {
        let thread_nanos = || nanos(ClockId::CLOCK_THREAD_CPUTIME_ID);
        let whole = thread_nanos();
        let outer = run(|| {
            let inner = run(|| while !is_over(Duration::from_millis(20)) {});
            assert!(!is_over(Duration::from_millis(15)), "what the inner one took is not the outer one's");
            inner
        });
        assert!(outer.done.nanos >= 20_000_000);
        assert!(outer.nanos + outer.done.nanos <= thread_nanos() - whole);
    }
}
