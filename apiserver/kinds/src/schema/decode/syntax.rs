//! Syntax errors in the words of Go's JSON scanner, which clients know.

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

/// The first of the documents in a stream of YAML, which is all that Kubernetes reads of it, and whether others follow.
pub fn first_document(stream: &[u8]) -> (&[u8], bool) {
    let (mut begun, mut end) = (false, 0);
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        let is_marker = is_marker(line, b"---") || is_marker(line, b"...");
        if begun && is_marker {
            let mut rest = stream[end..].split(|byte| *byte == b'\n');
            return (&stream[..end], rest.any(says_something));
        }
        // Comments and directives come before the first document.
        begun |= is_marker || says_something(line);
        end += line.len();
    }
    (stream, false)
}

/// Whether a line begins with what stands between documents, which nothing within one does (YAML 1.2, section 9.1.2).
fn is_marker(line: &[u8], marker: &[u8]) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// Whether a line holds more than a comment, a directive or a marker.
fn says_something(line: &[u8]) -> bool {
    let is_between = is_marker(line, b"---") || is_marker(line, b"...");
    let rest = if is_between { &line[3..] } else { line };
    !matches!(rest.trim_ascii().first(), None | Some(b'#' | b'%'))
}

/// Names the offending character as Go does.
pub(super) fn json(body: &[u8], error: &serde_json::Error) -> String {
    match error.classify() {
        Category::Eof => "unexpected end of JSON input".to_owned(),
        _ => match character_at(body, error.line(), error.column()) {
            Some(c) => format!("invalid character {c:?} {}", context(&error.to_string())),
            None => error.to_string(),
        },
    }
}

fn context(message: &str) -> &'static str {
    if message.starts_with("expected `,` or `}`") {
        "after object key:value pair"
    } else if message.starts_with("expected `,` or `]`") {
        "after array element"
    } else if message.starts_with("expected `:`") {
        "after object key"
    } else if message.starts_with("key must be a string") {
        "looking for beginning of object key string"
    } else if message.starts_with("trailing characters") {
        "after top-level value"
    } else if message.starts_with("control character") {
        "in string literal"
    } else if message.starts_with("invalid escape") {
        "in string escape code"
    } else {
        "looking for beginning of value"
    }
}

/// `line` and `column` count from one.
fn character_at(body: &[u8], line: usize, column: usize) -> Option<char> {
    let line = body.split(|b| *b == b'\n').nth(line.checked_sub(1)?)?;
    let rest = line.get(column.checked_sub(1)?..)?;
    let text = match std::str::from_utf8(rest) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).ok()?,
    };
    text.chars().next()
}

/// The first line: the rest is a drawing of the document.
pub(super) fn yaml(error: &serde_saphyr::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

/// The first key that a document has twice in one place, as Go's YAML decoder tells of it: `line 2: key "a" already set in
/// map`. JSON is YAML too.
pub(super) fn repeated_key(body: &[u8], options: serde_saphyr::Options) -> Option<String> {
    let mut options = options;
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::Error;
    let read = serde_saphyr::with_deserializer_from_slice_with_options(body, options, |d| Value::deserialize(d));
    match read {
        Err(serde_saphyr::Error::DuplicateMappingKey { key, location }) => {
            let key = key.unwrap_or_default();
            Some(format!("line {}: key {key:?} already set in map", location.line()))
        }
        _ => None,
    }
}

/// Whether lists and objects of well-formed JSON are nested deeper than that.
pub(super) fn is_deeper_than(levels: usize, body: &[u8]) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > levels {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_documents_there_is_a_first() {
        for (text, first, has_more) in [
            ("a: 1", "a: 1", false),
            ("---\na: 1\n", "---\na: 1\n", false),
            ("# who\n---\na: 1\n---\n", "# who\n---\na: 1\n", false),
            ("%YAML 1.2\n--- # what\na: 1\n...\n# done\n", "%YAML 1.2\n--- # what\na: 1\n", false),
            ("a: |\n  ---\n  b\n---\nc: 1\n", "a: |\n  ---\n  b\n", true),
            ("--- {a: 1}\n--- {b: 1}", "--- {a: 1}\n", true),
            ("{\"a\": \"---\"}\r\n---\r\n{}\r\n", "{\"a\": \"---\"}\r\n", true),
            ("----: 1\n", "----: 1\n", false),
            ("", "", false),
        ] {
            assert_eq!(first_document(text.as_bytes()), (first.as_bytes(), has_more), "{text}");
        }
    }
}
