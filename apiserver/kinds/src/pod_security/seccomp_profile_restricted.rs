//! Pods must choose a filter of system calls.

use super::pod::called;
use super::seccomp_profile_baseline::{self, REASON, is_allowed, unconfined};
use super::{Check, Pod, Violation};
use crate::object::get;

pub static CHECK: Check = Check::instead_of(&[(19, v1_19), (25, v1_25)], &seccomp_profile_baseline::CHECK);

fn v1_19(pod: &Pod) -> Option<Violation> {
    if let Some(violation) = unconfined(pod) {
        return Some(violation);
    }
    if pod.get(&["spec", "securityContext", "seccompProfile"]).is_some_and(is_allowed) {
        return None;
    }
    let silent = pod.bad_containers(|container| get(container, &["securityContext", "seccompProfile"]).is_none());
    let detail = || {
        let containers = called("container", &silent);
        format!(
            "pod or {containers} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        )
    };
    (!silent.is_empty()).then(|| Violation::new(REASON, detail()))
}

/// Windows has no such filter.
fn v1_25(pod: &Pod) -> Option<Violation> {
    if pod.is_windows() { None } else { v1_19(pod) }
}
