//! Threads for guests that run on and on.
//!
//! A guest runs where it was called, on a thread that serves requests: most are done within a slice. What is not goes on here,
//! a slice at a time, in the order of what its containers have had of the CPU by their weights (`requests.cpu`). As long as a
//! container has not had what it was promised, that is on threads as urgent as any other, though whoever wakes up goes first;
//! from then on, on threads that take what nobody else wants. So an endless loop holds up no request.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::cpu::CpuAccount;

/// A guest that would go on.
pub trait Job: Send {
    /// Whom it is charged to.
    fn account(&self) -> &CpuAccount;

    /// Runs it for a slice; gives it back if it would go on.
    fn run(self: Box<Self>) -> Option<Box<dyn Job>>;
}

/// Of what time a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    /// What its container has not had yet of what it was promised.
    Promised,
    /// What nobody else wants.
    Spare,
}

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub struct Runners(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// By share.
    more: [Condvar; 2],
}

#[derive(Default)]
struct Waiting {
    /// By share; then by what their containers have had, and by the order in which they came.
    jobs: [BTreeMap<(u64, u64), Box<dyn Job>>; 2],
    came: u64,
    /// What the container has had that ran last: whoever comes now has had as much.
    now: u64,
    ended: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("jobs", &self.jobs.each_ref().map(BTreeMap::len)).finish_non_exhaustive()
    }
}

impl Runners {
    /// Starts so many threads of each share.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(threads: usize) -> io::Result<Runners> {
        let runners = Runners(Arc::default());
        for _ in 0..threads.max(1) {
            for (share, name) in [(Share::Promised, "wasm-promised"), (Share::Spare, "wasm-spare")] {
                let queue = runners.0.clone();
                thread::Builder::new().name(name.to_owned()).spawn(move || queue.serve(share))?;
            }
        }
        Ok(runners)
    }

    /// Lets a job run as soon as it is its turn.
    pub fn add(&self, job: Box<dyn Job>) {
        let share = self.0.lock().push(job);
        self.0.more[share as usize].notify_one();
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.more.iter().for_each(Condvar::notify_all);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs until the threads are to end. Those that wait then are dropped, as their owners are told by that.
    fn serve(&self, share: Share) {
        step_back(share);
        let mut again = None;
        loop {
            let job = {
                let mut waiting = self.lock();
                if let Some(job) = again.take() {
                    let to = waiting.push(job);
                    // One more waits and one less, of which no other thread of this share need know.
                    if to != share {
                        self.more[to as usize].notify_one();
                    }
                }
                loop {
                    if waiting.ended {
                        break None;
                    }
                    match waiting.pop(share) {
                        Some(job) => break Some(job),
                        None => {
                            waiting = self.more[share as usize].wait(waiting).unwrap_or_else(PoisonError::into_inner);
                        }
                    }
                }
            };
            let Some(job) = job else { break };
            // A host function that panics takes its guest with it, and nothing else.
            again = catch_unwind(AssertUnwindSafe(|| job.run())).ok().flatten();
        }
        let left = std::mem::take(&mut self.lock().jobs);
        drop(left);
    }
}

impl Waiting {
    /// Says whose turn it will be.
    fn push(&mut self, job: Box<dyn Job>) -> Share {
        let account = job.account();
        let share = if account.is_owed() { Share::Promised } else { Share::Spare };
        let had = account.weighted_nanos(self.now);
        self.came += 1;
        self.jobs[share as usize].insert((had, self.came), job);
        share
    }

    fn pop(&mut self, share: Share) -> Option<Box<dyn Job>> {
        let ((had, _), job) = self.jobs[share as usize].pop_first()?;
        self.now = self.now.max(had);
        Some(job)
    }
}

/// Has the kernel give this thread less than others. With a longer slice than theirs, those that wake up cut it short (Linux
/// 6.12 and later). Spare time is what is left: a processor on which only such threads run counts as idle, so that threads
/// which wake up are placed there, and have it at once.
#[cfg(target_os = "linux")]
fn step_back(share: Share) {
    use nix::libc;
    /// The longest slice that the kernel gives.
    const SLICE_NANOS: u64 = 100_000_000;
    #[expect(unsafe_code, reason = "the standard library does not tell a thread's priority")]
    // SAFETY: takes numbers, and concerns the calling thread alone.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let policy = match share {
        Share::Promised => libc::SCHED_BATCH,
        Share::Spare => libc::SCHED_IDLE,
    };
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: policy.unsigned_abs(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: SLICE_NANOS,
        sched_deadline: 0,
        sched_period: 0,
    };
    #[expect(unsafe_code, reason = "the standard library cannot set a thread's scheduling policy")]
    // SAFETY: the attributes outlive the call, which concerns the calling thread alone. A refusal leaves it as it was.
    unsafe {
        libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
    }
}

/// Other systems have no such policies.
#[cfg(not(target_os = "linux"))]
fn step_back(_share: Share) {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str, Arc<CpuAccount>);

    impl Job for Named {
        fn account(&self) -> &CpuAccount {
            &self.1
        }

        fn run(self: Box<Self>) -> Option<Box<dyn Job>> {
            panic!("{}", self.0)
        }
    }

    #[test]
    fn whoever_has_had_less_comes_first() {
        let (busy, idle) = (Arc::new(CpuAccount::new(None, None)), Arc::new(CpuAccount::new(None, None)));
        busy.weighted_nanos(100);
        let mut waiting = Waiting::default();
        for (name, account) in [("busy", &busy), ("busy too", &busy), ("idle", &idle)] {
            assert_eq!(waiting.push(Box::new(Named(name, account.clone()))), Share::Promised);
        }
        let mut order = Vec::new();
        while let Some(job) = waiting.pop(Share::Promised) {
            order.push(name(job));
        }
        assert_eq!(order, ["idle", "busy", "busy too"]);
        waiting.push(Box::new(Named("idle", idle.clone())));
        assert_eq!(idle.weighted_nanos(0), 100, "it has not saved anything up");
    }

    #[test]
    fn whoever_has_had_its_promise_gets_what_is_left() {
        let account = Arc::new(CpuAccount::new(None, Some(100)));
        account.weigh(3_600_000_000_000);
        let mut waiting = Waiting::default();
        assert_eq!(waiting.push(Box::new(Named("greedy", account))), Share::Spare);
        assert!(waiting.pop(Share::Promised).is_none());
        assert_eq!(waiting.pop(Share::Spare).map(name).as_deref(), Some("greedy"));
    }

    fn name(job: Box<dyn Job>) -> String {
        let panicked = catch_unwind(AssertUnwindSafe(|| job.run().is_some())).expect_err("it says its name");
        panicked.downcast_ref::<String>().cloned().unwrap_or_default()
    }

    #[test]
    fn a_job_that_panics_is_dropped_and_the_thread_goes_on() {
        let (runners, account) = (Runners::start(1).unwrap(), Arc::new(CpuAccount::new(None, None)));
        for _ in 0..2 {
            runners.add(Box::new(Named("a panic of a test", account.clone())));
        }
        while Arc::strong_count(&account) > 1 {
            thread::yield_now();
        }
    }
}
