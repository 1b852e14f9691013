//! Validating a custom object's values against its schema, in apiextensions' words
//! (`k8s.io/kube-openapi/pkg/validation/validate`).

use std::collections::HashSet;

use serde_json::{Number, Value};

use super::super::go::go_float;
use super::super::shape::{Node, Scalar, Shape};
use super::correlate::{self, Items};
use super::rules::{Kind, Limit, Numeric, Rules};
use crate::field::{FieldError, FieldPath};

/// The largest number of which every smaller one is a different whole number in JSON.
const MAX_SAFE_INTEGER: f64 = 9_007_199_254_740_991.0;
/// What divides without a rest may miss by this much.
const EPSILON: f64 = 1e-9;
/// In the place of a path, where Kubernetes names the place in the message alone.
const NOWHERE: &str = "<nil>";

/// Everything that is wrong with a value, in the order of its members. What is as it was in `old` is let be. Messages name
/// places within the value; `at` is where the value itself stands.
pub(super) fn validate(node: &Node, value: &Value, old: Option<&Value>, at: &FieldPath) -> Vec<FieldError> {
    let mut outcome = Outcome::default();
    walk(node, value, old, &FieldPath::ROOT, &mut outcome);
    let mut errors = outcome.errors;
    let prefix = at.to_string();
    for error in &mut errors {
        let below = error.field.strip_prefix('.').unwrap_or(&error.field);
        error.field = match (prefix.as_str(), below) {
            ("", "") => NOWHERE.to_owned(),
            ("", below) => below.to_owned(),
            (prefix, "" | NOWHERE) => prefix.to_owned(),
            (prefix, below) => format!("{prefix}.{below}"),
        };
    }
    errors
}

/// What was found, and how much of a schema was found to say anything about the value: of alternatives that all fail, the one
/// that says most is told.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    matches: usize,
    /// What was told already, once something could be told twice.
    told: Option<HashSet<String>>,
}

impl Outcome {
    fn add(&mut self, error: FieldError) {
        if let Some(told) = &mut self.told
            && !told.insert(error.to_string())
        {
            return;
        }
        self.errors.push(error);
    }

    /// Of what several schemas say about one value, the same is told once.
    fn merge(&mut self, other: Outcome) {
        self.matches += other.matches;
        if self.told.is_none() && !other.errors.is_empty() {
            self.told = Some(self.errors.iter().map(ToString::to_string).collect());
        }
        other.errors.into_iter().for_each(|error| self.add(error));
    }

    /// A message that Kubernetes does not tell of a field.
    fn add_message(&mut self, message: String) {
        let error = FieldError::invalid(&FieldPath::ROOT, "", message);
        self.add(FieldError { field: NOWHERE.to_owned(), ..error });
    }
}

fn walk(node: &Node, value: &Value, old: Option<&Value>, path: &FieldPath, out: &mut Outcome) {
    if old.is_some_and(|old| correlate::same(node, value, old)) {
        return;
    }
    let rules = node.rules.as_deref();
    let format = rules.and_then(|rules| rules.format.as_deref());
    let expected = type_of_shape(&node.shape).or_else(|| Some(rules?.kind?.name()));
    if value.is_null() {
        if !node.nullable {
            check_type(expected, format, value, path, out);
        }
        rules.iter().for_each(|rules| check_enumeration(rules, value, path, out));
        return;
    }
    check_type(expected, format, value, path, out);
    if let Some(rules) = rules {
        combined(rules, value, path, out);
        check_text(rules, value, path, out);
    }
    if let Value::Number(number) = value {
        let numeric = rules.map_or(Numeric::Any, |rules| rules.numeric);
        let numeric = match &node.shape {
            Shape::Scalar(Scalar::Int64) if numeric == Numeric::Any => Numeric::Integer,
            _ => numeric,
        };
        check_number(rules, numeric, number, path, out);
    }
    if let (Shape::List(list), Value::Array(items)) = (&node.shape, value) {
        let before = Items::of(list, old);
        for (i, item) in items.iter().enumerate() {
            walk(&list.item, item, before.get(item), &path.index(i), out);
        }
    }
    if let Some(rules) = rules {
        check_length(rules, value, path, out);
        check_enumeration(rules, value, path, out);
        check_size(rules, value, path, out);
    }
    match (&node.shape, value) {
        (Shape::Object(object), Value::Object(members)) => {
            for (name, member) in members {
                if let Some(field) = object.field(name) {
                    // An object is converted to the version that is written: what it was before cannot be seen.
                    let is_type = path.is_root() && matches!(name.as_str(), "apiVersion" | "kind");
                    let old = old.filter(|_| !is_type).and_then(|old| old.get(name));
                    walk(&field.node, member, old, &path.child(name), out);
                }
            }
        }
        (Shape::Map(map), Value::Object(members)) => {
            for (name, member) in members {
                let old = old.and_then(|old| old.get(name));
                below(path, name, |path| walk(&map.value, member, old, path, out));
            }
        }
        _ => {}
    }
    rules.iter().for_each(|rules| check_required(rules, value, path, out));
}

/// A member of a map. Kubernetes writes a dot before the name also where nothing stands before it.
fn below(path: &FieldPath, name: &str, check: impl FnOnce(&FieldPath)) {
    if path.is_root() {
        check(&FieldPath::new(&format!(".{name}")));
    } else {
        check(&path.child(name));
    }
}

/// The type of a schema's values; none where it takes any.
fn type_of_shape(shape: &Shape) -> Option<&'static str> {
    match shape {
        Shape::Scalar(Scalar::String) => Some("string"),
        Shape::Scalar(Scalar::Int64) => Some("integer"),
        Shape::Scalar(Scalar::Number) => Some("number"),
        Shape::Scalar(Scalar::Bool) => Some("boolean"),
        Shape::Scalar(Scalar::IntOrString) => Some("integer,string"),
        Shape::List(_) => Some("array"),
        Shape::Map(_) | Shape::Object(_) => Some("object"),
        // What is built in was checked when it was decoded.
        Shape::Scalar(_) | Shape::Any | Shape::Named(_) => None,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.as_i64().is_none() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Go's own format of a value, which is shown where a format was expected.
fn format_of(value: &Value) -> &'static str {
    match value {
        Value::Number(n) if n.as_i64().is_none() => "float64",
        Value::Number(_) => "int64",
        _ => "",
    }
}

fn check_type(
    expected: Option<&str>,
    format: Option<&str>,
    value: &Value,
    path: &FieldPath,
    out: &mut Outcome,
) -> bool {
    let Some(expected) = expected else { return true };
    let found = type_of(value);
    let wants = |kind: &str| expected.split(',').any(|expected| expected == kind);
    let fits = wants(found)
        || found == "integer" && wants("number")
        || found == "number" && wants("integer") && value.as_f64().is_some_and(is_whole);
    if fits {
        return true;
    }
    let (expected, found) = match format {
        Some(format) if !matches!(value, Value::String(_) | Value::Array(_) | Value::Null) => {
            (format, format_of(value))
        }
        _ => (expected, found),
    };
    out.add(FieldError::type_invalid(path, found, format!("{path} in body must be of type {expected}: {found:?}")));
    false
}

/// Whether a number is a whole one, as nearly as JSON's numbers can tell.
fn is_whole(number: f64) -> bool {
    if !(-MAX_SAFE_INTEGER..=MAX_SAFE_INTEGER).contains(&number) {
        return false;
    }
    let nearest = number.trunc();
    if number == nearest {
        return true;
    }
    let sum = number.abs() + nearest.abs();
    nearest != 0.0 && (number - nearest).abs() / sum < EPSILON
}

/// Checks one value against the rules of a schema within the combining keywords, and also what lies below.
fn check(rules: &Rules, value: &Value, path: &FieldPath) -> Outcome {
    let mut out = Outcome::default();
    let expected = rules.kind.map(Kind::name);
    let has_type = expected.is_some() || rules.format.is_some();
    let fits = check_type(expected, rules.format.as_deref(), value, path, &mut out);
    out.matches += usize::from(has_type) + usize::from(has_type && fits);
    if value.is_null() {
        check_enumeration(rules, value, path, &mut out);
        return out;
    }
    combined(rules, value, path, &mut out);
    check_text(rules, value, path, &mut out);
    out.matches += 2 + match value {
        Value::String(_) => 1 + usize::from(rules.text_format.is_some()),
        Value::Number(_) | Value::Array(_) => 2,
        Value::Object(_) => 1,
        _ => 0,
    };
    match value {
        Value::Number(number) => check_number(Some(rules), rules.numeric, number, path, &mut out),
        Value::Array(list) => {
            if let Some(rules) = &rules.items {
                list.iter().enumerate().for_each(|(i, item)| out.merge(check(rules, item, &path.index(i))));
            }
        }
        _ => {}
    }
    check_length(rules, value, path, &mut out);
    check_enumeration(rules, value, path, &mut out);
    check_size(rules, value, path, &mut out);
    if let Value::Object(members) = value {
        let own = |name: &str| rules.properties.iter().find(|(known, _)| **known == *name);
        if let Some(additional) = &rules.additional {
            for (name, member) in members.iter().filter(|(name, _)| own(name).is_none()) {
                below(path, name, |path| out.merge(check(additional, member, path)));
            }
        }
        for (name, rules) in &rules.properties {
            if let Some(member) = members.get(&**name) {
                out.merge(check(rules, member, &path.child(name)));
            }
        }
    }
    check_required(rules, value, path, &mut out);
    out
}

fn combined(rules: &Rules, value: &Value, path: &FieldPath, out: &mut Outcome) {
    out.matches += 2;
    let place = format!("\"{path}\"");
    let outcomes = |rules: &[Rules]| rules.iter().map(|rules| check(rules, value, path)).collect::<Vec<_>>();
    if !rules.any_of.is_empty() {
        let mut outcomes = outcomes(&rules.any_of);
        match outcomes.iter().position(|outcome| outcome.errors.is_empty()) {
            Some(first) => out.merge(outcomes.swap_remove(first)),
            None => {
                out.add_message(format!("{place} must validate at least one schema (anyOf)"));
                best(outcomes).into_iter().for_each(|outcome| out.merge(outcome));
            }
        }
    }
    if !rules.one_of.is_empty() {
        let outcomes = outcomes(&rules.one_of);
        let mut failed = |found: &str| {
            out.add_message(format!("{place} must validate one and only one schema (oneOf). Found {found}"));
        };
        let told = match outcomes.iter().filter(|outcome| outcome.errors.is_empty()).count() {
            0 => {
                failed("none valid");
                best(outcomes)
            }
            1 => outcomes.into_iter().find(|outcome| outcome.errors.is_empty()),
            several => {
                failed(&format!("{several} valid alternatives"));
                None
            }
        };
        told.into_iter().for_each(|outcome| out.merge(outcome));
    }
    if !rules.all_of.is_empty() {
        let outcomes = outcomes(&rules.all_of);
        let valid = outcomes.iter().filter(|outcome| outcome.errors.is_empty()).count();
        let all = outcomes.len();
        outcomes.into_iter().for_each(|outcome| out.merge(outcome));
        if valid != all {
            let none = if valid == 0 { ". None validated" } else { "" };
            out.add_message(format!("{place} must validate all the schemas (allOf){none}"));
        }
    }
    if rules.not.as_ref().is_some_and(|rules| check(rules, value, path).errors.is_empty()) {
        out.add_message(format!("{place} must not validate the schema (not)"));
    }
}

/// Of several alternatives that all fail, the first of those that say most.
fn best(outcomes: Vec<Outcome>) -> Option<Outcome> {
    outcomes.into_iter().reduce(|best, next| if next.matches > best.matches { next } else { best })
}

/// Of length and pattern, the first that does not fit is told.
fn check_text(rules: &Rules, value: &Value, path: &FieldPath, out: &mut Outcome) {
    let Value::String(text) = value else { return };
    let invalid = |detail: String| FieldError::invalid(path, text.as_str(), format!("{path} in body {detail}"));
    let length = text.chars().count() as u64;
    if let Some(max) = rules.max_length.filter(|max| length > *max) {
        out.add(FieldError::too_long(path, usize::try_from(max).unwrap_or(usize::MAX)));
    } else if let Some(min) = rules.min_length.filter(|min| length < *min) {
        out.add(invalid(format!("should be at least {min} chars long")));
    } else if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        out.add(invalid(format!("should match '{}'", pattern.as_str())));
    }
    if rules.text_format.is_some_and(|format| !format.fits(text)) {
        let name = rules.format.as_deref().unwrap_or_default();
        let detail = format!("{path} in body must be of type {name}: {text:?}");
        out.add(FieldError::type_invalid(path, text.as_str(), detail));
    }
}

fn check_number(rules: Option<&Rules>, numeric: Numeric, number: &Number, path: &FieldPath, out: &mut Outcome) {
    let value = number.as_f64().unwrap_or_default();
    let mut in_range = |what: &str, fits: bool| {
        if !fits {
            out.add_message(format!("{what} must be of type {} in {path}", numeric.words()));
        }
        fits
    };
    let whole = number.as_i64();
    in_range("Checked value", whole.map_or_else(|| numeric.takes(value), |whole| numeric.takes_whole(whole)));
    let Some(rules) = rules else { return };
    // A whole number is compared with whole numbers, where the limit is of the type.
    let mut natively = |what: &str, limit: f64| whole.filter(|_| in_range(what, numeric.takes(limit)));
    let shown = |limit: f64, natively: bool| if natively { (limit as i64).to_string() } else { go_float(limit) };
    let mut wrong = Vec::new();
    if let Some(factor) = rules.multiple_of {
        let whole = natively("MultipleOf value", factor);
        let shown = shown(factor, whole.is_some());
        let fits = match whole {
            Some(_) if factor < 1.0 => None,
            Some(whole) => Some(whole % (factor as i64) == 0),
            None if factor <= 0.0 => None,
            None if factor < 1.0 => Some(is_whole(1.0 / factor * value)),
            None => Some(is_whole(value / factor)),
        };
        match fits {
            Some(true) => {}
            Some(false) => wrong.push((None, format!("{path} in body should be a multiple of {shown}"))),
            None => {
                let detail = format!("factor MultipleOf declared for {path} must be positive: {shown}");
                wrong.push((Some(if whole.is_some() { (factor as i64).into() } else { factor.into() }), detail));
            }
        }
    }
    for (what, limit, words) in
        [("Minimum boundary value", rules.minimum, "greater"), ("Maximum boundary value", rules.maximum, "less")]
    {
        let Some(Limit { value: limit, exclusive }) = limit else { continue };
        let whole = natively(what, limit);
        let order = match whole {
            Some(whole) => whole.partial_cmp(&(limit as i64)),
            None => value.partial_cmp(&limit),
        };
        let beyond = if words == "less" { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less };
        if order == Some(beyond) || (exclusive && order == Some(std::cmp::Ordering::Equal)) {
            let equal = if exclusive { "" } else { "or equal to " };
            let shown = shown(limit, whole.is_some());
            wrong.push((None, format!("{path} in body should be {words} than {equal}{shown}")));
        }
    }
    for (bad, detail) in wrong {
        out.add(FieldError::invalid(path, bad.unwrap_or_else(|| Value::Number(number.clone())), detail));
    }
}

impl Numeric {
    fn words(self) -> &'static str {
        match self {
            Numeric::Any | Numeric::Integer => "integer (default format)",
            Numeric::Int32 => "integer with format int32",
            Numeric::Int64 => "integer with format int64",
            Numeric::Number => "number (default format)",
            Numeric::Float => "number with format float",
            Numeric::Double => "number with format double",
        }
    }

    fn takes_whole(self, number: i64) -> bool {
        self != Numeric::Int32 || i32::try_from(number).is_ok()
    }

    fn takes(self, number: f64) -> bool {
        match self {
            Numeric::Any | Numeric::Number | Numeric::Double => true,
            Numeric::Float => number.abs() <= f64::from(f32::MAX),
            Numeric::Integer | Numeric::Int64 => {
                number.fract() == 0.0 && (-(2f64.powi(63))..2f64.powi(63)).contains(&number)
            }
            Numeric::Int32 => number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number),
        }
    }
}

fn check_length(rules: &Rules, value: &Value, path: &FieldPath, out: &mut Outcome) {
    let Value::Array(items) = value else { return };
    let count = items.len();
    if let Some(min) = rules.min_items.filter(|min| (count as u64) < *min) {
        let detail = format!("{path} in body should have at least {min} items");
        out.add(FieldError::invalid(path, count, detail));
    }
    if let Some(max) = rules.max_items.filter(|max| count as u64 > *max) {
        out.add(FieldError::too_many(path, count, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if rules.unique_items {
        let mut seen = HashSet::new();
        if !items.iter().all(|item| seen.insert(item)) {
            out.add(FieldError::invalid(path, "", format!("{path} in body shouldn't contain duplicates")));
        }
    }
}

fn check_enumeration(rules: &Rules, value: &Value, path: &FieldPath, out: &mut Outcome) {
    let same = |allowed: &Value| match (allowed, value) {
        // Null is never one of the values, even where it is among them.
        (_, Value::Null) => false,
        (Value::Number(a), Value::Number(b)) => a == b || (a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64()),
        (allowed, value) => allowed == value,
    };
    if rules.enumeration.is_empty() || rules.enumeration.iter().any(same) {
        return;
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let supported: Vec<String> = rules.enumeration.iter().map(text).collect();
    let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
    let error = FieldError::not_supported(path, value.clone(), &supported);
    out.add(FieldError { bad_value: error.bad_value.filter(|value| !value.is_null()), ..error });
}

fn check_size(rules: &Rules, value: &Value, path: &FieldPath, out: &mut Outcome) {
    let Value::Object(members) = value else { return };
    let count = members.len();
    if let Some(min) = rules.min_properties.filter(|min| (count as u64) < *min) {
        let detail = format!("{path} in body should have at least {min} properties");
        out.add(FieldError::invalid(path, count, detail));
    }
    if let Some(max) = rules.max_properties.filter(|max| count as u64 > *max) {
        out.add(FieldError::too_many(path, count, usize::try_from(max).unwrap_or(usize::MAX)));
    }
    if let Some(known) = &rules.known {
        for name in members.keys().filter(|name| known.iter().all(|known| **known != **name)) {
            let detail = format!("{path}.{name} in body is a forbidden property");
            out.add(FieldError::invalid(path, name.as_str(), detail));
        }
    }
}

fn check_required(rules: &Rules, value: &Value, path: &FieldPath, out: &mut Outcome) {
    let Value::Object(members) = value else { return };
    for name in rules.required.iter().filter(|name| !members.contains_key(&***name)) {
        out.add(FieldError::required(&path.child(name), ""));
    }
}
