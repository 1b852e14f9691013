//! Processes may not gain more privileges than their parent has.

use serde_json::Value;

use super::pod::called;
use super::{Check, Pod, Violation};
use crate::object::get;

pub static CHECK: Check = Check::new(&[(8, v1_8), (25, v1_25)]);

fn v1_8(pod: &Pod) -> Option<Violation> {
    let allows = |container: &Value| {
        get(container, &["securityContext", "allowPrivilegeEscalation"]) != Some(&Value::Bool(false))
    };
    let bad = pod.bad_containers(allows);
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", called("container", &bad));
    (!bad.is_empty()).then(|| Violation::new("allowPrivilegeEscalation != false", detail()))
}

/// Windows has nothing of the kind.
fn v1_25(pod: &Pod) -> Option<Violation> {
    if pod.is_windows() { None } else { v1_8(pod) }
}
