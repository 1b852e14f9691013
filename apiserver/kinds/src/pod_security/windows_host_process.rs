//! Containers on Windows are containers.

use serde_json::Value;

use super::{Check, Pod, Violation};
use crate::object::get;

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

fn v1_0(pod: &Pod) -> Option<Violation> {
    let is_host = |context: &Value| get(context, &["windowsOptions", "hostProcess"]) == Some(&Value::Bool(true));
    let setters = pod.bad_contexts(is_host)?;
    Some(Violation::new(
        "hostProcess",
        format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"),
    ))
}
