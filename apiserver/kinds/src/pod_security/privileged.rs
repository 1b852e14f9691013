//! Containers keep the walls between them and their node.

use serde_json::Value;

use super::pod::called;
use super::{Check, Pod, Violation};
use crate::object::get;

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

fn v1_0(pod: &Pod) -> Option<Violation> {
    let bad =
        pod.bad_containers(|container| get(container, &["securityContext", "privileged"]) == Some(&Value::Bool(true)));
    let detail = || format!("{} must not set securityContext.privileged=true", called("container", &bad));
    (!bad.is_empty()).then(|| Violation::new("privileged", detail()))
}
