//! `cat [FILE…]`: files, or standard input, one after the other.

use std::io;

use super::{Session, reason};

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let (_, mut paths) = match session.options("u") {
        Ok(options) => options,
        Err(code) => return Ok(code),
    };
    if paths.is_empty() {
        paths.push("-".to_owned());
    }
    let tree = session.tree()?;
    let mut code = 0;
    for path in paths {
        if path == "-" {
            copy_input(session)?;
            continue;
        }
        let parts = session.absolute(&path);
        let opened = match tree.metadata(&parts) {
            Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(_) => tree.open(&parts),
            Err(error) => Err(error),
        };
        match opened {
            Ok(mut file) => drop(io::copy(&mut file, &mut session.stdout)?),
            Err(error) => code = session.complain(&format!("{path}: {}", reason(&error))),
        }
    }
    Ok(code)
}

/// Each piece is shown as it comes, so that it can be talked to.
fn copy_input(session: &mut Session<'_>) -> io::Result<()> {
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = io::Read::read(&mut session.stdin, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        io::Write::write_all(&mut session.stdout, &buffer[..length])?;
        io::Write::flush(&mut session.stdout)?;
    }
}
