//! The query part of a URL, decoded.

use crate::status::Status;
use std::borrow::Cow;
use std::num::{IntErrorKind, ParseIntError};

/// Query parameters in the order given. Few are ever present, so look-ups walk the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true).into_owned(), decode(value, true).into_owned())
        });
        Query(pairs.collect())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first value of `name` unless it is empty, which Kubernetes treats as not given.
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// A boolean as Go's conversion reads it: given, and neither `false` nor `0`.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// An integer; `None` when the parameter is not given.
    ///
    /// # Errors
    /// 400 for a text that is none, the empty one too.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Status> {
        let number =
            |text: &str| text.parse().map_err(|error| Status::bad_request(not_a_number("ParseInt", text, &error)));
        self.get(name).map(number).transpose()
    }
}

/// What a function of Go's `strconv` says of a text that is no number.
pub fn not_a_number(function: &str, text: &str, error: &ParseIntError) -> String {
    let why = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {text:?}: {why}")
}

/// Undoes percent-encoding. What is not valid encoding stays as it is; what is not UTF-8 becomes U+FFFD.
pub fn decode(text: &str, plus_is_space: bool) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte == b'%' || (plus_is_space && byte == b'+')) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => match bytes.get(at + 1..at + 3).and_then(hex_pair) {
                Some(byte) => {
                    decoded.push(byte);
                    at += 2;
                }
                None => decoded.push(b'%'),
            },
            b'+' if plus_is_space => decoded.push(b' '),
            byte => decoded.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into()))
}

/// Text as a value of a query, or a segment of a path.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|value| value as u8);
    Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parameters_are_decoded_and_found_by_name() {
        let query = Query::parse("labelSelector=app%3Dweb%2Ctier+in+%28a%29&watch&limit=5&limit=6&bad=%zz");
        assert_eq!(query.get("labelSelector"), Some("app=web,tier in (a)"));
        assert!(query.flag("watch"));
        assert_eq!(query.get("limit"), Some("5"));
        assert_eq!(query.all("limit").collect::<Vec<_>>(), ["5", "6"]);
        assert_eq!(query.get("bad"), Some("%zz"));
        assert_eq!(query.non_empty("watch"), None);
    }

    #[test]
    fn integers_are_refused_in_gos_words() {
        let query = Query::parse("a=-5&empty=&word=x&large=9223372036854775808");
        let integer = |name| query.integer(name).map_err(|status| status.message);
        assert_eq!((integer("a"), integer("none")), (Ok(Some(-5)), Ok(None)));
        assert_eq!(integer("empty"), Err(r#"strconv.ParseInt: parsing "": invalid syntax"#.into()));
        assert_eq!(integer("word"), Err(r#"strconv.ParseInt: parsing "x": invalid syntax"#.into()));
        let large = r#"strconv.ParseInt: parsing "9223372036854775808": value out of range"#;
        assert_eq!(integer("large"), Err(large.into()));
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in ".*") {
            let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            prop_assert_eq!(decode(&encoded, true), text.as_str());
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded, true), text);
        }

        #[test]
        fn any_text_can_be_parsed(text in ".*") {
            Query::parse(&text);
        }
    }
}
