//! Threads for guests that run on and on.
//!
//! A guest runs where it was called, on a thread that serves requests: most are done within a slice. What is not goes on here,
//! a slice at a time, in the order of what its containers have had of the CPU by their weights (`requests.cpu`), on threads
//! that take what nobody else wants. A container that waits for that in vain gets what it was promised, and no more, on threads
//! as urgent as any other, though whoever wakes up goes first. So an endless loop holds up no request.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use nix::sys::resource::{UsageWho, getrusage};

use super::cpu::{CpuAccount, PATIENCE};

/// How often jobs that wait for spare time are looked at: there may be none to spare.
const LOOK: Duration = PATIENCE;
/// So many of them at a time.
const LOOK_AT: usize = 1_024;

/// A guest that would go on.
pub trait Job: Send {
    /// Whom it is charged to.
    fn account(&self) -> &CpuAccount;

    /// Nobody waits for it any more: all that is left to do is to drop it.
    fn is_abandoned(&self) -> bool;

    /// Runs it for a slice, of this time; gives it back if it would go on.
    fn run(self: Box<Self>, share: Share) -> Option<Box<dyn Job>>;
}

/// Of what time a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// What its container was promised, and did not get of what was to spare.
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
    /// Jobs that run in spare time.
    spare: AtomicUsize,
    /// How often others have taken the processor from threads of spare time.
    preempted: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    /// By share.
    jobs: [Jobs; 2],
    came: u64,
    /// What the container has had that ran last, by share: whoever comes now has had as much.
    now: [u64; 2],
    /// When those were looked at last that wait for spare time.
    looked: Option<Instant>,
    ended: bool,
}

/// By what their containers have had, and by the order in which they came. With each, since when it waits.
type Jobs = BTreeMap<(u64, u64), (Instant, Box<dyn Job>)>;

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

    /// How often others have taken the processor from threads that run in spare time, which says nothing of those others.
    pub fn preempted(&self) -> u64 {
        self.0.preempted.load(Ordering::Relaxed)
    }

    /// Whether a job runs in spare time.
    pub fn is_spare_in_use(&self) -> bool {
        self.0.spare.load(Ordering::Relaxed) > 0
    }

    /// Lets a job run as soon as it is its turn.
    pub fn add(&self, job: Box<dyn Job>) {
        self.0.lock().push(job);
        // If it waits for spare time, somebody has to look at it again.
        self.0.more.iter().for_each(Condvar::notify_one);
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
        let mut contention = (share == Share::Spare).then(Contention::start);
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
                    if share == Share::Promised && waiting.look(Instant::now()) > 1 {
                        self.more[Share::Promised as usize].notify_all();
                    }
                    let spare = waiting.jobs[Share::Spare as usize].len();
                    let job = waiting.pop(share);
                    if waiting.jobs[Share::Spare as usize].len() > spare {
                        self.more[Share::Spare as usize].notify_all();
                    }
                    if job.is_some() {
                        break job;
                    }
                    waiting = self.wait(waiting, share);
                }
            };
            let Some(job) = job else { break };
            // A host function that panics takes its guest with it, and nothing else.
            let run = || catch_unwind(AssertUnwindSafe(|| job.run(share))).ok().flatten();
            let Some(contention) = &mut contention else {
                again = run();
                continue;
            };
            contention.begin(&self.preempted);
            self.spare.fetch_add(1, Ordering::Relaxed);
            again = run();
            self.spare.fetch_sub(1, Ordering::Relaxed);
            contention.make_way(&self.preempted);
        }
        let left = std::mem::take(&mut self.lock().jobs);
        drop(left);
    }

    /// Waits until there may be a job of that share.
    fn wait<'a>(&self, waiting: MutexGuard<'a, Waiting>, share: Share) -> MutexGuard<'a, Waiting> {
        let more = &self.more[share as usize];
        if share == Share::Spare || waiting.jobs[Share::Spare as usize].is_empty() {
            return more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        more.wait_timeout(waiting, LOOK).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Waiting {
    /// Says of what time it is to run.
    fn push(&mut self, job: Box<dyn Job>) -> Share {
        let now = Instant::now();
        let share = if is_urgent(&*job, now) { Share::Promised } else { Share::Spare };
        self.insert(share, now, job);
        share
    }

    fn insert(&mut self, share: Share, since: Instant, job: Box<dyn Job>) {
        let had = job.account().weighted_nanos(self.now[share as usize]);
        self.came += 1;
        self.jobs[share as usize].insert((had, self.came), (since, job));
    }

    /// The next job of that share, if it still is.
    fn pop(&mut self, share: Share) -> Option<Box<dyn Job>> {
        loop {
            let ((had, _), (since, job)) = self.jobs[share as usize].pop_first()?;
            if share == Share::Promised && !is_urgent(&*job, Instant::now()) {
                // Others of its container have had the rest.
                self.insert(Share::Spare, since, job);
                continue;
            }
            let now = &mut self.now[share as usize];
            *now = (*now).max(had);
            return Some(job);
        }
    }

    /// Finds those that have waited for spare time in vain, if it is time for that; how many.
    fn look(&mut self, now: Instant) -> usize {
        if self.looked.is_some_and(|looked| now < looked + LOOK) {
            return 0;
        }
        self.looked = Some(now);
        let spare = self.jobs[Share::Spare as usize].iter().take(LOOK_AT);
        let urgent: Vec<_> = spare
            .filter(|(_, (since, job))| {
                job.account().has_waited(now.saturating_duration_since(*since), now);
                is_urgent(&**job, now)
            })
            .map(|(key, _)| *key)
            .collect();
        for key in &urgent {
            if let Some((since, job)) = self.jobs[Share::Spare as usize].remove(key) {
                self.insert(Share::Promised, since, job);
            }
        }
        urgent.len()
    }
}

/// Whether a job is not to wait until there is time to spare.
fn is_urgent(job: &dyn Job, now: Instant) -> bool {
    job.is_abandoned() || job.account().is_urgent(now)
}

/// Has the kernel give this thread less than others. With a longer slice than theirs, those that wake up cut it short (Linux
/// 6.12 and later). Spare time is what is left: a processor on which only such threads run counts as idle, so that threads
/// which wake up are placed there, and have it at once.
#[cfg(target_os = "linux")]
pub fn step_back(share: Share) {
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

/// How often others have taken the processor from the threads in question.
#[cfg(target_os = "linux")]
pub fn preemptions(who: UsageWho) -> u64 {
    getrusage(who).map_or(0, |usage| usage.involuntary_context_switches().unsigned_abs())
}

thread_local! {
    /// How often others had taken the processor from this thread when its job began; `None` where they may not.
    static PREEMPTED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Whether the job of this thread runs in spare time, and others have taken the processor from it, or do when they are asked.
pub fn is_in_the_way() -> bool {
    PREEMPTED.get().is_some_and(|before| {
        thread::yield_now();
        Contention::preempted() != before
    })
}

/// What others want of the processor of a thread that takes what they leave.
///
/// Others who wake up have the processor at once, but those from whom somebody else took it meanwhile may wait behind spare work,
/// as by its weight it has had less than they (Linux' EEVDF): it has to yield. And a processor that has nothing to do takes over
/// what waits for another; one that goes on with spare work does not, and who waits elsewhere waits for milliseconds. So at each
/// epoch the thread yields, and where it meets others its job is cut short ([`is_in_the_way`]) and it sleeps for a moment.
struct Contention {
    /// How often others had taken the processor from the thread when that was counted last.
    counted: u64,
}

impl Contention {
    fn start() -> Contention {
        // Without it a moment is 50 µs. A refusal leaves it at that.
        #[cfg(target_os = "linux")]
        let _ = nix::sys::prctl::set_timerslack(1);
        Contention { counted: 0 }
    }

    /// Lets others go first who wait already.
    fn begin(&mut self, all: &AtomicU64) {
        thread::yield_now();
        self.count(all);
        PREEMPTED.set(Some(self.counted));
    }

    fn make_way(&mut self, all: &AtomicU64) {
        PREEMPTED.set(None);
        if self.count(all) {
            thread::sleep(Duration::from_nanos(1));
        }
    }

    /// Adds how often others took the processor to what they did in `all`; whether they did.
    fn count(&mut self, all: &AtomicU64) -> bool {
        let before = std::mem::replace(&mut self.counted, Self::preempted());
        all.fetch_add(self.counted.abs_diff(before), Ordering::Relaxed);
        self.counted != before
    }

    /// How often others took the processor from this thread; nothing where the system does not count that.
    fn preempted() -> u64 {
        #[cfg(target_os = "linux")]
        return preemptions(UsageWho::RUSAGE_THREAD);
        #[cfg(not(target_os = "linux"))]
        0
    }
}

/// Other systems have no such policies.
#[cfg(not(target_os = "linux"))]
pub fn step_back(_share: Share) {}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(&'static str, Arc<CpuAccount>);

    impl Job for Named {
        fn account(&self) -> &CpuAccount {
            &self.1
        }

        fn is_abandoned(&self) -> bool {
            false
        }

        fn run(self: Box<Self>, _: Share) -> Option<Box<dyn Job>> {
            panic!("{}", self.0)
        }
    }

    #[test]
    fn whoever_has_had_less_comes_first() {
        let (busy, idle) = (Arc::new(CpuAccount::new(None, None)), Arc::new(CpuAccount::new(None, None)));
        busy.weighted_nanos(100);
        let mut waiting = Waiting::default();
        for (name, account) in [("busy", &busy), ("busy too", &busy), ("idle", &idle)] {
            assert_eq!(waiting.push(Box::new(Named(name, account.clone()))), Share::Spare);
        }
        let mut order = Vec::new();
        while let Some(job) = waiting.pop(Share::Spare) {
            order.push(name(job));
        }
        assert_eq!(order, ["idle", "busy", "busy too"]);
        waiting.push(Box::new(Named("idle", idle.clone())));
        assert_eq!(idle.weighted_nanos(0), 100, "it has not saved anything up");
    }

    #[test]
    fn whoever_waits_in_vain_gets_its_promise_and_then_what_is_left_again() {
        let (account, now) = (Arc::new(CpuAccount::new(None, Some(100))), Instant::now());
        let mut waiting = Waiting::default();
        for name in ["greedy", "greedy too"] {
            assert_eq!(waiting.push(Box::new(Named(name, account.clone()))), Share::Spare);
        }
        assert_eq!(waiting.look(now), 0);
        assert_eq!(waiting.look(now + LOOK / 2), 0, "it is not time yet");
        assert_eq!(waiting.look(now + LOOK * 2), 2);
        account.spend_promise(3_600_000_000_000);
        assert!(waiting.pop(Share::Promised).is_none(), "one has had what both of them were promised");
        assert_eq!(waiting.pop(Share::Spare).map(name).as_deref(), Some("greedy"));
        account.set(None, Some(200));
        assert_eq!(waiting.look(now + LOOK * 4), 1, "another promise begins anew");
        assert_eq!(waiting.pop(Share::Promised).map(name).as_deref(), Some("greedy too"));
    }

    fn name(job: Box<dyn Job>) -> String {
        let panicked =
            catch_unwind(AssertUnwindSafe(|| job.run(Share::Spare).is_some())).expect_err("it says its name");
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
