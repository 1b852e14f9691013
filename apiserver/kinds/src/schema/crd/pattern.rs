//! Patterns, which are written for Go's `regexp` and run by the `regex` crate.
//!
//! The two agree on nearly everything. Where they do not, the pattern is rewritten: Go's classes `\d`, `\s`, `\w` and its
//! word boundaries are ASCII, a brace that begins no repetition stands for itself, and so does `[` within a class.

use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};

/// Compiled size of one pattern.
const MAX_PATTERN_BYTES: usize = 512 * 1024;
/// Compiled size of one that repeats large classes, such as letters of any script, many times.
const MAX_LARGE_PATTERN_BYTES: usize = 16 * 1024 * 1024;
/// Such patterns in one schema: each takes half a second to compile.
const MAX_LARGE_PATTERNS: usize = 16;
/// States that one pattern may keep while it runs.
const MAX_CACHE_BYTES: usize = 1024 * 1024;

/// A pattern that is compiled when it is first matched: most of a large schema's never are.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub fn new(source: &str) -> Pattern {
        Pattern { source: source.into(), compiled: OnceLock::new() }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it is found in the text. What is no pattern at all forbids nothing; it was refused where it was written.
    pub fn is_match(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| compile(&self.source, &mut 0).ok());
        compiled.as_ref().is_none_or(|pattern| pattern.is_match(text))
    }
}

/// Counts it where it is large.
///
/// # Errors
/// Why it is not a regular expression, or that it is too large.
pub(super) fn compile(pattern: &str, large: &mut usize) -> Result<Regex, regex::Error> {
    let pattern = translate(pattern);
    let within = |bytes| RegexBuilder::new(&pattern).size_limit(bytes).dfa_size_limit(MAX_CACHE_BYTES).build();
    match within(MAX_PATTERN_BYTES) {
        Err(regex::Error::CompiledTooBig(_)) if *large < MAX_LARGE_PATTERNS => {
            *large += 1;
            within(MAX_LARGE_PATTERN_BYTES)
        }
        compiled => compiled,
    }
}

/// What is wrong with a pattern, in the words of Go's `regexp` where it has the same.
pub(super) fn explain(pattern: &str, error: &regex::Error) -> String {
    let error = error.to_string();
    let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
    let class = || &pattern[pattern.rfind('[').unwrap_or_default()..];
    let words = match last {
        "unclosed group" => format!("missing closing ): `{pattern}`"),
        "unopened group" => format!("unexpected ): `{pattern}`"),
        "unclosed character class" => format!("missing closing ]: `{}`", class()),
        "repetition operator missing expression" => {
            let at = pattern.find(['*', '+', '?', '{']).unwrap_or_default();
            let operator = pattern[at..].chars().next().map(String::from).unwrap_or_default();
            format!("missing argument to repetition operator: `{operator}`")
        }
        other => other.to_owned(),
    };
    format!("error parsing regexp: {words}")
}

/// The pattern as the `regex` crate writes it.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    // Within a class: whether nothing but a negation stands before.
    let mut class: Option<bool> = None;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        match (c, &mut class) {
            ('\\', _) => {
                let Some(escaped) = after.chars().next() else {
                    out.push(c);
                    break;
                };
                rest = &after[escaped.len_utf8()..];
                escape(escaped, class.is_some(), &mut out);
                if let Some(first) = &mut class {
                    *first = false;
                }
                continue;
            }
            ('[', None) => {
                out.push(c);
                class = Some(true);
                if let Some(negated) = after.strip_prefix('^') {
                    out.push('^');
                    rest = negated;
                    continue;
                }
            }
            // A named class such as `[:alpha:]`.
            ('[', Some(first)) if after.starts_with(':') && after.contains(":]") => {
                *first = false;
                let end = after.find(":]").map_or(after.len(), |at| at + 2);
                out.push(c);
                out.push_str(&after[..end]);
                rest = &after[end..];
                continue;
            }
            (']', Some(first)) if !*first => {
                out.push(c);
                class = None;
            }
            ('[' | ']' | '&' | '~', Some(first)) => {
                *first = false;
                out.push('\\');
                out.push(c);
            }
            (_, Some(first)) => {
                *first = false;
                out.push(c);
            }
            ('{', None) if !is_repetition(after) => out.push_str("\\{"),
            ('{', None) => {
                let end = after.find('}').map_or(after.len(), |at| at + 1);
                out.push(c);
                out.push_str(&after[..end]);
                rest = &after[end..];
                continue;
            }
            ('}', None) => out.push_str("\\}"),
            (_, None) => out.push(c),
        }
        rest = after;
    }
    out
}

fn escape(escaped: char, in_class: bool, out: &mut String) {
    let members = match escaped {
        'd' => Some(("0-9", "[0-9]")),
        'w' => Some(("0-9A-Za-z_", "[0-9A-Za-z_]")),
        's' => Some(("\\t\\n\\x0C\\r ", "[\\t\\n\\x0C\\r ]")),
        _ => None,
    };
    match (members, escaped) {
        (Some((members, _)), _) if in_class => out.push_str(members),
        (Some((_, class)), _) => out.push_str(class),
        (None, 'D' | 'W' | 'S') if in_class => {
            // The crate takes a class within a class.
            let negated = match escaped {
                'D' => "[^0-9]",
                'W' => "[^0-9A-Za-z_]",
                _ => "[^\\t\\n\\x0C\\r ]",
            };
            out.push_str(negated);
        }
        (None, 'D') => out.push_str("[^0-9]"),
        (None, 'W') => out.push_str("[^0-9A-Za-z_]"),
        (None, 'S') => out.push_str("[^\\t\\n\\x0C\\r ]"),
        (None, 'b' | 'B') if !in_class => {
            out.push_str("(?-u:\\");
            out.push(escaped);
            out.push(')');
        }
        (None, escaped) => {
            out.push('\\');
            out.push(escaped);
        }
    }
}

/// `3}`, `3,}` or `3,5}`.
fn is_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match inside.split_once(',') {
        None => digits(inside),
        Some((low, high)) => digits(low) && (high.is_empty() || digits(high)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        let cases = [
            ("^a+$", "aa", true),
            ("^\\d+$", "12", true),
            ("^\\d+$", "\u{0661}", false),
            ("^[\\d-]+$", "1-2", true),
            ("^[^\\s]+$", "a b", false),
            ("^[\\W]$", "é", true),
            ("^\\W$", "é", true),
            ("^${VAR}$", "x", false),
            ("^\\{a}$", "{a}", true),
            ("a{", "a{", true),
            ("^a{2,3}$", "aaa", true),
            ("^[]a]+$", "]a", true),
            ("^[^]]+$", "a]", false),
            ("^[[]$", "[", true),
            ("^[[:alpha:]]+$", "ab", true),
            ("^[a&&b]+$", "a&b", true),
            ("^\\pL+$", "é", true),
            ("^(?:[-A-Za-z0-9]+\\.)*[a-z]+$", "a-b.c", true),
        ];
        for (pattern, text, expected) in cases {
            let compiled = compile(pattern, &mut 0).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(compiled.is_match(text), expected, "{pattern} {text}");
        }
        assert!(compile("(", &mut 0).is_err());
        assert!(compile("((a{100}){100}){100}", &mut 0).is_err());
        let mut large = MAX_LARGE_PATTERNS - 1;
        assert!(compile("^.{1,1000}$", &mut large).is_ok_and(|pattern| pattern.is_match("é")));
        assert!(compile("^.{1,1000}$", &mut large).is_err());
        assert!(compile(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256})$", &mut 0).is_ok());
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line() {
        let cases = [
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `a)`"),
            ("x[a", "missing closing ]: `[a`"),
            ("+", "missing argument to repetition operator: `+`"),
        ];
        for (pattern, words) in cases {
            let error = compile(pattern, &mut 0).unwrap_err();
            assert_eq!(explain(pattern, &error), format!("error parsing regexp: {words}"));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_has_an_answer(pattern in ".{0,24}", text in ".{0,8}") {
            Pattern::new(&pattern).is_match(&text);
        }
    }
}
