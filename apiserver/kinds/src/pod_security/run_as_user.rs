//! Containers do not ask to run as root, unless root in the pod is nobody outside.

use serde_json::Value;

use super::{Check, Pod, Violation};
use crate::object::get;

pub static CHECK: Check = Check::new(&[(23, v1_23), (35, v1_35)]);

fn v1_23(pod: &Pod) -> Option<Violation> {
    let root = |context: &Value| get(context, &["runAsUser"]).and_then(Value::as_i64) == Some(0);
    let setters = pod.bad_contexts(root)?;
    Some(Violation::new("runAsUser=0", format!("{setters} must not set runAsUser=0")))
}

fn v1_35(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() { None } else { v1_23(pod) }
}
