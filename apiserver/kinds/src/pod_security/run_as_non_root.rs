//! Containers must say that they do not run as root, unless root in the pod is nobody outside.

use serde_json::Value;

use super::pod::called;
use super::{Check, Pod, Violation};
use crate::object::get;

pub static CHECK: Check = Check::new(&[(0, v1_0), (35, v1_35)]);

const REASON: &str = "runAsNonRoot != true";

fn v1_0(pod: &Pod) -> Option<Violation> {
    if let Some(setters) = pod.bad_contexts(|context| get(context, &["runAsNonRoot"]) == Some(&Value::Bool(false))) {
        return Some(Violation::new(REASON, format!("{setters} must not set securityContext.runAsNonRoot=false")));
    }
    if pod.get(&["spec", "securityContext", "runAsNonRoot"]) == Some(&Value::Bool(true)) {
        return None;
    }
    let silent = pod.bad_containers(|container| get(container, &["securityContext", "runAsNonRoot"]).is_none());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", called("container", &silent));
    (!silent.is_empty()).then(|| Violation::new(REASON, detail()))
}

fn v1_35(pod: &Pod) -> Option<Violation> {
    if pod.has_own_users() { None } else { v1_0(pod) }
}
