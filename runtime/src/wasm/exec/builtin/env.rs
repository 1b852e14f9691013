//! `env`, and `printenv [NAME…]`: the container's environment.

use std::io::{self, Write};

use super::Session;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let names = std::mem::take(&mut session.args);
    let env = &session.container.env;
    if names.is_empty() {
        for (name, value) in env {
            writeln!(session.stdout, "{name}={value}")?;
        }
        return Ok(0);
    }
    if session.name == "env" {
        // It would run a command with another environment.
        session.complain("arguments are not supported");
        return Ok(125);
    }
    let mut code = 0;
    for name in names {
        match env.iter().find(|(found, _)| *found == name) {
            Some((_, value)) => writeln!(session.stdout, "{value}")?,
            None => code = 1,
        }
    }
    Ok(code)
}
