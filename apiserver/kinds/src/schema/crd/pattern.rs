//! Patterns, which are written for Go's `regexp` and run by the `regex` crate.
//!
//! The two agree on nearly everything. Where they do not, the pattern is rewritten: Go's classes `\d`, `\s`, `\w` and its
//! word boundaries are ASCII, a brace that begins no repetition stands for itself, and so does `[` within a class.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError, Weak};

use regex::{Regex, RegexBuilder};

/// Compiled size of one pattern.
const MAX_PATTERN_BYTES: usize = 512 * 1024;
/// Compiled size of one that repeats large classes, such as letters of any script, many times.
const MAX_LARGE_PATTERN_BYTES: usize = 16 * 1024 * 1024;
/// Such patterns in all schemas of one definition: each takes half a second to compile.
pub(super) const MAX_LARGE_PATTERNS: usize = 16;
/// States that one pattern may keep while it runs.
const MAX_CACHE_BYTES: usize = 1024 * 1024;

/// A pattern that is compiled when it is first matched: most of a large schema's never are. All that are written alike are
/// compiled once, as long as one of them is there.
#[derive(Debug)]
pub(crate) struct Pattern {
    source: Box<str>,
    slot: Arc<Slot>,
}

/// Nothing where it cannot be compiled.
type Slot = OnceLock<Option<Compiled>>;

#[derive(Debug)]
struct Compiled {
    regex: Regex,
    is_large: bool,
}

/// What is compiled of the patterns that there are, by how they are written.
#[derive(Default)]
struct Pool {
    slots: HashMap<Box<str>, Weak<Slot>>,
    /// With so many, those that nobody has any more are forgotten.
    full: usize,
}

static POOL: LazyLock<Mutex<Pool>> = LazyLock::new(Mutex::default);

fn slot(source: &str) -> Arc<Slot> {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = pool.slots.get(source).and_then(Weak::upgrade) {
        return slot;
    }
    if pool.slots.len() >= pool.full {
        pool.slots.retain(|_, slot| slot.strong_count() > 0);
        pool.full = pool.slots.len() * 2 + 64;
    }
    let slot = Arc::default();
    pool.slots.insert(source.into(), Arc::downgrade(&slot));
    slot
}

impl Pattern {
    pub fn new(source: &str) -> Pattern {
        Pattern { source: source.into(), slot: slot(source) }
    }

    /// Adds it to `large` if it is: then it stays compiled, as that takes long, for whoever needs it next.
    ///
    /// # Errors
    /// What is wrong with it, in the words of Go's `regexp` where it has the same.
    pub fn check(self, large: &mut Vec<Pattern>) -> Result<(), String> {
        let is_large = match self.slot.get() {
            Some(Some(compiled)) => compiled.is_large,
            _ => {
                let compiled = compile(&self.source, large.len() < MAX_LARGE_PATTERNS);
                let compiled = compiled.map_err(|error| explain(&self.source, &error))?;
                let is_large = compiled.is_large;
                if is_large {
                    // Somebody else may have been faster, with the same.
                    let _ = self.slot.set(Some(compiled));
                }
                is_large
            }
        };
        if is_large {
            large.push(self);
        }
        Ok(())
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it is found in the text. What is no pattern at all forbids nothing; it was refused where it was written.
    pub fn is_match(&self, text: &str) -> bool {
        let compiled = self.slot.get_or_init(|| compile(&self.source, true).ok());
        compiled.as_ref().is_none_or(|compiled| compiled.regex.is_match(text))
    }
}

/// # Errors
/// Why it is not a regular expression, or that it is too large.
fn compile(pattern: &str, may_be_large: bool) -> Result<Compiled, regex::Error> {
    let pattern = translate(pattern);
    let within = |bytes| RegexBuilder::new(&pattern).size_limit(bytes).dfa_size_limit(MAX_CACHE_BYTES).build();
    match within(MAX_PATTERN_BYTES) {
        Err(regex::Error::CompiledTooBig(_)) if may_be_large => {
            Ok(Compiled { regex: within(MAX_LARGE_PATTERN_BYTES)?, is_large: true })
        }
        compiled => Ok(Compiled { regex: compiled?, is_large: false }),
    }
}

fn explain(pattern: &str, error: &regex::Error) -> String {
    if let regex::Error::CompiledTooBig(MAX_PATTERN_BYTES) = error {
        return format!("a definition may have {MAX_LARGE_PATTERNS} patterns that are as large as this one at most");
    }
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
            Pattern::new(pattern).check(&mut Vec::new()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(Pattern::new(pattern).is_match(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn some_patterns_may_be_large_and_are_compiled_once() {
        let mut large: Vec<Pattern> = (1..MAX_LARGE_PATTERNS).map(|_| Pattern::new("a")).collect();
        let same = Pattern::new("^.{1,1000}$");
        assert!(same.slot.get().is_none());
        assert_eq!(Pattern::new("^.{1,1000}$").check(&mut large), Ok(()));
        assert_eq!(large.len(), MAX_LARGE_PATTERNS);
        assert!(same.slot.get().is_some(), "it is compiled with the first");
        assert!(same.is_match("é") && large.last().is_some_and(|first| first.is_match("é")));
        let refused = || Pattern::new(r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]{0,256})$");
        let why = "a definition may have 16 patterns that are as large as this one at most";
        assert_eq!(refused().check(&mut large).unwrap_err(), why);
        assert_eq!(refused().check(&mut Vec::new()), Ok(()));
        assert!(Pattern::new("((a{100}){100}){100}").check(&mut Vec::new()).is_err());
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
            assert_eq!(Pattern::new(pattern).check(&mut Vec::new()), Err(format!("error parsing regexp: {words}")));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_has_an_answer(pattern in ".{0,24}", text in ".{0,8}") {
            Pattern::new(&pattern).is_match(&text);
        }
    }
}
