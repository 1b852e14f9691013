//! Container logs: the CRI line format, and which part of it a reader asked for.
//!
//! `2024-01-01T00:00:00.000000000Z stdout F text`; `P` in place of `F` marks a part of a line that goes on
//! (design proposal "Redesign of container logging in the kubelet").

use jiff::{SignedDuration, Timestamp};

/// What `kubectl logs` and its API ask for (`PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    /// Lines before this time are left out.
    pub since: Option<Timestamp>,
    /// Only this many lines at the end.
    pub tail: Option<u64>,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
    pub stream: Stream,
}

/// Which of a container's streams are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stream {
    #[default]
    All,
    Stdout,
    Stderr,
}

impl Options {
    /// Reads a query string.
    ///
    /// # Errors
    /// With a sentence that names the parameter that is wrong.
    pub fn parse(query: &str, now: Timestamp) -> Result<Options, String> {
        let mut options = Options::default();
        for (key, value) in pairs(query) {
            let invalid = || format!("invalid {key}: {value:?}");
            match key.as_str() {
                "follow" => options.follow = boolean(&value).ok_or_else(invalid)?,
                "previous" => options.previous = boolean(&value).ok_or_else(invalid)?,
                "timestamps" => options.timestamps = boolean(&value).ok_or_else(invalid)?,
                "sinceSeconds" => {
                    let seconds: i64 = value.parse().ok().filter(|seconds| *seconds > 0).ok_or_else(invalid)?;
                    options.since = Some(now.checked_sub(SignedDuration::from_secs(seconds)).map_err(|_| invalid())?);
                }
                "sinceTime" => options.since = Some(value.parse().map_err(|_| invalid())?),
                "tailLines" => options.tail = Some(value.parse().map_err(|_| invalid())?),
                "limitBytes" => {
                    options.limit_bytes = Some(value.parse().ok().filter(|limit| *limit > 0).ok_or_else(invalid)?);
                }
                "stream" => {
                    options.stream = match value.as_str() {
                        "All" | "" => Stream::All,
                        "Stdout" => Stream::Stdout,
                        "Stderr" => Stream::Stderr,
                        _ => return Err(invalid()),
                    }
                }
                _ => {}
            }
        }
        if options.tail.is_some() && options.stream != Stream::All {
            return Err("tailLines and a specific stream are mutually exclusive for now".to_owned());
        }
        Ok(options)
    }
}

/// Turns raw log lines into what the reader sees; keeps what must be known between lines.
#[derive(Debug)]
pub struct Renderer {
    options: Options,
    left_bytes: Option<u64>,
    in_part: bool,
}

impl Renderer {
    pub fn new(options: Options) -> Renderer {
        Renderer { left_bytes: options.limit_bytes, options, in_part: false }
    }

    /// Appends what is shown of one line (without its newline). Lines that are not in the format are left out.
    pub fn line(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        let Some(line) = Line::parse(raw) else { return };
        let wanted = match self.options.stream {
            Stream::All => true,
            Stream::Stdout => line.stream == b"stdout",
            Stream::Stderr => line.stream == b"stderr",
        };
        if !wanted || self.options.since.is_some_and(|since| line.time < since) {
            return;
        }
        if self.options.timestamps && !self.in_part {
            self.push(line.time_text, out);
            self.push(b" ", out);
        }
        self.push(line.text, out);
        if !line.partial {
            self.push(b"\n", out);
        }
        self.in_part = line.partial;
    }

    /// The byte limit is used up.
    pub fn is_done(&self) -> bool {
        self.left_bytes == Some(0)
    }

    fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let take = match &mut self.left_bytes {
            None => bytes.len(),
            Some(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= take as u64;
                take
            }
        };
        out.extend_from_slice(&bytes[..take]);
    }
}

struct Line<'a> {
    time: Timestamp,
    time_text: &'a [u8],
    stream: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

impl Line<'_> {
    fn parse(raw: &[u8]) -> Option<Line<'_>> {
        let mut parts = raw.splitn(4, |byte| *byte == b' ');
        let time_text = parts.next()?;
        let time = std::str::from_utf8(time_text).ok()?.parse().ok()?;
        let stream = parts.next()?;
        // The tag may carry more, separated by colons; only the first counts.
        let partial = parts.next()?.first() == Some(&b'P');
        Some(Line { time, time_text, stream, partial, text: parts.next().unwrap_or_default() })
    }
}

/// The pairs of a query string, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "1" | "" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const LOG: &str = "2024-01-01T00:00:00.000000001Z stdout F one\n\
        2024-01-01T00:00:01.000000000Z stderr P two, \n\
        2024-01-01T00:00:02.000000000Z stderr F continued\n\
        not a log line\n\
        2024-01-01T00:00:03.000000000Z stdout F \n\
        2024-01-01T00:00:04.000000000Z stdout F four  spaced";

    fn render(query: &str) -> String {
        let options = Options::parse(query, "2024-01-01T00:00:05Z".parse().unwrap()).unwrap();
        let mut renderer = Renderer::new(options);
        let mut out = Vec::new();
        for line in LOG.lines() {
            renderer.line(line.as_bytes(), &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn shows_text_and_joins_parts() {
        expect![["one\ntwo, continued\n\nfour  spaced\n"]].assert_eq(&render(""));
    }

    #[test]
    fn timestamps_stand_before_whole_lines() {
        expect![[r#"
            2024-01-01T00:00:00.000000001Z one
            2024-01-01T00:00:01.000000000Z two, continued
            2024-01-01T00:00:03.000000000Z 
            2024-01-01T00:00:04.000000000Z four  spaced
        "#]]
        .assert_eq(&render("timestamps=true"));
    }

    #[test]
    fn since_streams_and_limits_choose() {
        assert_eq!(render("sinceSeconds=2"), "\nfour  spaced\n");
        assert_eq!(render("sinceTime=2024-01-01T00%3A00%3A04Z"), "four  spaced\n");
        assert_eq!(render("stream=Stderr"), "two, continued\n");
        assert_eq!(render("limitBytes=6"), "one\ntw");
    }

    #[test]
    fn bad_parameters_are_named() {
        let fails = |query: &str| Options::parse(query, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(fails("tailLines=-1"), "invalid tailLines: \"-1\"");
        assert_eq!(fails("limitBytes=0"), "invalid limitBytes: \"0\"");
        assert_eq!(fails("follow=maybe"), "invalid follow: \"maybe\"");
    }
}
