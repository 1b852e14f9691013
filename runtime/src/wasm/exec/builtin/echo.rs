//! `echo [-n] [TEXT…]`.

use std::io::{self, Write};

use super::Session;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let (words, end) = match session.args.split_first() {
        Some((first, rest)) if first == "-n" => (rest, ""),
        _ => (&session.args[..], "\n"),
    };
    write!(session.stdout, "{}{end}", words.join(" "))?;
    Ok(0)
}
