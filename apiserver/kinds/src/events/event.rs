//! Event as `events.k8s.io` spells it; what the core group calls `involvedObject` is `regarding` here.

use jiff::Timestamp;
use serde_json::Value;

use crate::core::event;
use crate::field::{Field, FieldError, FieldPath};
use crate::kind::{Conversion, KindDef, SelectableField, Strategy};
use crate::{object, rules};

pub fn definition() -> KindDef {
    let fields = [
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "type",
        "reportingController",
    ];
    KindDef::builtin("events.k8s.io", "v1", "Event", "events", "io.k8s.api.events.v1.Event")
        .short_names(&["ev"])
        .columns(event::columns())
        .selectable(fields.map(SelectableField::at).into())
        .strategy(Event)
        .stored_as(("", "v1"), Spelling)
}

/// What the core group and this one call the same field.
const NAMES: [(&str, &str); 7] = [
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("involvedObject", "regarding"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
];

/// An event is one object, whichever group it is read in.
struct Spelling;

impl Conversion for Spelling {
    fn to_stored(&self, event: &mut Value) {
        event["apiVersion"] = "v1".into();
        rename(event, NAMES.map(|(core, ours)| (ours, core)));
    }

    fn to_served(&self, event: &mut Value) {
        event["apiVersion"] = "events.k8s.io/v1".into();
        rename(event, NAMES);
    }
}

fn rename(event: &mut Value, names: [(&str, &str); 7]) {
    let Some(fields) = event.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

struct Event;

impl Strategy for Event {
    fn validate(&self, event: &Value) -> Vec<FieldError> {
        let root = Field::root(event);
        let mut errors = Vec::new();
        event::basics(&root, "regarding", "reportingController", "note", &mut errors);
        series(&root.get("series"), &mut errors);
        rules::required(&root.get("eventTime"), &mut errors);
        let type_ = root.get("type");
        if !matches!(type_.text(), "Normal" | "Warning") {
            errors.push(FieldError::invalid(&type_.path, "", format!("has invalid value: {}", type_.text())));
        }
        // Kubernetes names these fields as the core group does.
        let source = root.get("deprecatedSource");
        for (name, is_set) in [
            ("firstTimestamp", root.get("deprecatedFirstTimestamp").is_set()),
            ("lastTimestamp", root.get("deprecatedLastTimestamp").is_set()),
            ("count", root.get("deprecatedCount").int().is_some_and(|count| count != 0)),
            ("source", ["component", "host"].iter().any(|name| !source.get(name).is_empty())),
        ] {
            if is_set {
                errors.push(FieldError::invalid(&FieldPath::new(name), "", "needs to be unset"));
            }
        }
        errors
    }

    /// Of a report nothing changes but how often it is made.
    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new, old) = (Field::root(new), Field::root(old));
        let mut errors = Vec::new();
        event::basics(&new, "regarding", "reportingController", "note", &mut errors);
        if !object::same(new.get("series").value(), old.get("series").value()) {
            series(&new.get("series"), &mut errors);
        }
        let same_time = |field: &Field| field.text().parse::<Timestamp>().map(Timestamp::as_microsecond).ok();
        for (path, name) in FIXED {
            let (is, was) = (new.get(name), old.get(name));
            // Clients round times.
            if name != "eventTime" || same_time(&is).is_none() || same_time(&is) != same_time(&was) {
                rules::immutable(&Field::new(is.value(), FieldPath::new(path)), &was, &mut errors);
            }
        }
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// What does not change, as the core group and as this one calls it.
const FIXED: [(&str, &str); 13] = [
    ("involvedObject", "regarding"),
    ("reason", "reason"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingController", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];

fn series(series: &Field, errors: &mut Vec<FieldError>) {
    if !series.is_set() {
        return;
    }
    if series.get("count").int().unwrap_or_default() < 2 {
        errors.push(FieldError::invalid(&FieldPath::new("series.count"), "", "should be at least 2"));
    }
    rules::required(&series.get("lastObservedTime"), errors);
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::testing::yaml;

    #[test]
    fn rules() {
        let event = "metadata: {name: a, namespace: default}, eventTime: '2026-01-01T00:00:00.000001Z', reportingController: c, \
                     reportingInstance: i, action: a, reason: r, type: Normal";
        let of = |more: &str| yaml(&format!("{{{event}, {more}}}"));
        let lines = |errors: Vec<FieldError>| errors.iter().map(|error| format!("{error}\n")).collect::<String>();
        assert_eq!(lines(Event.validate(&of("note: n"))), "");
        expect![[r#"
            series.count: Invalid value: "": should be at least 2
            series.lastObservedTime: Required value
            firstTimestamp: Invalid value: "": needs to be unset
            count: Invalid value: "": needs to be unset
            source: Invalid value: "": needs to be unset
        "#]]
        .assert_eq(&lines(Event.validate(&of(
            "series: {count: 1}, deprecatedCount: 1, deprecatedSource: {host: h}, deprecatedFirstTimestamp: x",
        ))));
        expect![[r#"
            involvedObject.namespace: Invalid value: "c": does not match event.namespace
            eventTime: Required value
            type: Invalid value: "": has invalid value: Odd
        "#]]
        .assert_eq(&lines(
            Event.validate(&yaml("{metadata: {name: a, namespace: b}, type: Odd, regarding: {namespace: c}}")),
        ));
        let mut rounded = of("note: n");
        rounded["eventTime"] = "2026-01-01T00:00:00.0000012Z".into();
        assert_eq!(lines(Event.validate_update(&rounded, &of("note: n"))), "");
        expect![[r#"
            involvedObject: Invalid value: {"name":"x"}: field is immutable
            message: Invalid value: "o": field is immutable
        "#]]
        .assert_eq(&lines(Event.validate_update(
            &of("note: o, regarding: {name: x}, series: {count: 2, lastObservedTime: x}"),
            &of("note: n"),
        )));
    }
}
