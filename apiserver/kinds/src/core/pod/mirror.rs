//! Mirror pods: what shows in the API that a node runs a pod of its own (a static pod).

use serde_json::Value;

use crate::object::get;

/// What a mirror pod is known by; its value is the hash of what the node runs.
pub const ANNOTATION: &str = "kubernetes.io/config.mirror";

/// What the annotation says; `None` for every other pod.
pub fn mirrored(pod: &Value) -> Option<&str> {
    get(pod, &["metadata", "annotations", ANNOTATION]).and_then(Value::as_str)
}
