//! Commands that every wasm pod has, because people and kubectl expect them: THE table, and a file per command.
//!
//! They run on the node, beneath the container's mounts alone, and see of it what a guest sees. To add one: a file, a `mod`
//! line, and a row in [`ALL`].

mod cat;
mod echo;
mod env;
mod ls;
mod ps;
mod pwd;
mod stat;
mod tar;
mod test;

use std::io::{self, Write};

use super::tree::{Info, Kind, Tree};
use super::{Reader, Writer};
use crate::engine::{Io, Output};
use crate::guest_path::{self, Parts};
use crate::wasm::container::Container;

/// A command by the name it is called by.
pub struct Builtin {
    name: &'static str,
    run: fn(&mut Session<'_>) -> io::Result<i32>,
}

/// THE table of built-in commands.
const ALL: &[Builtin] = &[
    Builtin { name: "[", run: test::run },
    Builtin { name: "cat", run: cat::run },
    Builtin { name: "echo", run: echo::run },
    Builtin { name: "env", run: env::run },
    Builtin { name: "ls", run: ls::run },
    Builtin { name: "printenv", run: env::run },
    Builtin { name: "ps", run: ps::run },
    Builtin { name: "pwd", run: pwd::run },
    Builtin { name: "stat", run: stat::run },
    Builtin { name: "tar", run: tar::run },
    Builtin { name: "test", run: test::run },
];

/// The command of that name, or of that path in one of the usual directories.
pub fn find(name: &str) -> Option<&'static Builtin> {
    const DIRECTORIES: &[&str] = &["/bin/", "/usr/bin/", "/usr/local/bin/"];
    let bare = DIRECTORIES.iter().find_map(|directory| name.strip_prefix(directory)).unwrap_or(name);
    ALL.iter().find(|builtin| builtin.name == bare)
}

/// Runs a command to its exit code; blocks.
pub fn run(builtin: &Builtin, container: &Container, processes: Vec<String>, argv: Vec<String>, io: Io) -> i32 {
    let Io { stdin, output } = io;
    let mut session = Session {
        name: builtin.name,
        args: argv.into_iter().skip(1).collect(),
        container,
        processes,
        stdin: Reader { input: stdin, pending: bytes::Bytes::new() },
        stdout: Writer::new(output.clone(), Output::Stdout),
        stderr: Writer::new(output, Output::Stderr),
    };
    let ran = (builtin.run)(&mut session);
    let ran = ran.and_then(|code| session.stdout.flush().map(|()| code));
    ran.unwrap_or_else(|error| session.complain(&error.to_string()))
}

/// What a command works with.
struct Session<'c> {
    name: &'static str,
    args: Vec<String>,
    container: &'c Container,
    /// What runs beside this command, as far as it sees that.
    processes: Vec<String>,
    stdin: Reader,
    stdout: Writer,
    stderr: Writer,
}

impl Session<'_> {
    fn tree(&self) -> io::Result<Tree> {
        Tree::new(&self.container.preopens)
    }

    fn absolute(&self, path: &str) -> Parts {
        guest_path::absolute(self.container.working_dir.as_deref(), path)
    }

    /// Says on standard error what is wrong; returns the code that commands then end with.
    fn complain(&mut self, what: &str) -> i32 {
        // Nobody reads it: there is nobody to tell.
        let _ = writeln!(self.stderr, "{}: {what}", self.name).and_then(|()| self.stderr.flush());
        1
    }

    /// Takes arguments that are options (up to `--`) from the others. Each letter of `known` may be given.
    ///
    /// # Errors
    /// The exit code, after an option that is not known was complained about.
    fn options(&mut self, known: &str) -> Result<(String, Vec<String>), i32> {
        let (mut letters, mut others, mut only_others) = (String::new(), Vec::new(), false);
        for argument in std::mem::take(&mut self.args) {
            let option = argument.strip_prefix('-').filter(|letters| !letters.is_empty() && !only_others);
            match option {
                Some("-") => only_others = true,
                Some(given) => {
                    if let Some(wrong) = given.chars().find(|letter| !known.contains(*letter)) {
                        self.complain(&format!("invalid option -- '{wrong}'"));
                        return Err(2);
                    }
                    letters.push_str(given);
                }
                None => others.push(argument),
            }
        }
        Ok((letters, others))
    }
}

/// Why a file could not be used, without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "No such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "Permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "Is a directory".to_owned(),
        io::ErrorKind::NotADirectory => "Not a directory".to_owned(),
        io::ErrorKind::ReadOnlyFilesystem => "Read-only file system".to_owned(),
        _ => error.to_string(),
    }
}

/// `drwxr-xr-x`.
fn mode_text(info: &Info) -> String {
    let kind = match info.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Link => 'l',
        Kind::Other => '?',
    };
    let bits = (0..9).rev().map(|bit| if info.mode >> bit & 1 == 0 { '-' } else { ['x', 'w', 'r'][bit % 3] });
    std::iter::once(kind).chain(bits).collect()
}

#[cfg(test)]
mod tests;
