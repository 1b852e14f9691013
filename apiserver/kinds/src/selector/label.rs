//! Label selectors: the query syntax `a in (b,c),!d,e!=f,g=h`, and `metav1.LabelSelector` objects.

use std::fmt;

use serde_json::{Map, Value};

use crate::field::{FieldError, FieldPath};
use crate::names;
use crate::object;

/// Longest selector text that is parsed, in bytes.
pub const SELECTOR_MAX_BYTES: usize = 64 * 1024;

/// Why a text or an object is no label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelSelectorError {
    #[error("unable to parse requirement: {0}")]
    Requirement(String),
    #[error("{0}")]
    Syntax(String),
    #[error("selector is longer than {SELECTOR_MAX_BYTES} bytes")]
    TooLong,
}

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Equals,
    NotEquals,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition; a selector is the conjunction of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    /// Sorted.
    pub values: Vec<String>,
}

/// Which objects are meant, by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl LabelSelector {
    /// Matches every object.
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// Matches no object: what a missing LabelSelector means.
    pub fn nothing() -> LabelSelector {
        LabelSelector { requirements: Vec::new(), nothing: true }
    }

    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    fn new(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector { requirements, nothing: false }
    }

    /// Parses the query syntax of `?labelSelector=` and `kubectl -l`.
    ///
    /// # Errors
    /// In Kubernetes' words, for texts that are malformed or name impossible labels.
    pub fn parse(text: &str) -> Result<LabelSelector, LabelSelectorError> {
        if text.len() > SELECTOR_MAX_BYTES {
            return Err(LabelSelectorError::TooLong);
        }
        Parser { tokens: lex(text), at: 0 }.parse().map(LabelSelector::new)
    }

    /// Every label of `labels`, with its value: the selectors of Services and ReplicationControllers.
    pub fn from_map(labels: &Map<String, Value>) -> LabelSelector {
        let equals = |(key, value): (&String, &Value)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.as_str().unwrap_or_default().to_owned()],
        };
        LabelSelector::new(labels.iter().map(equals).collect())
    }

    /// Reads a `metav1.LabelSelector`; a missing one matches nothing, an empty one everything.
    ///
    /// # Errors
    /// For an unknown operator or values that do not fit it.
    pub fn from_object(selector: Option<&Value>) -> Result<LabelSelector, LabelSelectorError> {
        let Some(selector) = selector.filter(|s| !s.is_null()) else { return Ok(LabelSelector::nothing()) };
        let mut requirements = match object::map(selector, &["matchLabels"]) {
            Some(labels) => LabelSelector::from_map(labels).requirements,
            None => Vec::new(),
        };
        for expression in object::list(selector, &["matchExpressions"]) {
            let operator = match object::text(expression, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(LabelSelectorError::Syntax(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = object::list(expression, &["values"]).iter().filter_map(Value::as_str).map(str::to_owned);
            let key = object::text(expression, &["key"]).to_owned();
            requirements.push(requirement(key, operator, values.collect()).map_err(LabelSelectorError::Syntax)?);
        }
        Ok(LabelSelector::new(requirements))
    }

    /// Whether labels fulfil every requirement; `value_of` looks one up by its key.
    pub fn matches_with<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(value_of(&r.key)))
    }

    /// Whether these labels fulfil every requirement.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_with(|key| labels?.get(key)?.as_str())
    }

    /// Whether the object's `metadata.labels` fulfil every requirement.
    pub fn matches_object(&self, object: &Value) -> bool {
        self.matches(object::map(object, &["metadata", "labels"]))
    }
}

impl Requirement {
    /// Whether a label with this value (or a missing one) fulfils the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|w| w == v);
        let bound = || self.values.first().and_then(|v| v.parse::<i64>().ok());
        match self.operator {
            Operator::In | Operator::Equals => value.is_some_and(listed),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let Some((value, bound)) = value.and_then(|v| v.parse::<i64>().ok()).zip(bound()) else { return false };
                if self.operator == Operator::GreaterThan { value > bound } else { value < bound }
            }
        }
    }
}

/// Checks and builds a requirement; the error is one text.
fn requirement(key: String, operator: Operator, mut values: Vec<String>) -> Result<Requirement, String> {
    let mut errors = Vec::new();
    key_errors(&key, &mut errors);
    let path = FieldPath::new("values");
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            errors.push(FieldError::invalid(
                &path,
                Value::Array(Vec::new()),
                "for 'in', 'notin' operators, values set can't be empty",
            ));
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            errors.push(FieldError::invalid(
                &path,
                values.clone(),
                "values set must be empty for exists and does not exist",
            ));
        }
        Operator::GreaterThan | Operator::LessThan if values.iter().any(|v| v.parse::<i64>().is_err()) => {
            errors.push(FieldError::invalid(
                &path.index(0),
                values.first().cloned().unwrap_or_default(),
                "for 'Gt', 'Lt' operators, the value must be an integer",
            ));
        }
        _ => {}
    }
    for (i, value) in values.iter().enumerate() {
        let at = path.index(i);
        errors.extend(
            names::label_value(value)
                .into_iter()
                .map(|wrong| FieldError::invalid(&at.key(&key), value.as_str(), wrong)),
        );
    }
    if !errors.is_empty() {
        return Err(join(&errors));
    }
    values.sort();
    values.dedup();
    Ok(Requirement { key, operator, values })
}

fn key_errors(key: &str, errors: &mut Vec<FieldError>) {
    let path = FieldPath::new("key");
    errors.extend(names::qualified_name(key).into_iter().map(|wrong| FieldError::invalid(&path, key, wrong)));
}

/// Several errors as one text, bracketed as Go's aggregates are.
fn join(errors: &[FieldError]) -> String {
    match errors {
        [one] => one.to_string(),
        many => format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

impl fmt::Display for LabelSelector {
    /// The query syntax, as `FormatLabels` and `Scale.status.selector` show it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requirement { key, operator, values } = self;
        let all = values.join(",");
        match operator {
            Operator::In => write!(f, "{key} in ({all})"),
            Operator::NotIn => write!(f, "{key} notin ({all})"),
            Operator::Equals => write!(f, "{key}={all}"),
            Operator::NotEquals => write!(f, "{key}!={all}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{all}"),
            Operator::LessThan => write!(f, "{key}<{all}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Word(&'a str),
    Symbol(&'a str),
}

impl<'a> Token<'a> {
    fn literal(self) -> &'a str {
        match self {
            Token::End => "",
            Token::Word(text) | Token::Symbol(text) => text,
        }
    }
}

fn lex(text: &str) -> Vec<Token<'_>> {
    const SPECIAL: &[u8] = b"=!(),><";
    let bytes = text.as_bytes();
    let is_space = |b: u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b if is_space(b) => at += 1,
            b if SPECIAL.contains(&b) => {
                at += if matches!(&bytes[at..(at + 2).min(bytes.len())], b"==" | b"!=") { 2 } else { 1 };
                tokens.push(Token::Symbol(&text[start..at]));
            }
            _ => {
                while at < bytes.len() && !is_space(bytes[at]) && !SPECIAL.contains(&bytes[at]) {
                    at += 1;
                }
                tokens.push(Token::Word(&text[start..at]));
            }
        }
    }
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn parse(mut self) -> Result<Vec<Requirement>, LabelSelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Symbol("!") => {
                    requirements.push(self.requirement().map_err(LabelSelectorError::Requirement)?);
                }
                Token::End => return Ok(requirements),
                token => return Err(found(token, "!, identifier, or 'end of string'")),
            }
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Symbol(",") => {
                    if !matches!(self.peek(), Token::Word(_) | Token::Symbol("!")) {
                        return Err(found(self.peek(), "identifier after ','"));
                    }
                }
                token => return Err(found(token, "',' or 'end of string'")),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut first = self.next();
        let absent = first == Token::Symbol("!");
        if absent {
            first = self.next();
        }
        let Token::Word(key) = first else { return Err(expected(first, "identifier")) };
        let mut errors = Vec::new();
        key_errors(key, &mut errors);
        if !errors.is_empty() {
            return Err(join(&errors));
        }
        if absent {
            return requirement(key.to_owned(), Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return requirement(key.to_owned(), Operator::Exists, Vec::new());
        }
        let operator = match self.next() {
            Token::Word("in") => Operator::In,
            Token::Word("notin") => Operator::NotIn,
            Token::Symbol("=" | "==") => Operator::Equals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            token => return Err(expected(token, "in, notin, =, ==, !=, gt, lt")),
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        requirement(key.to_owned(), operator, values)
    }

    fn exact_value(&mut self) -> Result<String, String> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(value) => {
                self.at += 1;
                Ok(value.to_owned())
            }
            token => Err(expected(token, "identifier")),
        }
    }

    /// `(a,b)`; a missing value counts as the empty one, as in `(,)`.
    fn values(&mut self) -> Result<Vec<String>, String> {
        match self.next() {
            Token::Symbol("(") => {}
            token => return Err(format!("found '{}', expected: '('", token.literal())),
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(value) => {
                    values.push(value.to_owned());
                    match self.next() {
                        Token::Symbol(",") if self.peek() == Token::Symbol(")") => values.push(String::new()),
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => return Ok(values),
                        token => return Err(expected(token, "',' or ')'")),
                    }
                }
                Token::Symbol(",") => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    if matches!(self.peek(), Token::Symbol("," | ")")) {
                        values.push(String::new());
                    }
                }
                Token::Symbol(")") => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                token => return Err(expected(token, "',', ')' or identifier")),
            }
        }
    }
}

fn expected(token: Token, what: &str) -> String {
    format!("found '{}', expected: {what}", token.literal())
}

fn found(token: Token, what: &str) -> LabelSelectorError {
    LabelSelectorError::Syntax(expected(token, what))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(text: &str) -> String {
        LabelSelector::parse(text).map_or_else(|e| format!("error: {e}"), |s| s.to_string())
    }

    #[test]
    fn the_query_syntax() {
        let cases = [
            "",
            "x=a,y=b",
            "z in (c,b), !d",
            "e != f,g==h",
            "a,b notin (x)",
            "n>5,m<3",
            "a=",
            "x in ()",
            "x in (a,)",
            ",a",
            "a,",
            "a b",
            "a in x",
            "a in (b",
            "!",
            "a$=b",
            "a=b$",
            "a=b=c",
            "n>x",
        ];
        let shown: Vec<String> = cases.iter().map(|c| format!("{c:?} -> {}", check(c))).collect();
        expect![[r#"
            "" -> 
            "x=a,y=b" -> x=a,y=b
            "z in (c,b), !d" -> !d,z in (b,c)
            "e != f,g==h" -> e!=f,g=h
            "a,b notin (x)" -> a,b notin (x)
            "n>5,m<3" -> m<3,n>5
            "a=" -> a=
            "x in ()" -> x in ()
            "x in (a,)" -> x in (,a)
            ",a" -> error: found ',', expected: !, identifier, or 'end of string'
            "a," -> error: found '', expected: identifier after ','
            "a b" -> error: unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt
            "a in x" -> error: unable to parse requirement: found 'x', expected: '('
            "a in (b" -> error: unable to parse requirement: found '', expected: ',' or ')'
            "!" -> error: unable to parse requirement: found '', expected: identifier
            "a$=b" -> error: unable to parse requirement: key: Invalid value: "a$": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
            "a=b$" -> error: unable to parse requirement: values[0][a]: Invalid value: "b$": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            "a=b=c" -> error: found '=', expected: ',' or 'end of string'
            "n>x" -> error: unable to parse requirement: values[0]: Invalid value: "x": for 'Gt', 'Lt' operators, the value must be an integer"#]]
        .assert_eq(&shown.join("\n"));
    }

    #[test]
    fn matching() {
        let labels = json!({"app": "web", "tier": "front", "n": "7"});
        let labels = labels.as_object();
        for yes in [
            "",
            "app",
            "app=web",
            "app!=db",
            "other!=x",
            "!other",
            "tier in (front,back)",
            "other notin (a)",
            "n>6",
            "n<8",
        ] {
            assert!(LabelSelector::parse(yes).unwrap().matches(labels), "{yes}");
        }
        for no in ["app=db", "!app", "other", "tier notin (front)", "n>7", "app>1", "other=x"] {
            assert!(!LabelSelector::parse(no).unwrap().matches(labels), "{no}");
        }
        assert!(!LabelSelector::from_object(None).unwrap().matches(labels));
        assert!(LabelSelector::from_object(Some(&json!({}))).unwrap().matches(labels));
        let both = json!({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "n", "operator": "Exists"}]});
        assert!(LabelSelector::from_object(Some(&both)).unwrap().matches(labels));
        let wrong = json!({"matchExpressions": [{"key": "n", "operator": "Maybe"}]});
        assert!(LabelSelector::from_object(Some(&wrong)).is_err());
    }

    proptest! {
        #[test]
        fn the_shown_form_means_the_same(text in "[ab]{1,2}( in \\([xy](,[xy])?\\)|=[xy]| notin \\([xy]\\)|!=[xy]|)") {
            let selector = LabelSelector::parse(&text).unwrap();
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()).unwrap(), selector);
        }

        #[test]
        fn parsing_never_panics(text in "[ab=!(),<> ni$é]{0,20}") {
            let _ = LabelSelector::parse(&text);
        }
    }
}
