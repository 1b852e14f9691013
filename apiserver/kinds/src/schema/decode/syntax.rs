//! Syntax errors in the words of Go's JSON scanner, which clients know.

use serde::Deserialize;
use serde_json::Value;
use serde_json::error::Category;

/// The first of the documents in a stream of YAML: Kubernetes reads no other.
pub fn first_document(stream: &[u8]) -> &[u8] {
    let (mut begun, mut end) = (false, 0);
    for line in stream.split_inclusive(|byte| *byte == b'\n') {
        let stands_alone = line.get(3).is_none_or(u8::is_ascii_whitespace);
        let (starts, ends) = (line.starts_with(b"---") && stands_alone, line.starts_with(b"...") && stands_alone);
        if begun && (starts || ends) {
            return &stream[..end];
        }
        // Comments and directives come before the first document.
        begun |= starts || !matches!(line.trim_ascii().first(), None | Some(b'#' | b'%'));
        end += line.len();
    }
    stream
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
