//! JSON as Go writes it: what HTML would take for its own is escaped in strings.
//!
//! It means the same, but there are clients that compare the text: `kubectl rollout undo` does so with the data of a
//! ControllerRevision.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::Formatter;

/// Bytes at which what is escaped begins. Every byte of every object that is written is looked up here. The last is that of
/// all the characters that end a line in JavaScript alone.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut at = 0;
    while at < 256 {
        special[at] = matches!(at as u8, b'<' | b'>' | b'&' | 0xe2);
        at += 1;
    }
    special
};

struct AsGo;

impl Formatter for AsGo {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.bytes().position(|byte| SPECIAL[usize::from(byte)]) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let Some(c) = special.chars().next() else { break };
            let (this, after) = special.split_at(c.len_utf8());
            match c {
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => write!(writer, "\\u{:04x}", u32::from(c))?,
                _ => writer.write_all(this.as_bytes())?,
            }
            rest = after;
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Appends a value as JSON. Values are maps with strings as keys, so that writing them to memory cannot fail.
pub fn write(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = value.serialize(&mut Serializer::with_formatter(out, AsGo));
}

/// A value as JSON.
pub fn to_vec(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out, value);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(to_vec(value)).unwrap()
    }

    #[test]
    fn what_html_would_take_for_its_own_is_escaped() {
        assert_eq!(text(&json!({"a<": "b>&"})), r#"{"a\u003c":"b\u003e\u0026"}"#);
        assert_eq!(text(&json!("\u{2027}\u{2028}\u{2029}€\"\\\n\u{1}")), r#""‧\u2028\u2029€\"\\\n\u0001""#);
        assert_eq!(text(&json!([1, 1.5, true, null, ""])), r#"[1,1.5,true,null,""]"#);
    }

    proptest! {
        #[test]
        fn it_means_the_same(text in "[a<>&\u{2026}-\u{202a}€\"\\\\\n]*") {
            let value = json!({text.clone(): [text]});
            prop_assert_eq!(serde_json::from_slice::<Value>(&to_vec(&value)).unwrap(), value);
        }
    }
}
