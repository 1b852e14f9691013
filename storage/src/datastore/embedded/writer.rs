//! The thread that writes the log for a crowd of writers.

use std::io;
use std::sync::mpsc;
use std::thread;

use super::super::journal::Job;

/// Runs jobs one after another, and ends when it is dropped.
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
}

impl Writer {
    /// Errors: the system has no thread left.
    pub fn start() -> io::Result<Self> {
        let (jobs, inbox) = mpsc::channel::<Job>();
        thread::Builder::new().name("journal".into()).spawn(move || {
            let_others_finish();
            inbox.iter().for_each(|job| job());
        })?;
        Ok(Self { jobs })
    }

    pub fn run(&self, job: Job) {
        // Should the thread have died of a panic, the job is dropped, and who waits for it is told.
        let _ = self.jobs.send(job);
    }
}

/// Lets this thread take no processor away from another when it wakes up (`SCHED_BATCH`). Where processors are short, those
/// who have them are about to bring more writes: each `fdatasync` then serves more of them, and takes as long. Where one is
/// free it makes no difference.
#[cfg(target_os = "linux")]
fn let_others_finish() {
    #[expect(unsafe_code, reason = "the standard library cannot set a thread's scheduling policy")]
    // SAFETY: zeros are a `sched_param`, and it outlives the call, which concerns the calling thread alone. A refusal leaves
    // the policy as it was.
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param);
    }
}

/// Other systems have no such policy.
#[cfg(not(target_os = "linux"))]
fn let_others_finish() {}
