//! The filter of system calls may be replaced by one of the node's own, not switched off.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pod::{Found, plural, quoted};
use super::{Check, Pod, Violation};
use crate::object::{get, text};

pub static CHECK: Check = Check::new(&[(0, v1_0), (19, v1_19)]);

pub const REASON: &str = "seccompProfile";

/// How profiles were chosen before there was a field.
const POD_ANNOTATION: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_ANNOTATION: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn v1_0(pod: &Pod) -> Option<Violation> {
    let of_containers =
        pod.containers().map(|container| format!("{CONTAINER_ANNOTATION}{}", text(container, &["name"])));
    let annotations = [POD_ANNOTATION.to_owned()].into_iter().chain(of_containers);
    let bad: BTreeSet<String> = annotations
        .filter_map(|key| {
            let profile = pod.get(&["metadata", "annotations", &key])?.as_str()?;
            let allowed = matches!(profile, "runtime/default" | "docker/default") || profile.starts_with("localhost/");
            (!allowed).then(|| format!("{key}={profile:?}"))
        })
        .collect();
    let what = plural("annotation", bad.len());
    let detail = || format!("forbidden {what} {}", bad.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    (!bad.is_empty()).then(|| Violation::new(REASON, detail()))
}

fn v1_19(pod: &Pod) -> Option<Violation> {
    unconfined(pod)
}

/// Whoever chooses a profile that is none.
pub fn unconfined(pod: &Pod) -> Option<Violation> {
    let mut found = Found::new();
    let setters = pod.bad_contexts(|context| {
        let bad = get(context, &["seccompProfile"]).filter(|profile| !is_allowed(profile));
        found.extend(bad.map(|profile| text(profile, &["type"])));
        bad.is_some()
    })?;
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(&found));
    Some(Violation::new(REASON, detail))
}

/// Whether a profile filters anything.
pub fn is_allowed(profile: &Value) -> bool {
    matches!(text(profile, &["type"]), "RuntimeDefault" | "Localhost")
}
