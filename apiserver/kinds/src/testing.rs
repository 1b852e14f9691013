//! What tests of kinds share: YAML in, snapshot out.

use expect_test::Expect;
use serde_json::Value;

use crate::field::FieldError;
use crate::kind::{CellContext, KindDef};
use crate::{metadata, registry};

/// The kind with this plural (the first of the table).
pub fn kind(plural: &str) -> &'static KindDef {
    registry::all().iter().find(|k| k.plural == plural).unwrap()
}

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn defaulted(kind: &KindDef, text: &str) -> Value {
    let mut object = yaml(text);
    kind.schema().default(&mut object);
    kind.strategy.default(&mut object);
    object
}

fn shown(errors: Vec<FieldError>) -> String {
    errors.iter().map(|e| format!("{e}\n")).collect()
}

/// Compares an object after defaulting.
pub fn check_default(plural: &str, text: &str, expected: Expect) {
    let object = defaulted(kind(plural), text);
    expected.assert_eq(&serde_saphyr::to_string(&object).unwrap());
}

/// Compares what validation says of a new object, after defaulting.
pub fn check(plural: &str, text: &str, expected: Expect) {
    expected.assert_eq(&made(plural, text));
}

/// What validation says of a new object, after defaulting.
pub fn made(plural: &str, text: &str) -> String {
    let kind = kind(plural);
    let mut object = defaulted(kind, text);
    kind.strategy.prepare_for_create(&mut object);
    let mut errors = metadata::validate(kind, &object);
    errors.extend(kind.strategy.validate(&object));
    shown(errors)
}

/// Compares what validation says of an update, after defaulting both.
pub fn check_update(plural: &str, old: &str, new: &str, expected: Expect) {
    expected.assert_eq(&updated(plural, old, new));
}

/// What validation says of an update, after defaulting both.
pub fn updated(plural: &str, old: &str, new: &str) -> String {
    let kind = kind(plural);
    let (old, mut new) = (defaulted(kind, old), defaulted(kind, new));
    kind.strategy.prepare_for_update(&mut new, &old);
    let mut errors = metadata::validate_update(kind, &new, &old);
    errors.extend(kind.strategy.validate_update(&new, &old));
    shown(errors)
}

/// Compares an object's row, at one o'clock on the first day of 2026.
pub fn check_row(plural: &str, text: &str, expected: Expect) {
    let (kind, object) = (kind(plural), yaml(text));
    let context = CellContext { now: "2026-01-01T01:00:00Z".parse().unwrap() };
    let cells = kind.columns.iter().map(|column| match column.render(&object, &context) {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let cells: Vec<String> = kind.columns.iter().zip(cells).map(|(c, cell)| format!("{}={cell}", c.name)).collect();
    expected.assert_eq(&cells.join(" | "));
}
