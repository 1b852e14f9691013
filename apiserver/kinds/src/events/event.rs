//! Event as `events.k8s.io` spells it; the same stored object as the core group's.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("events.k8s.io", "v1", "Event", "events", "io.k8s.api.events.v1.Event")
        .short_names(&["ev"])
        .strategy(Event)
}

struct Event;

impl Strategy for Event {}
