//! Field selectors: `spec.nodeName=a,status.phase!=Running`.

use serde_json::Value;

use crate::kind::KindDef;

/// Why a text is no field selector for a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Syntax { selector: String, term: String },
    #[error("invalid field selector: unescaped character in value: {0}")]
    Unescaped(char),
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A kind with fields of its own does not know this one.
    #[error("field label not supported: {0}")]
    NotSupported(String),
    /// A kind without fields of its own.
    #[error("{0:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")]
    NotKnown(String),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    pub value: String,
    pub equal: bool,
}

/// Which objects are meant, by the values of their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Parses the syntax of `?fieldSelector=`: `=`, `==` and `!=`; `\` escapes `,`, `=` and itself in values.
    ///
    /// # Errors
    /// For a malformed text.
    pub fn parse(text: &str) -> Result<FieldSelector, FieldSelectorError> {
        let terms = split_terms(text).into_iter().filter(|t| !t.is_empty());
        let terms = terms.map(|term| parse_term(text, term)).collect::<Result<_, _>>()?;
        Ok(FieldSelector { terms })
    }

    /// Those whose `field` has this value.
    pub fn of_value(field: &str, value: &str) -> FieldSelector {
        FieldSelector { terms: vec![FieldTerm { field: field.to_owned(), value: value.to_owned(), equal: true }] }
    }

    /// The selector of these comparisons.
    pub fn of(terms: Vec<FieldTerm>) -> FieldSelector {
        FieldSelector { terms }
    }

    /// Refuses fields that the kind cannot be selected by.
    ///
    /// # Errors
    /// Names the first such field, in Kubernetes' words.
    pub fn check(&self, kind: &KindDef) -> Result<(), FieldSelectorError> {
        match self.terms.iter().find(|t| !kind.is_selectable(&t.field)) {
            None => Ok(()),
            Some(t) if kind.selectable_fields.is_empty() => Err(FieldSelectorError::NotKnown(t.field.clone())),
            Some(t) => Err(FieldSelectorError::NotSupported(t.field.clone())),
        }
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn terms(&self) -> &[FieldTerm] {
        &self.terms
    }

    /// The value that `field` must have, where the selector says so: lets a list become a get, or a watch use an index.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equal && t.field == field).map(|t| t.value.as_str())
    }

    /// Whether an object fulfils every comparison; `value_of` looks a field up by its path. What it does not know
    /// compares as `""`.
    pub fn matches_with<'v>(&self, value_of: impl Fn(&str) -> Option<&'v str>) -> bool {
        self.terms.iter().all(|t| (value_of(&t.field).unwrap_or_default() == t.value) == t.equal)
    }

    /// Whether the object fulfils every comparison.
    pub fn matches(&self, kind: &KindDef, object: &Value) -> bool {
        self.terms.iter().all(|t| (kind.select(&t.field, object).unwrap_or_default() == t.value) == t.equal)
    }
}

/// Splits at commas that are not escaped.
fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn parse_term(selector: &str, term: &str) -> Result<FieldTerm, FieldSelectorError> {
    let understood = term.find(['=', '!']).and_then(|at| {
        let (field, rest) = term.split_at(at);
        let (equal, value) = match rest.strip_prefix("!=") {
            Some(value) => (false, value),
            None => (true, rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?),
        };
        (!field.is_empty()).then_some((field, equal, value))
    });
    let Some((field, equal, value)) = understood else {
        return Err(FieldSelectorError::Syntax { selector: selector.to_owned(), term: term.to_owned() });
    };
    Ok(FieldTerm { field: field.to_owned(), value: unescape(value)?, equal })
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                Some(c) => return Err(FieldSelectorError::Escape(format!("\\{c}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            c => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::registry;

    #[test]
    fn pods_by_their_fields() {
        let pods = registry::by_resource("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "a", "namespace": "n"}, "spec": {"nodeName": "x"}});
        for (text, expected) in [
            ("", true),
            ("spec.nodeName=x", true),
            ("spec.nodeName==x,metadata.name!=b", true),
            ("status.phase=Running", false),
            ("spec.hostNetwork=false", true),
            ("metadata.namespace=other", false),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            assert_eq!(selector.check(pods), Ok(()));
            assert_eq!(selector.matches(pods, &pod), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_field_selector() {
        let pods = registry::by_resource("", "v1", "pods").unwrap();
        let roles = registry::by_resource("rbac.authorization.k8s.io", "v1", "roles").unwrap();
        let shown = [
            FieldSelector::parse("a,b=c").unwrap_err(),
            FieldSelector::parse("a=b=c").unwrap_err(),
            FieldSelector::parse("a=b\\c").unwrap_err(),
            FieldSelector::parse("spec.foo=c").unwrap().check(pods).unwrap_err(),
            FieldSelector::parse("spec.foo=c").unwrap().check(roles).unwrap_err(),
        ]
        .map(|e| e.to_string());
        expect_test::expect![[r#"
            invalid selector: 'a,b=c'; can't understand 'a'
            invalid field selector: unescaped character in value: =
            invalid field selector: invalid escape sequence: \c
            field label not supported: spec.foo
            "spec.foo" is not a known field selector: only "metadata.name", "metadata.namespace""#]]
        .assert_eq(&shown.join("\n"));
        assert_eq!(FieldSelector::parse("a=b\\,c").unwrap().required_value("a"), Some("b,c"));
    }
}
