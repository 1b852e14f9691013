//! One thread that advances the engine's epoch while guests run, and sleeps while none does.
//!
//! An epoch makes running guests yield; it accounts for nothing. On the way the thread looks at how busy the machine is. Going
//! to sleep is lazy ([`IDLE_TICKS`]), so that a server which answers one request at a time does not wake the thread for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use nix::sys::resource::UsageWho;
use wasmtime::EngineWeak;

use super::runners::Runners;

/// Ticks without a running guest before the thread parks: a tenth of a second of those that are usual.
const IDLE_TICKS: u32 = 100;

/// How often the machine is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// Where the processor is taken from this process's threads more often than that in a second, others want it. This thread alone
/// takes it a thousand times; at half of what a node can serve it is some thousands.
const WANTED_PER_SECOND: u128 = 2_000;

/// Shared by all polls of guest code.
pub struct Ticker {
    state: Arc<State>,
    thread: Thread,
    runners: Arc<Runners>,
    engine: EngineWeak,
}

#[derive(Debug, Default)]
struct State {
    running: AtomicUsize,
    /// Counts up with every poll that begins.
    begun: AtomicU64,
    parked: AtomicBool,
    contended: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    /// Starts the thread. It ends when the ticker is dropped or the engine is gone.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(engine: EngineWeak, tick: Duration, runners: Arc<Runners>) -> std::io::Result<Ticker> {
        let state = Arc::new(State::default());
        let ticking = {
            let (state, engine, runners) = (state.clone(), engine.clone(), runners.clone());
            move || run(&state, &engine, tick, &runners)
        };
        let thread = thread::Builder::new().name("wasm-epoch".to_owned()).stack_size(128 << 10).spawn(ticking)?;
        Ok(Ticker { state, thread: thread.thread().clone(), runners, engine })
    }

    /// As [`enter`](Self::enter), for a request. What runs in spare time hears of it at once by an epoch, not at the next tick: it
    /// may be in the way.
    pub fn enter_request(&self) -> Running<'_> {
        if self.runners.is_spare_in_use()
            && let Some(engine) = self.engine.upgrade()
        {
            engine.increment_epoch();
        }
        self.enter()
    }

    /// Guest code runs on this thread until the guard is dropped.
    pub fn enter(&self) -> Running<'_> {
        self.state.running.fetch_add(1, Ordering::SeqCst);
        self.state.begun.fetch_add(1, Ordering::Relaxed);
        if self.state.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.state)
    }

    /// Whether there is more to do than the processors can at once, as it was when guests ran last.
    pub fn is_contended(&self) -> bool {
        self.state.contended.load(Ordering::Relaxed)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// While this lives, the epoch advances.
pub struct Running<'a>(&'a State);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(state: &State, engine: &EngineWeak, tick: Duration, runners: &Runners) {
    let (mut idle_ticks, mut seen) = (0, 0);
    let (mut looked, mut preempted) = (Instant::now(), preemptions(runners));
    while !state.ended.load(Ordering::SeqCst) {
        thread::sleep(tick);
        let begun = state.begun.load(Ordering::Relaxed);
        let running = state.running.load(Ordering::SeqCst) > 0;
        if running {
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            let since = looked.elapsed();
            if since >= LOOK {
                let now = preemptions(runners);
                let per_second = u128::from(now.saturating_sub(preempted)) * 1_000 / since.as_millis();
                state.contended.store(per_second >= WANTED_PER_SECOND, Ordering::Relaxed);
                (looked, preempted) = (Instant::now(), now);
            }
        }
        idle_ticks = if running || begun != seen { 0 } else { idle_ticks + 1 };
        seen = begun;
        if idle_ticks >= IDLE_TICKS {
            state.parked.store(true, Ordering::SeqCst);
            // A guest that began before `parked` could be seen would not have woken this thread.
            while state.running.load(Ordering::SeqCst) == 0 && !state.ended.load(Ordering::SeqCst) {
                thread::park();
            }
            state.parked.store(false, Ordering::SeqCst);
            idle_ticks = 0;
        }
    }
}

/// How often others have taken the processor from threads of this process, but for those that give it to whoever wants it.
#[cfg(target_os = "linux")]
fn preemptions(runners: &Runners) -> u64 {
    super::runners::preemptions(UsageWho::RUSAGE_SELF).saturating_sub(runners.preempted())
}

/// Other systems do not count them.
#[cfg(not(target_os = "linux"))]
fn preemptions(_runners: &Runners) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_advances_only_while_something_runs() {
        let engine = wasmtime::Engine::default();
        let ticker =
            Ticker::start(engine.weak(), Duration::from_micros(100), Arc::new(Runners::start(1).unwrap())).unwrap();
        let parked = || ticker.state.parked.load(Ordering::SeqCst);
        for _ in 0..3 {
            while !parked() {
                thread::yield_now();
            }
            let running = ticker.enter();
            while parked() {
                thread::yield_now();
            }
            drop(running);
        }
    }
}
