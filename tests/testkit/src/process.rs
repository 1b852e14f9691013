//! A child process that never outlives the test.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::wait::eventually;

/// How long a process may take to stop when asked.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running child. Dropping it asks it to stop, and kills it when it does not.
pub struct Process {
    child: Child,
    stderr: PathBuf,
}

/// What follows `prefix` in a line of `printed`, of which the last line may not be there whole yet.
pub fn line<'a>(printed: &'a str, prefix: &str) -> Option<&'a str> {
    let mut lines = printed.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    lines.find_map(|line| line.strip_prefix(prefix))
}

impl Process {
    /// Starts `binary` with its output in two files.
    ///
    /// The child is told to stop when this whole process ends (`setpriv --pdeathsig`), also when it is killed. The kernel
    /// ties that to the thread that starts the child, so a thread that never ends does it.
    pub fn start(binary: &str, arguments: &[String], stdout: &Path, stderr: &Path) -> std::io::Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--", binary]).args(arguments);
        command.stdin(Stdio::null()).stdout(File::create(stdout)?).stderr(File::create(stderr)?);
        let (answer, child) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = answer.send(command.spawn());
            loop {
                std::thread::park();
            }
        });
        let child = child.recv().map_err(|_| std::io::Error::other("the spawning thread ended"))??;
        Ok(Self { child, stderr: stderr.to_owned() })
    }

    /// What it has said on standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Waits until it says a line that begins with `prefix` on standard error, and returns what follows. Panics when it ends
    /// before that.
    pub fn line(&mut self, prefix: &str) -> String {
        eventually(&format!("a line {prefix:?}"), || {
            let ended = self.ended();
            let printed = self.stderr();
            let found = line(&printed, prefix).map(str::to_owned);
            if let (None, Some(status)) = (&found, ended) {
                panic!("it ended with {status}:\n{printed}");
            }
            found.ok_or(printed)
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The exit status when it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends SIGTERM and waits for the end. Panics when it does not come in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.end_by("-TERM")
    }

    /// Likewise with SIGINT, as Ctrl-C does.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.end_by("-INT")
    }

    /// Sends SIGINT, and does not wait.
    pub fn tell_to_stop(&mut self) {
        self.signal("-INT");
    }

    fn signal(&mut self, signal: &str) {
        // The number of one that has ended may be another's.
        if self.ended().is_none() {
            let _ = Command::new("kill").args([signal, &self.id().to_string()]).status();
        }
    }

    fn end_by(&mut self, signal: &str) -> ExitStatus {
        self.signal(signal);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        panic!("process did not stop within {STOP_TIMEOUT:?} of SIG{}", &signal[1..]);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            if std::thread::panicking() {
                self.kill();
            } else {
                self.terminate();
            }
        }
    }
}
