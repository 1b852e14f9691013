//! Containers drop all capabilities and may add but the one to listen on low ports.

use serde_json::Value;

use super::capabilities_baseline::{self, added_beyond};
use super::pod::{Found, called, quoted};
use super::{Check, Pod, Violation};
use crate::object::list;

pub static CHECK: Check = Check::instead_of(&[(22, v1_22), (25, v1_25)], &capabilities_baseline::CHECK);

fn v1_22(pod: &Pod) -> Option<Violation> {
    let drops_all = |container: &Value| {
        list(container, &["securityContext", "capabilities", "drop"]).iter().any(|capability| capability == "ALL")
    };
    let mut found = Found::new();
    let keeping = pod.bad_containers(|container| !drops_all(container));
    let adding = pod.bad_containers(|container| !added_beyond(container, &["NET_BIND_SERVICE"], &mut found));
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let containers = called("container", &keeping);
        details.push(format!("{containers} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let containers = called("container", &adding);
        details.push(format!("{containers} must not include {} in securityContext.capabilities.add", quoted(&found)));
    }
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

/// Windows has no capabilities.
fn v1_25(pod: &Pod) -> Option<Violation> {
    if pod.is_windows() { None } else { v1_22(pod) }
}
