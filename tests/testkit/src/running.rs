//! Commands that run beside a test.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::outcome::Outcome;

/// Longest that one runs. Generous: a loaded machine must not fail a test.
const LIMIT: Duration = Duration::from_secs(180);

/// A command that ends with the test, or at a limit, whichever comes first: who waits for what it prints waits no longer.
pub struct Running {
    child: Arc<Mutex<Child>>,
    _alive: mpsc::Sender<()>,
}

impl Running {
    /// Starts a command whose output is piped.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let child = Arc::new(Mutex::new(child));
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::spawn({
            let child = child.clone();
            move || {
                if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                    let _ = lock(&child).kill();
                }
            }
        });
        Self { child, _alive: alive }
    }

    /// What it prints, as it comes; can be had once. To be kept for as long as the command is to run: kubectl ends when
    /// it cannot print.
    pub fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(lock(&self.child).stdout.take().expect("standard output is piped, and nobody has it"))
    }

    /// Where `kubectl port-forward` says that it listens, on its first line. What else it prints is read and dropped, as it ends
    /// when it cannot print.
    pub fn forwards(&mut self) -> SocketAddr {
        let (mut stdout, mut line) = (self.stdout(), String::new());
        stdout.read_line(&mut line).unwrap_or_else(|error| panic!("cannot read what is forwarded: {error}"));
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.split(' ').next());
        address.and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("{line:?}"))
    }

    /// What it reads, when that is piped; can be had once.
    pub fn stdin(&mut self) -> ChildStdin {
        lock(&self.child).stdin.take().expect("standard input is piped, and nobody has it")
    }

    /// Waits for its end; has what nobody has read of its output.
    pub fn outcome(self) -> Outcome {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let output = lock(&self.child).stdout.take();
        let _ = output.map(|mut output| output.read_to_string(&mut stdout));
        let errors = lock(&self.child).stderr.take();
        let _ = errors.map(|mut errors| errors.read_to_string(&mut stderr));
        let success = lock(&self.child).wait().is_ok_and(|status| status.success());
        Outcome { success, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn lock(child: &Mutex<Child>) -> MutexGuard<'_, Child> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}
