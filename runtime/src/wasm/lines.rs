//! What a guest writes, as lines of the CRI log format.
//!
//! `2024-01-01T00:00:00.000000000Z stdout F text`: time, stream, `F` for a whole line or `P` for a part of one, and the
//! text (kubernetes/design-proposals-archive, `node/kubelet-cri-logging.md`).

use std::cell::LazyCell;

use jiff::Timestamp;

/// A longer line is written in parts of this size, as container runtimes do.
pub const MAX_PART_BYTES: usize = 16 << 10;

/// Which of the two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Stdout,
    Stderr,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        }
    }
}

/// Puts the pieces that a stream comes in together to lines.
#[derive(Debug)]
pub struct Lines {
    source: Source,
    /// The line that is not complete yet; shorter than [`MAX_PART_BYTES`].
    partial: Vec<u8>,
}

impl Lines {
    pub fn new(source: Source) -> Lines {
        Lines { source, partial: Vec::new() }
    }

    /// Appends the rest, as a line.
    pub fn end(&mut self, time: Timestamp, into: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.push(time, b"\n", into);
        }
    }

    /// Appends the lines, and parts of long ones, that are complete with these bytes.
    pub fn push(&mut self, time: Timestamp, mut bytes: &[u8], into: &mut Vec<u8>) {
        // Once for all of them, where there are any.
        let source = self.source.as_str();
        let head = LazyCell::new(|| format!("{time:.9} {source} "));
        while !bytes.is_empty() {
            let room = MAX_PART_BYTES - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let line_end = window.iter().position(|byte| *byte == b'\n');
            let text = &window[..line_end.unwrap_or(window.len())];
            bytes = &bytes[text.len() + usize::from(line_end.is_some())..];
            let complete = line_end.is_some() || self.partial.len() + text.len() == MAX_PART_BYTES;
            if complete && self.partial.is_empty() {
                format_line(into, &head, line_end.is_some(), text);
                continue;
            }
            self.partial.extend_from_slice(text);
            if complete {
                format_line(into, &head, line_end.is_some(), &self.partial);
                self.partial.clear();
            }
        }
    }
}

fn format_line(into: &mut Vec<u8>, head: &str, whole: bool, text: &[u8]) {
    into.extend_from_slice(head.as_bytes());
    into.extend_from_slice(if whole { b"F " } else { b"P " });
    into.extend_from_slice(text);
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        let mut line = Vec::new();
        Lines::new(Source::Stdout).push(Timestamp::UNIX_EPOCH, b"hi\n", &mut line);
        expect_test::expect![[r#"
            1970-01-01T00:00:00.000000000Z stdout F hi
        "#]]
        .assert_eq(&String::from_utf8(line).unwrap());
    }
}
