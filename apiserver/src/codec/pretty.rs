//! JSON for people: indented, for clients that ask for it and for those whose answers people read.
//!
//! The rules are those of `k8s.io/apiserver` `pkg/endpoints/handlers/negotiation` `isPrettyPrint`.

use crate::json::string_length;
use crate::query::Query;
use http::{HeaderMap, header};

/// How the user agents of browsers and of command-line tools begin.
const READ_BY_PEOPLE: [&[u8]; 3] = [b"curl", b"Wget", b"Mozilla/5.0"];
/// What is nested deeper is indented no further: indentation must not multiply the size of an answer.
const DEEPEST_INDENT: usize = 32;

/// Whether a request's answer is to be indented. `?pretty=` decides; without it the user agent does.
pub fn is_wanted(query: &Query, headers: &HeaderMap) -> bool {
    if let Some(pretty) = query.non_empty("pretty") {
        return matches!(pretty, "1" | "t" | "T" | "true" | "True" | "TRUE");
    }
    let agent = headers.get(header::USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
    READ_BY_PEOPLE.iter().any(|prefix| agent.starts_with(prefix))
}

/// The same JSON on several lines, indented by two spaces a level as Go's `json.MarshalIndent` does it.
pub fn indented(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = json.get(at).copied() {
        at += 1;
        match byte {
            b'"' => {
                let end = at + string_length(&json[at..]);
                out.extend_from_slice(&json[at - 1..end]);
                at = end;
            }
            b'{' | b'[' => {
                out.push(byte);
                let rest = json[at..].trim_ascii_start();
                if let Some(close @ (b'}' | b']')) = rest.first() {
                    out.push(*close);
                    at = json.len() - rest.len() + 1;
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                new_line(&mut out, depth);
            }
            b':' => out.extend_from_slice(b": "),
            byte if byte.is_ascii_whitespace() => {}
            byte => out.push(byte),
        }
    }
    out
}

fn new_line(out: &mut Vec<u8>, depth: usize) {
    out.push(b'\n');
    out.resize(out.len() + 2 * depth.min(DEEPEST_INDENT), b' ');
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn the_query_decides_before_the_user_agent() {
        let is_wanted = |query: &str, agent: &'static str| {
            let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(agent))]);
            super::is_wanted(&Query::parse(query), &headers)
        };
        for agent in ["curl/8.5.0", "Wget/1.21", "Mozilla/5.0 (X11)"] {
            assert!(is_wanted("", agent) && is_wanted("pretty=", agent));
            assert!(!is_wanted("pretty=false", agent) && !is_wanted("pretty=yes", agent));
        }
        assert!(is_wanted("pretty=true", "kubectl/v1.36.0") && !is_wanted("", "kubectl/v1.36.0"));
    }

    #[test]
    fn it_looks_as_go_writes_it() {
        let json = br#"{"a":{},"b":[ ],"c":[1,"x:,{\\"],"d":{"e":null}}"#;
        let expected = "{\n  \"a\": {},\n  \"b\": [],\n  \"c\": [\n    1,\n    \"x:,{\\\\\"\n  ],\n  \"d\": {\n    \
                        \"e\": null\n  }\n}";
        assert_eq!(String::from_utf8(indented(json)).unwrap(), expected);
    }

    #[test]
    fn depth_costs_no_more_than_so_much() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(indented(deep.as_bytes()).len() < 20_000 * (2 * DEEPEST_INDENT + 2));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(".*", inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_says_the_same(value in any_json()) {
            let indented = indented(value.to_string().as_bytes());
            prop_assert_eq!(serde_json::from_slice::<Value>(&indented).unwrap(), value.clone());
            prop_assert_eq!(String::from_utf8(indented).unwrap(), serde_json::to_string_pretty(&value).unwrap());
        }

        #[test]
        fn any_bytes_can_be_indented(bytes: Vec<u8>) {
            indented(&bytes);
        }
    }
}
