//! Variables from files that a pod's own containers write into an emptyDir (`fileKeyRef`, KEP-3721).
//!
//! ```text
//! # A comment, and a blank line.
//!
//! NAME='as it stands, $HOME and \n, also
//! over several lines' # another comment
//! ```
//!
//! That is part of what a POSIX shell reads, and it is read as the kubelet reads it: of several variables of one name the first
//! counts, nothing after it is looked at, and an empty one is as good as none. Unlike the kubelet, which fails, and as the API
//! has it, an optional variable is left out where there is no file.

use std::collections::{BTreeSet, HashMap};
use std::io;

use k8s_openapi::api::core::v1 as core;

/// Most bytes of one file, the KEP's.
pub const MAX_FILE_BYTES: usize = 64 << 10;
/// Most bytes of all files that a container's variables come from.
pub const MAX_FILES_BYTES: usize = 1 << 20;

/// A file: the name of its volume, and its path there.
pub type Place = (String, String);

/// What was read of each file.
pub type Files = HashMap<Place, io::Result<Vec<u8>>>;

/// Why a variable cannot be had. No message shows what is in a file: that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("cannot find the volume \"{0}\" referenced by FileKeyRef")]
    Volume(String),
    #[error("couldn't parse env file \"{path}\" of volume \"{volume}\": {why}")]
    File { volume: String, path: String, why: String },
    #[error("environment variable key \"{key}\" not found in file \"{path}\" of volume \"{volume}\"")]
    Key { volume: String, path: String, key: String },
}

/// A line that is none of such a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid environment variable format at line {line}: {problem}")]
struct Malformed {
    line: usize,
    problem: &'static str,
}

/// The files that a container's variables come from.
pub fn wanted(container: &core::Container) -> BTreeSet<Place> {
    let sources = container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref());
    sources.filter_map(|source| source.file_key_ref.as_ref()).map(place).collect()
}

/// One variable; `None` when the file or the variable is absent and optional.
///
/// # Errors
/// When either is absent and not optional, or the file is none of variables.
pub fn key(files: &Files, reference: &core::FileKeySelector) -> Result<Option<String>, Error> {
    let (volume, path) = place(reference);
    let optional = reference.optional.unwrap_or(false);
    let why = match files.get(&(volume.clone(), path.clone())) {
        None => return Err(Error::Volume(volume)),
        Some(Err(error)) if optional && error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Some(Err(error)) => error.to_string(),
        Some(Ok(bytes)) => match value(&String::from_utf8_lossy(bytes), &reference.key) {
            Ok(None) if !optional => return Err(Error::Key { volume, path, key: reference.key.clone() }),
            Ok(found) => return Ok(found),
            Err(malformed) => malformed.to_string(),
        },
    };
    Err(Error::File { volume, path, why })
}

fn place(reference: &core::FileKeySelector) -> Place {
    (reference.volume_name.clone(), reference.path.clone())
}

/// The first variable of this name, unless it is empty.
fn value(text: &str, key: &str) -> Result<Option<String>, Malformed> {
    const BLANK: [char; 2] = [' ', '\t'];
    let mut lines = (1..).zip(text.split_terminator('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)));
    while let Some((first, line)) = lines.next() {
        let malformed = |problem| Malformed { line: first, problem };
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, quoted) = line.split_once('=').ok_or_else(|| malformed("missing '='"))?;
        if name.is_empty() {
            return Err(malformed("empty variable name"));
        }
        if name.ends_with(BLANK) {
            return Err(malformed("whitespace before '=' is not allowed"));
        }
        // To a shell that is an empty variable, and a command.
        if quoted.starts_with(BLANK) {
            if name == key {
                return Ok(None);
            }
            continue;
        }
        let unquoted = || malformed("value must be enclosed in single quotes");
        let (mut rest, mut last, mut value) = (quoted.strip_prefix('\'').ok_or_else(unquoted)?, first, String::new());
        let after = loop {
            if let Some((end, after)) = rest.split_once('\'') {
                value.push_str(end);
                break after.trim_start_matches(BLANK);
            }
            value.extend([rest, "\n"]);
            (last, rest) = lines.next().ok_or_else(|| malformed("unclosed single quote"))?;
        };
        if !after.is_empty() && !after.starts_with('#') {
            return Err(Malformed { line: last, problem: "unexpected content after closing quote" });
        }
        if name == key {
            return Ok(Some(value).filter(|value| !value.is_empty()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_kubelet_reads_them() {
        // What the variable K is.
        let bad = |line, problem| Err(Malformed { line, problem });
        let table = [
            ("K='v'", Ok("v")),
            ("K='v'\r\nA='b'\r\n", Ok("v")),
            ("A='b'\nK='v'\n", Ok("v")),
            ("# a comment\n\n   # another\n \t\n \tK='v'\n", Ok("v")),
            ("K='v' # a comment", Ok("v")),
            ("K='v'# a comment", Ok("v")),
            ("K='a#b=c$D${E}\\n\"  '", Ok("a#b=c$D${E}\\n\"  ")),
            ("K='one\n  two # not a comment\r\n\n three '\nA='b'", Ok("one\n  two # not a comment\n\n three ")),
            ("K='\u{4e2d} \u{1f30d}'", Ok("\u{4e2d} \u{1f30d}")),
            // The first counts, and whatever follows is not looked at.
            ("K='v'\nK='w'\nnonsense", Ok("v")),
            ("k='v'\nKK='v'\nA='K=v'", Ok("")),
            ("A='K=\nK=v'\n", Ok("")),
            ("", Ok("")),
            ("K=''\nK='v'", Ok("")),
            ("K= 'v'", Ok("")),
            ("A= nonsense\nK='v'", Ok("v")),
            ("A B='c'\nK='v'", Ok("v")),
            ("A='b'\nnonsense\nK='v'", bad(2, "missing '='")),
            ("export K='v'", Ok("")),
            ("='v'", bad(1, "empty variable name")),
            ("\n =\nK='v'", bad(2, "empty variable name")),
            ("K ='v'", bad(1, "whitespace before '=' is not allowed")),
            ("K=v", bad(1, "value must be enclosed in single quotes")),
            ("K=\"v\"", bad(1, "value must be enclosed in single quotes")),
            ("K=", bad(1, "value must be enclosed in single quotes")),
            ("K='v''w'", bad(1, "unexpected content after closing quote")),
            ("K='v'w", bad(1, "unexpected content after closing quote")),
            ("A='b\nc'd\nK='v'", bad(2, "unexpected content after closing quote")),
            ("K='it\\'s'", bad(1, "unexpected content after closing quote")),
            ("A='b'\nK='v\n\n", bad(2, "unclosed single quote")),
        ];
        for (text, expected) in table {
            let expected = expected.map(|value: &str| Some(value.to_owned()).filter(|value| !value.is_empty()));
            assert_eq!(value(text, "K"), expected, "{text:?}");
        }
    }

    /// Where a file is one of both, a shell makes the same of it.
    #[test]
    fn a_shell_reads_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in [
            "K='v' # a comment\n",
            "# a comment\n\n \t K='a#b=c$D${E}\\n\"  '\n",
            "K='one\n  two # not a comment\n\n three '\nA='b'",
            "A='K=\nK=v'\nK='v'",
            "K= 'true'\n",
        ] {
            std::fs::write(file.path(), text).unwrap();
            let script = format!(". {}; printf %s \"$K\"", file.path().display());
            let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let found = value(text, "K").unwrap().unwrap_or_default();
            assert_eq!(String::from_utf8_lossy(&shell.stdout), found, "{text:?} {shell:?}");
        }
    }

    #[test]
    fn what_is_absent_is_named_unless_it_is_optional() {
        let place = |path: &str| ("v".to_owned(), path.to_owned());
        let files = Files::from([
            (place("env"), Ok(b"K='v'\nA=''".to_vec())),
            (place("none"), Err(io::ErrorKind::NotFound.into())),
            (place("dir"), Err(io::ErrorKind::IsADirectory.into())),
            (place("bad"), Ok(b"\xff".to_vec())),
        ]);
        let found = |volume: &str, path: &str, name: &str, optional| {
            let reference = core::FileKeySelector {
                volume_name: volume.to_owned(),
                path: path.to_owned(),
                key: name.to_owned(),
                optional: Some(optional),
            };
            key(&files, &reference).map_err(|error| error.to_string())
        };
        assert_eq!(found("v", "env", "K", false), Ok(Some("v".to_owned())));
        for (path, name) in [("env", "A"), ("env", "NO"), ("none", "K")] {
            assert_eq!(found("v", path, name, true), Ok(None), "{path} {name}");
        }
        let unread = "couldn't parse env file";
        for (volume, path, name, optional, why) in [
            (
                "v",
                "env",
                "A",
                false,
                "environment variable key \"A\" not found in file \"env\" of volume \"v\"".to_owned(),
            ),
            ("v", "none", "K", false, format!("{unread} \"none\" of volume \"v\": entity not found")),
            ("v", "dir", "K", true, format!("{unread} \"dir\" of volume \"v\": is a directory")),
            (
                "v",
                "bad",
                "K",
                true,
                format!("{unread} \"bad\" of volume \"v\": invalid environment variable format at line 1: missing '='"),
            ),
            ("w", "env", "K", true, "cannot find the volume \"w\" referenced by FileKeyRef".to_owned()),
        ] {
            assert_eq!(found(volume, path, name, optional), Err(why));
        }
    }
}
