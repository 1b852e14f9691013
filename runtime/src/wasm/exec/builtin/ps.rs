//! `ps`: the container's own process, and this command.

use std::io::{self, Write};

use super::Session;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let own = session.container.args.join(" ");
    writeln!(session.stdout, "  PID COMMAND")?;
    for (pid, command) in [(1, own.as_str()), (2, "ps")] {
        writeln!(session.stdout, "{pid:>5} {command}")?;
    }
    Ok(0)
}
