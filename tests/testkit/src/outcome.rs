//! Commands that are run to their end.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    /// Runs a command with `input` on standard input.
    pub fn of(command: &mut Command, input: &[u8]) -> Self {
        let program = command.get_program().to_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {program:?}: {error}; tests/run installs what tests take"));
        if let Some(mut stdin) = child.stdin.take() {
            // A command that reads no input closes it; that is not this test's business.
            let _ = stdin.write_all(input);
        }
        child.wait_with_output().unwrap_or_else(|error| panic!("{command:?}: {error}")).into()
    }

    /// Standard output of a command that must have succeeded; `what` names it.
    pub fn ok(self, what: &str) -> String {
        assert!(self.success, "{what} failed:\n{}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program.
pub fn run(program: &str, arguments: &[&str]) -> Outcome {
    Outcome::of(Command::new(program).args(arguments), b"")
}

/// What a program prints that must succeed.
pub fn output(program: &str, arguments: &[&str]) -> String {
    run(program, arguments).ok(&format!("{program} {arguments:?}"))
}
