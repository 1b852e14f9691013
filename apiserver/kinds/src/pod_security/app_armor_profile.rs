//! The default AppArmor profile may be replaced by one of the node's own, not switched off.

use serde_json::Value;

use super::pod::{Found, plural, quoted};
use super::{Check, Pod, Violation};
use crate::object::{get, text};

/// How profiles were chosen before there was a field.
const ANNOTATION_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

fn v1_0(pod: &Pod) -> Option<Violation> {
    let mut values = Found::new();
    let in_fields = pod.bad_contexts(|context| {
        let Some(profile) = get(context, &["appArmorProfile"]) else { return false };
        let kind = text(profile, &["type"]);
        let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind);
        }
        bad
    });
    let annotations = pod.get(&["metadata", "annotations"]).and_then(Value::as_object).into_iter().flatten();
    let mut bad: Vec<String> = annotations
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX))
        .map(|(key, value)| (key, value.as_str().unwrap_or_default()))
        .filter(|(_, profile)| {
            !(profile.is_empty() || *profile == "runtime/default" || profile.starts_with("localhost/"))
        })
        .map(|(key, profile)| format!("{key}={profile:?}"))
        .collect();
    bad.sort();
    let in_annotations = (!bad.is_empty()).then(|| plural("annotation", bad.len()));
    let setters: Vec<String> = in_fields.into_iter().chain(in_annotations).collect();
    if setters.is_empty() {
        return None;
    }
    let values: Vec<&str> = values.into_iter().chain(bad.iter().map(String::as_str)).collect();
    let detail = format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quoted(&values));
    Some(Violation::new(plural("forbidden AppArmor profile", values.len()), detail))
}
