//! Label and field selectors: what lists, watches and deletions of collections are narrowed by.

use crate::status::Status;
use crate::watch_cache::Record;
use k8w_kinds::kind::KindDef;
use std::collections::BTreeMap;

/// One condition on a label or a field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    /// Also true of a missing key.
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|text| text.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Test::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Test::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// A label selector; the empty one selects everything.
///
/// Grammar: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

impl LabelSelector {
    pub fn parse(text: &str) -> Result<Self, Status> {
        let parsed = split_outside_parentheses(text).into_iter().map(label_requirement).collect::<Option<Vec<_>>>();
        parsed.map(LabelSelector).ok_or_else(|| {
            Status::bad_request(format!("unable to parse requirement: couldn't parse the selector string {text:?}"))
        })
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Commas separate requirements, except between the parentheses of `in (a, b)`.
fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let parts = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let parts: Vec<&str> = parts.map(str::trim).collect();
    if parts == [""] { Vec::new() } else { parts }
}

fn label_requirement(text: &str) -> Option<Requirement> {
    if let Some(key) = text.strip_prefix('!') {
        return Some(Requirement { key: label_key(key)?, test: Test::Absent });
    }
    for (operator, test) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((key, value)) = text.split_once(operator) {
            let values = vec![label_value(value)?];
            let test = if test { Test::In(values) } else { Test::NotIn(values) };
            return Some(Requirement { key: label_key(key)?, test });
        }
    }
    for (operator, make) in [('>', Test::GreaterThan as fn(i64) -> Test), ('<', Test::LessThan)] {
        if let Some((key, bound)) = text.split_once(operator) {
            return Some(Requirement { key: label_key(key)?, test: make(bound.trim().parse().ok()?) });
        }
    }
    let Some((key, set)) = text.split_once(char::is_whitespace) else {
        return Some(Requirement { key: label_key(text)?, test: Test::Exists });
    };
    let set = set.trim();
    let (make, set) = match (set.strip_prefix("notin"), set.strip_prefix("in")) {
        (Some(set), _) => (Test::NotIn as fn(Vec<String>) -> Test, set),
        (None, Some(set)) => (Test::In as fn(Vec<String>) -> Test, set),
        (None, None) => return None,
    };
    let inner = set.trim().strip_prefix('(')?.strip_suffix(')')?;
    let values = inner.split(',').map(label_value).collect::<Option<Vec<_>>>()?;
    Some(Requirement { key: label_key(key)?, test: make(values) })
}

fn label_key(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_string())
}

fn label_value(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().all(allowed).then(|| text.to_string())
}

/// A field selector; the empty one selects everything.
///
/// Grammar: <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Requirement>);

impl FieldSelector {
    /// Fields that the kind does not let selectors name are refused.
    pub fn parse(text: &str, def: &KindDef) -> Result<Self, Status> {
        let mut requirements = Vec::new();
        for term in split_unescaped(text).into_iter().filter(|term| !term.is_empty()) {
            let (key, test, value) = field_term(&term)
                .ok_or_else(|| Status::bad_request(format!("invalid selector: '{text}'; can't understand '{term}'")))?;
            if !def.is_selectable(key) {
                return Err(Status::bad_request(format!("field label not supported: {key}")));
            }
            requirements.push(Requirement { key: key.to_string(), test: test(vec![unescape(value)]) });
        }
        Ok(FieldSelector(requirements))
    }

    /// The one value that the selector requires of a field.
    fn required(&self, path: &str) -> Option<&str> {
        self.0.iter().find(|requirement| requirement.key == path).and_then(|requirement| match &requirement.test {
            Test::In(values) => values.first().map(String::as_str),
            _ => None,
        })
    }
}

type MakeTest = fn(Vec<String>) -> Test;

fn field_term(term: &str) -> Option<(&str, MakeTest, &str)> {
    for (operator, test) in [("!=", Test::NotIn as MakeTest), ("==", Test::In), ("=", Test::In)] {
        if let Some((key, value)) = term.split_once(operator) {
            return Some((key, test, value));
        }
    }
    None
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        match (c, terms.last_mut()) {
            (',', _) if !escaped => terms.push(String::new()),
            (_, Some(term)) => term.push(c),
            (_, None) => {}
        }
        escaped = c == '\\' && !escaped;
    }
    terms
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Everything that narrows a list or a watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `None` for all namespaces and for cluster-scoped kinds.
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Filter {
    pub fn matches(&self, def: &KindDef, record: &Record) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == record.namespace())
            && self.fields.0.iter().all(|requirement| requirement.holds(record.field(def, &requirement.key)))
            && (self.labels.is_empty() || self.labels.matches(record.labels()))
    }

    /// Whether anything but the namespace narrows.
    pub fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.0.is_empty()
    }

    /// The one name that can match.
    pub fn single_name(&self) -> Option<&str> {
        self.fields.required("metadata.name")
    }

    /// A selectable field (beside the name and the namespace) of which one value is required.
    pub fn single_field(&self, def: &KindDef) -> Option<(String, String)> {
        def.selectable_fields.iter().find_map(|field| {
            self.fields.required(&field.path).map(|value| (field.path.to_string(), value.to_string()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
    }

    #[test]
    fn label_selectors_select() {
        let object = labels(&[("app", "web"), ("tier", "1")]);
        let cases = [
            ("", true),
            ("app=web", true),
            ("app == web", true),
            ("app!=web", false),
            ("other!=web", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
            ("app in (web, db)", true),
            ("app in (db)", false),
            ("app notin (db),tier", true),
            ("other notin (db)", true),
            ("tier>0,tier<2", true),
            ("tier>1", false),
            ("app=web,tier=2", false),
            ("app=", false),
        ];
        for (text, expected) in cases {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), expected, "{text}");
        }
    }

    #[test]
    fn malformed_label_selectors_are_refused() {
        for text in ["app in web", "app=a b", "a b c", "=x", "app in (a", "tier>x", ",", "app,,tier"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn field_selectors_know_their_kind() {
        let def = KindDef::builtin("", "v1", "Thing", "things", "");
        let selector = FieldSelector::parse("metadata.name=a\\,b,metadata.namespace!=c", &def).unwrap();
        assert_eq!(selector.required("metadata.name"), Some("a,b"));
        let refused = FieldSelector::parse("spec.foo=1", &def).unwrap_err();
        assert_eq!(refused.message, "field label not supported: spec.foo");
        assert!(FieldSelector::parse("nonsense", &def).is_err());
    }

    proptest! {
        #[test]
        fn any_text_can_be_parsed(text in ".*") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text, &KindDef::builtin("", "v1", "Thing", "things", ""));
        }
    }
}
