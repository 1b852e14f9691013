//! What a guest writes, as lines of the CRI log format.
//!
//! `2024-01-01T00:00:00.000000000Z stdout F text`: time, stream, `F` for a whole line or `P` for a part of one, and the
//! text (kubernetes/design-proposals-archive, `node/kubelet-cri-logging.md`).

use std::io::Write as _;

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

    /// Whether the last line has not come to its end.
    pub fn is_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// The lines, and parts of long ones, that are complete with these bytes.
    pub fn push(&mut self, time: Timestamp, mut bytes: &[u8]) -> Vec<u8> {
        let mut formatted = Vec::new();
        while !bytes.is_empty() {
            let room = MAX_PART_BYTES - self.partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let line_end = window.iter().position(|byte| *byte == b'\n');
            let text = &window[..line_end.unwrap_or(window.len())];
            bytes = &bytes[text.len() + usize::from(line_end.is_some())..];
            let complete = line_end.is_some() || self.partial.len() + text.len() == MAX_PART_BYTES;
            if complete && self.partial.is_empty() {
                format_line(&mut formatted, time, self.source, line_end.is_some(), text);
                continue;
            }
            self.partial.extend_from_slice(text);
            if complete {
                format_line(&mut formatted, time, self.source, line_end.is_some(), &self.partial);
                self.partial.clear();
            }
        }
        formatted
    }
}

fn format_line(into: &mut Vec<u8>, time: Timestamp, source: Source, whole: bool, text: &[u8]) {
    let tag = if whole { 'F' } else { 'P' };
    // Writing to a Vec cannot fail.
    let _ = write!(into, "{time:.9} {} {tag} ", source.as_str());
    into.extend_from_slice(text);
    into.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits() {
        let line = Lines::new(Source::Stdout).push(Timestamp::UNIX_EPOCH, b"hi\n");
        expect_test::expect![[r#"
            1970-01-01T00:00:00.000000000Z stdout F hi
        "#]]
        .assert_eq(&String::from_utf8(line).unwrap());
    }
}
