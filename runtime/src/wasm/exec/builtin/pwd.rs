//! `pwd`: the container's working directory.

use std::io::{self, Write};

use super::Session;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    writeln!(session.stdout, "/{}", session.absolute(".").join("/"))?;
    Ok(0)
}
