//! Event: a report of something that happened in the cluster.

use crate::kind::{KindDef, Strategy};

pub fn definition() -> KindDef {
    KindDef::builtin("", "v1", "Event", "events", "io.k8s.api.core.v1.Event").short_names(&["ev"]).strategy(Event)
}

struct Event;

impl Strategy for Event {}
