//! Threads for guests that run on and on.
//!
//! A guest runs where it was called, on a thread that serves requests: most are done within a slice. What is not goes on here,
//! a slice at a time, in the order of what its containers have had of the CPU by their weights (`requests.cpu`). So an endless
//! loop holds up no request, and these threads step back for those that serve requests wherever both want a processor.

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

/// The threads. They end when this is dropped.
#[derive(Debug)]
pub struct Runners(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    /// By what their containers have had, and by the order in which they came.
    jobs: BTreeMap<(u64, u64), Box<dyn Job>>,
    came: u64,
    /// What the container has had that ran last: whoever comes now has had as much.
    now: u64,
    ended: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl Runners {
    /// Starts so many threads.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(threads: usize) -> io::Result<Runners> {
        let runners = Runners(Arc::default());
        for _ in 0..threads.max(1) {
            let queue = runners.0.clone();
            thread::Builder::new().name("wasm-runner".to_owned()).spawn(move || queue.serve())?;
        }
        Ok(runners)
    }

    /// Lets a job run as soon as it is its turn.
    pub fn add(&self, job: Box<dyn Job>) {
        self.0.lock().push(job);
        self.0.more.notify_one();
    }
}

impl Drop for Runners {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.more.notify_all();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs jobs until the threads are to end. Those that wait then are dropped, as their owners are told by that.
    fn serve(&self) {
        step_back();
        let mut again = None;
        loop {
            let job = {
                let mut waiting = self.lock();
                // One more waits and one less, of which no other thread need know.
                if let Some(job) = again.take() {
                    waiting.push(job);
                }
                loop {
                    if waiting.ended {
                        break None;
                    }
                    match waiting.pop() {
                        Some(job) => break Some(job),
                        None => waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner),
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
    fn push(&mut self, job: Box<dyn Job>) {
        let had = job.account().weighted_nanos(self.now);
        self.came += 1;
        self.jobs.insert((had, self.came), job);
    }

    fn pop(&mut self) -> Option<Box<dyn Job>> {
        let ((had, _), job) = self.jobs.pop_first()?;
        self.now = self.now.max(had);
        Some(job)
    }
}

/// Lets threads that wake up have this thread's processor at once, and most of it while they want it. A longer slice than
/// theirs makes the kernel (6.12 and later) cut this thread's for them.
#[cfg(target_os = "linux")]
fn step_back() {
    use nix::libc;
    /// So much less urgent than the rest of this process: a ninth of a processor that others want all of.
    const NICER: i32 = 10;
    const NICEST: i32 = 19;
    /// The longest slice that the kernel gives.
    const SLICE_NANOS: u64 = 100_000_000;
    #[expect(unsafe_code, reason = "the standard library does not tell a thread's priority")]
    // SAFETY: takes numbers, and concerns the calling thread alone.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or(0),
        sched_policy: libc::SCHED_BATCH.unsigned_abs(),
        sched_flags: 0,
        sched_nice: (nice + NICER).min(NICEST),
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

/// Other systems have no such policy.
#[cfg(not(target_os = "linux"))]
fn step_back() {}

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
            waiting.push(Box::new(Named(name, account.clone())));
        }
        let mut order = Vec::new();
        while let Some(job) = waiting.pop() {
            let panicked = catch_unwind(AssertUnwindSafe(|| job.run().is_some())).expect_err("it says its name");
            order.push(panicked.downcast_ref::<String>().cloned().unwrap_or_default());
        }
        assert_eq!(order, ["idle", "busy", "busy too"]);
        waiting.push(Box::new(Named("idle", idle.clone())));
        assert_eq!(idle.weighted_nanos(0), 100, "it has not saved anything up");
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
