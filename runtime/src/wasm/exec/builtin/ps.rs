//! `ps`: the container's own process, those of the pod's other containers where it shares them, and this command.

use std::io::{self, Write};

use super::Session;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    writeln!(session.stdout, "  PID COMMAND")?;
    for (number, command) in session.processes.iter().map(String::as_str).chain(["ps"]).enumerate() {
        writeln!(session.stdout, "{:>5} {command}", number + 1)?;
    }
    Ok(0)
}
