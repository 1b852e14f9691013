//! The one thread that writes containers' logs: a disk that is slow holds up neither guests nor requests.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::logs::Log;
use super::runners::{self, Share};

/// Between two rounds: who says a lot has it written many lines at a time, and wakes nobody up for each: neither this
/// thread nor those that follow the log.
const PAUSE: Duration = Duration::from_millis(10);

/// Hands logs to the thread, which ends when all of these are gone. Each log waits there once at most.
#[derive(Clone, Debug)]
pub struct LogWriter(Sender<Arc<Log>>);

impl LogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> io::Result<LogWriter> {
        let (sender, logs) = channel();
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || run(&logs))?;
        Ok(LogWriter(sender))
    }

    /// Writes what a log has to say, and what it says meanwhile.
    pub fn write(&self, log: Arc<Log>) {
        // The thread lives as long as this.
        let _ = self.0.send(log);
    }
}

fn run(logs: &Receiver<Arc<Log>>) {
    // Nobody waits for a line as one waits for an answer.
    runners::step_back(Share::Promised);
    while let Ok(first) = logs.recv() {
        // In turn, so that whoever says a lot holds up nobody else.
        let mut round = vec![first];
        while !round.is_empty() {
            round.extend(logs.try_iter());
            round.retain(|log| log.write_pending());
            thread::sleep(PAUSE);
        }
    }
}
