//! Probes and hooks reach the pod and nothing else.

use serde_json::Value;

use super::pod::{Found, called, plural, quoted, use_verb};
use super::{Check, Pod, Violation};
use crate::object::text;

pub static CHECK: Check = Check::new(&[(34, v1_34)]);

const HANDLERS: [&[&str]; 5] = [
    &["livenessProbe"],
    &["readinessProbe"],
    &["startupProbe"],
    &["lifecycle", "postStart"],
    &["lifecycle", "preStop"],
];

fn v1_34(pod: &Pod) -> Option<Violation> {
    let mut hosts = Found::new();
    let bad: Found = pod
        .bad_containers(|container| {
            let found = hosts_of(container);
            let any = !found.is_empty();
            hosts.extend(found);
            any
        })
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let what = plural("probe or lifecycle host", hosts.len());
    let detail = format!("{} {} {what} {}", called("container", &bad), use_verb(bad.len()), quoted(&hosts));
    Some(Violation::new("probe or lifecycle host", detail))
}

fn hosts_of(container: &Value) -> Vec<&str> {
    let of = |handler: &&[&str]| {
        ["httpGet", "tcpSocket"].map(|action| text(container, &[handler, &[action, "host"][..]].concat()))
    };
    HANDLERS.iter().flat_map(of).filter(|host| !host.is_empty()).collect()
}
