//! Event as `events.k8s.io` spells it; what the core group calls `involvedObject` is `regarding` here.

use serde_json::Value;

use crate::core::event;
use crate::field::{Field, FieldError};
use crate::kind::{Conversion, KindDef, SelectableField, Strategy};
use crate::{names, rules};

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
        event::namespaces(&root, "regarding", &mut errors);
        let controller = root.get("reportingController");
        rules::name(&controller, names::qualified_name, &mut errors);
        for name in ["reportingInstance", "action", "reason"] {
            rules::required(&root.get(name), &mut errors);
        }
        rules::one_of(&root.get("type"), &["Normal", "Warning"], &mut errors);
        errors
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}
