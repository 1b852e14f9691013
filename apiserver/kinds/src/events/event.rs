//! Event as `events.k8s.io` spells it; what the core group calls `involvedObject` is `regarding` here.

use serde_json::Value;

use crate::core::event;
use crate::field::{Field, FieldError};
use crate::kind::{KindDef, SelectableField, Strategy};
use crate::{names, rules};

pub fn definition() -> KindDef {
    let fields = [
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "reason",
        "type",
        "reportingController",
    ];
    KindDef::builtin("events.k8s.io", "v1", "Event", "events", "io.k8s.api.events.v1.Event")
        .short_names(&["ev"])
        .columns(event::columns())
        .selectable(fields.map(SelectableField::at).into())
        .strategy(Event)
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
