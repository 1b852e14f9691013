//! Finding one's way in JSON without reading it.

/// How long the object is that `json` begins with, from brace to brace; `None` if it does not end.
pub fn object_length(json: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at += string_length(&json[at..]),
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

/// How long a string is behind its opening quote, with the closing one.
pub fn string_length(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|rest| rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))) {
        at += found + 1;
        match rest[at - 1] {
            b'"' => return at,
            // What is escaped ends nothing.
            _ => at += 1,
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_does_not_end_has_no_length() {
        for json in ["", "{", r#"{"a":"}"#, r#"{"a":"\"}"#, r#"{"a":"\"#] {
            assert_eq!(object_length(json.as_bytes()), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn an_object_ends_where_it_ends(key in ".*", text in "[\\\\\"{}a]*", rest in ".*") {
            let object = json!({"a": {key: text}, "b": [{}]}).to_string();
            let length = object_length(format!("{object}{rest}").as_bytes());
            prop_assert_eq!(length, Some(object.len()));
        }
    }
}
