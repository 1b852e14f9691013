//! JSONPath as printer columns of custom kinds write it: what stands between the braces of a template of
//! `k8s.io/client-go/util/jsonpath`.
//!
//! ```text
//! .spec.replicas   .metadata.labels.app\.kubernetes\.io/name   ['a.b']   .items[0]   [-1:]   [*]   ..name
//! .status.conditions[?(@.type=="Ready")].status
//! ```

use std::cmp::Ordering;

use serde_json::Value;

/// Steps of one path.
const MAX_STEPS: usize = 64;
/// Values that a path may stand for on its way; what goes beyond is not looked at.
const MAX_RESULTS: usize = 10_000;

/// A path that was read and can be followed in any object.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    #[error("unexpected {0:?}")]
    Unexpected(String),
    #[error("it has more than {MAX_STEPS} steps")]
    TooLong,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(String),
    /// `*`: every member or item.
    Every,
    /// `..`: the value and everything below it.
    Descend,
    /// `[start:end:step]`, or `[index]` where `single`.
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: usize,
        single: bool,
    },
    /// `[?(…)]`: the items that fulfil a comparison, or have a value at a path.
    Filter(JsonPath, Option<(Comparison, Value)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer spellings first: they begin with the shorter ones.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

impl JsonPath {
    /// The path of one member in another.
    pub fn member(names: &[&str]) -> JsonPath {
        JsonPath { steps: names.iter().map(|name| Step::Member((*name).to_owned())).collect() }
    }

    /// Reads a path.
    ///
    /// # Errors
    /// What is not understood, or that it is too long.
    pub fn parse(text: &str) -> Result<JsonPath, JsonPathError> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            rest = step(rest, &mut steps)?;
            if steps.len() > MAX_STEPS {
                return Err(JsonPathError::TooLong);
            }
        }
        Ok(JsonPath { steps })
    }

    /// The values that the path leads to, in order; none where something on the way is missing.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        self.steps.iter().fold(vec![value], |found, step| {
            let mut next = Vec::new();
            found.into_iter().for_each(|value| step.follow(value, &mut next));
            next.truncate(MAX_RESULTS);
            next
        })
    }
}

impl Step {
    fn follow<'v>(&self, value: &'v Value, next: &mut Vec<&'v Value>) {
        match (self, value) {
            (Step::Member(name), Value::Object(members)) => next.extend(members.get(name)),
            (Step::Every, Value::Object(members)) => next.extend(members.values()),
            (Step::Every, Value::Array(items)) => next.extend(items),
            (Step::Descend, value) => descend(value, next),
            (Step::Slice { start, end, step, single }, Value::Array(items)) => {
                let at = |index: i64| if index < 0 { index.saturating_add(items.len() as i64) } else { index };
                let start = at(start.unwrap_or(0));
                let end = if *single { start.saturating_add(1) } else { at(end.unwrap_or(items.len() as i64)) };
                let range = start.clamp(0, items.len() as i64) as usize..end.clamp(0, items.len() as i64) as usize;
                if start >= 0 && !range.is_empty() {
                    next.extend(items[range].iter().step_by(*step));
                }
            }
            (Step::Filter(path, comparison), Value::Array(items)) => {
                next.extend(items.iter().filter(|item| {
                    let found = path.find(item);
                    match comparison {
                        None => !found.is_empty(),
                        Some((comparison, operand)) => found.first().is_some_and(|v| comparison.holds(v, operand)),
                    }
                }));
            }
            _ => {}
        }
    }
}

fn descend<'v>(value: &'v Value, next: &mut Vec<&'v Value>) {
    if next.len() >= MAX_RESULTS {
        return;
    }
    next.push(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| descend(member, next)),
        Value::Array(items) => items.iter().for_each(|item| descend(item, next)),
        _ => {}
    }
}

impl Comparison {
    fn holds(self, value: &Value, operand: &Value) -> bool {
        let order = match (value, operand) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match self {
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::NotEqual => order != Some(Ordering::Equal),
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::LessOrEqual => order.is_some_and(Ordering::is_le),
            Comparison::Greater => order == Some(Ordering::Greater),
            Comparison::GreaterOrEqual => order.is_some_and(Ordering::is_ge),
        }
    }
}

fn unexpected(text: &str) -> JsonPathError {
    JsonPathError::Unexpected(text.chars().take(20).collect())
}

/// Reads one step and returns what follows it.
fn step<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, JsonPathError> {
    if let Some(rest) = text.strip_prefix("..") {
        steps.push(Step::Descend);
        return if rest.starts_with('[') { Ok(rest) } else { member(rest, steps) };
    }
    match text.strip_prefix('.') {
        // The object itself.
        Some("") if steps.is_empty() => Ok(""),
        Some(rest) if rest.starts_with('[') => Ok(rest),
        Some(rest) => member(rest, steps),
        None => match text.strip_prefix('[') {
            Some(inside) => bracket(inside, steps),
            // A path may begin with a name.
            None if steps.is_empty() => member(text, steps),
            None => Err(unexpected(text)),
        },
    }
}

/// A name up to the next `.` or `[`; a backslash takes the character after it as it is.
fn member<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, JsonPathError> {
    let mut name = String::new();
    let mut characters = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = characters.next() {
        match c {
            '.' | '[' => {
                end = at;
                break;
            }
            '\\' => name.extend(characters.next().map(|(_, c)| c)),
            ' ' | ']' | '(' | ')' | '{' | '}' => return Err(unexpected(&text[at..])),
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => return Err(unexpected(text)),
        "*" => steps.push(Step::Every),
        _ => steps.push(Step::Member(name)),
    }
    Ok(&text[end..])
}

/// What stands in brackets.
fn bracket<'t>(text: &'t str, steps: &mut Vec<Step>) -> Result<&'t str, JsonPathError> {
    if let Some(inside) = text.strip_prefix("?(") {
        let end = end_of(inside, ")]").ok_or_else(|| unexpected(text))?;
        steps.push(filter(&inside[..end])?);
        return Ok(&inside[end + 2..]);
    }
    let end = end_of(text, "]").ok_or_else(|| unexpected(text))?;
    let inside = text[..end].trim();
    steps.push(match quoted(inside) {
        Some(name) => Step::Member(name),
        None if inside == "*" => Step::Every,
        None => slice(inside)?,
    });
    Ok(&text[end + 1..])
}

/// Where `close` begins outside of quotes.
fn end_of(text: &str, close: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '\'' || c == '"' => quote = Some(c),
            None if text[at..].starts_with(close) => return Some(at),
            None => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<String> {
    let inside = ['\'', '"'].iter().find_map(|q| text.strip_prefix(*q)?.strip_suffix(*q))?;
    Some(inside.to_owned())
}

fn slice(text: &str) -> Result<Step, JsonPathError> {
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        digits => digits.parse::<i64>().map(Some).map_err(|_| unexpected(text)),
    };
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        [index] => match number(index)? {
            Some(index) => Ok(Step::Slice { start: Some(index), end: None, step: 1, single: true }),
            None => Err(unexpected(text)),
        },
        [start, end] => Ok(Step::Slice { start: number(start)?, end: number(end)?, step: 1, single: false }),
        [start, end, step] => {
            let step = usize::try_from(number(step)?.unwrap_or(1)).ok().filter(|step| *step > 0);
            let step = step.ok_or_else(|| unexpected(text))?;
            Ok(Step::Slice { start: number(start)?, end: number(end)?, step, single: false })
        }
        _ => Err(unexpected(text)),
    }
}

/// `@.type=="Ready"`, or a path alone.
fn filter(text: &str) -> Result<Step, JsonPathError> {
    let own_path = |text: &str| match text.trim().strip_prefix('@') {
        Some(path) => JsonPath::parse(path),
        None => Err(unexpected(text)),
    };
    let found = COMPARISONS.iter().filter_map(|(sign, comparison)| Some((end_of(text, sign)?, sign, comparison)));
    // `<=` is found where `<` is: of one place the longer spelling counts, which comes first in the table.
    let Some((at, sign, comparison)) = found.min_by_key(|(at, ..)| *at) else {
        return Ok(Step::Filter(own_path(text)?, None));
    };
    let operand = text[at + sign.len()..].trim();
    let operand = match quoted(operand) {
        Some(text) => Value::String(text),
        None => serde_json::from_str(operand).map_err(|_| unexpected(operand))?,
    };
    Ok(Step::Filter(own_path(&text[..at])?, Some((*comparison, operand))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "spec": {"replicas": 3, "ports": [80, 81, 82], "a.b": "dotted", "on": true},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "n": 1},
                {"type": "Other", "status": "False", "n": 5, "extra": "x"},
            ]},
        });
        let cases = [
            (".spec.replicas", "[3]"),
            ("spec.replicas", "[3]"),
            (".spec.a\\.b", "[\"dotted\"]"),
            (".spec['a.b']", "[\"dotted\"]"),
            (".spec.ports[0]", "[80]"),
            (".spec.ports[-1]", "[82]"),
            (".spec.ports[-1:]", "[82]"),
            (".spec.ports[0:2]", "[80,81]"),
            (".spec.ports[::2]", "[80,82]"),
            (".spec.ports[*]", "[80,81,82]"),
            (".spec.ports[7]", "[]"),
            (".spec.ports[-7]", "[]"),
            (".spec.missing.deeper", "[]"),
            (".spec.replicas.deeper", "[]"),
            ("..type", "[\"Ready\",\"Other\"]"),
            (".status.conditions[?(@.type==\"Ready\")].status", "[\"True\"]"),
            (".status.conditions[?(@.type=='Ready')].status", "[\"True\"]"),
            (".status.conditions[?(@.type != 'Ready')].type", "[\"Other\"]"),
            (".status.conditions[?(@.n >= 5)].type", "[\"Other\"]"),
            (".status.conditions[?(@.n<5)].type", "[\"Ready\"]"),
            (".status.conditions[?(@.extra)].type", "[\"Other\"]"),
            (".status.conditions[*].n", "[1,5]"),
        ];
        for (path, expected) in cases {
            let found = JsonPath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(json!(found.find(&object)).to_string(), expected, "{path}");
        }
        assert_eq!(JsonPath::parse(".").unwrap().find(&object), [&object]);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in
            ["..", ".a.", "[", "[]", "[1", ".a[x]", ".a[?(x)]", ".a[?(@.b==)]", ".a b", "a]", ".a[::0]", ".a[1:2:3:4]"]
        {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
        assert_eq!(JsonPath::parse(&".a".repeat(MAX_STEPS + 1)), Err(JsonPathError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn any_text_has_an_answer(text in "[.a\\[\\]?(@)=<'\":*0-9 -]{0,24}") {
            if let Ok(path) = JsonPath::parse(&text) {
                path.find(&json!({"a": [{"a": 1}, [2]]}));
            }
        }
    }
}
