//! `test EXPRESSION`, and `[ EXPRESSION ]`: one condition, perhaps negated.

use std::io;

use super::{Kind, Session};

/// Exit code of an expression that cannot be understood.
const NONSENSE: i32 = 2;

pub fn run(session: &mut Session<'_>) -> io::Result<i32> {
    let mut words = std::mem::take(&mut session.args);
    if session.name == "[" && words.pop().as_deref() != Some("]") {
        session.complain("missing ']'");
        return Ok(NONSENSE);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (negated, condition) = match words.split_first() {
        Some((&"!", rest)) => (true, rest),
        _ => (false, &words[..]),
    };
    match holds(session, condition)? {
        Some(holds) => Ok(i32::from(holds == negated)),
        None => {
            session.complain(&format!("{}: unsupported expression", words.join(" ")));
            Ok(NONSENSE)
        }
    }
}

/// `None` for what is no condition.
fn holds(session: &Session<'_>, condition: &[&str]) -> io::Result<Option<bool>> {
    Ok(Some(match condition {
        [] => false,
        [text] => !text.is_empty(),
        ["-n", text] => !text.is_empty(),
        ["-z", text] => text.is_empty(),
        [one, "=" | "==", other] => one == other,
        [one, "!=", other] => one != other,
        [test @ ("-d" | "-e" | "-f" | "-s" | "-r" | "-h" | "-L"), path] => {
            let (tree, parts) = (session.tree()?, session.absolute(path));
            let found = tree.metadata(&parts).ok();
            match *test {
                "-d" => found.is_some_and(|found| found.is_dir()),
                "-f" => found.is_some_and(|found| found.is_file()),
                "-s" => found.is_some_and(|found| found.size > 0),
                "-h" | "-L" => tree.link_metadata(&parts).is_ok_and(|found| found.kind == Kind::Link),
                _ => found.is_some(),
            }
        }
        _ => return Ok(None),
    }))
}
