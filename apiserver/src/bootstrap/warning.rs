//! Events in which the server itself warns about an object.

use jiff::Timestamp;
use k8w_kinds::object::text;
use serde_json::{Value, json};

use crate::object_store::timestamp;

/// What is wrong with an object. Told twice it is one event, for as long as events are kept.
pub(crate) struct Warning {
    /// Who tells.
    pub component: &'static str,
    /// What the event's name ends with, behind that of the object.
    pub suffix: String,
    pub reason: &'static str,
    pub message: String,
}

impl Warning {
    /// As an event that regards `object`.
    pub fn about(&self, object: &Value, now: Timestamp) -> Value {
        let of = |field: &str| text(object, &["metadata", field]);
        let mut involved = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "name": of("name"), "uid": of("uid"),
            "resourceVersion": of("resourceVersion"),
        });
        let namespace = match of("namespace") {
            "" => "default",
            namespace => {
                involved["namespace"] = namespace.into();
                namespace
            }
        };
        let now = timestamp(now);
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{}.{}", of("name"), self.suffix), "namespace": namespace},
            "involvedObject": involved,
            "reason": self.reason, "message": self.message, "type": "Warning", "count": 1,
            "firstTimestamp": now, "lastTimestamp": now,
            "source": {"component": self.component}, "reportingComponent": self.component,
        })
    }
}
