//! A child process that never outlives the test.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long a process may take to stop when asked.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A running child. Dropping it asks it to stop, and kills it when it does not.
pub struct Process {
    child: Child,
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
        Ok(Self { child })
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
        if let Some(status) = self.ended() {
            return status;
        }
        let _ = Command::new("kill").args(["-TERM", &self.id().to_string()]).status();
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill();
        panic!("process did not stop within {STOP_TIMEOUT:?} of SIGTERM");
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
