//! Selectors: what is parsed is written so that it is parsed the same, and matches what its parts match.

use k8w_kinds::selector::{FieldSelector, LabelSelector, Operator, Requirement};

/// See the module.
pub fn check(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    if let Ok(selector) = LabelSelector::parse(input) {
        let written = selector.to_string();
        // Exactly one empty value is the only thing that has no spelling of its own.
        assert_eq!(LabelSelector::parse(&written).as_ref(), Ok(&selector), "{written}");
        let values = selector.requirements().iter().flat_map(|requirement| &requirement.values);
        for value in values.map(|value| Some(value.as_str())).chain([None, Some("1")]) {
            let expected = selector.requirements().iter().all(|requirement| means(requirement, value));
            assert_eq!(selector.matches_with(|_| value), expected, "{selector} {value:?}");
        }
    }
    if let Ok(selector) = FieldSelector::parse(input) {
        let escape = |value: &str| value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        let terms = selector
            .terms()
            .iter()
            .map(|term| format!("{}{}{}", term.field, if term.equal { "=" } else { "!=" }, escape(&term.value)));
        let written = terms.collect::<Vec<_>>().join(",");
        assert_eq!(FieldSelector::parse(&written).as_ref(), Ok(&selector), "{written}");
        for value in selector.terms().iter().map(|term| term.value.as_str()).chain(["", "x"]) {
            let expected = selector.terms().iter().all(|term| (term.value == value) == term.equal);
            assert_eq!(selector.matches_with(|_| Some(value)), expected, "{written} {value:?}");
        }
    }
}

/// What the documentation says that a requirement asks of a label.
fn means(requirement: &Requirement, label: Option<&str>) -> bool {
    let among = || requirement.values.iter().any(|value| Some(value.as_str()) == label);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = number(requirement.values.first().map(String::as_str));
    match requirement.operator {
        Operator::In | Operator::Equals => among(),
        Operator::NotIn | Operator::NotEquals => !among(),
        Operator::Exists => label.is_some(),
        Operator::DoesNotExist => label.is_none(),
        Operator::GreaterThan => number(label).zip(bound).is_some_and(|(label, bound)| label > bound),
        Operator::LessThan => number(label).zip(bound).is_some_and(|(label, bound)| label < bound),
    }
}
