//! Containers may add no capabilities but those that runtimes give anyway.

use serde_json::Value;

use super::pod::{Found, called, quoted};
use super::{Check, Pod, Violation};
use crate::object::list;

pub static CHECK: Check = Check::new(&[(0, v1_0)]);

const ALLOWED: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn v1_0(pod: &Pod) -> Option<Violation> {
    let mut found = Found::new();
    let bad = pod.bad_containers(|container| !added_beyond(container, ALLOWED, &mut found));
    let detail = || {
        format!("{} must not include {} in securityContext.capabilities.add", called("container", &bad), quoted(&found))
    };
    (!bad.is_empty()).then(|| Violation::new("non-default capabilities", detail()))
}

/// Notes what a container adds beside `allowed`; whether that is nothing.
pub fn added_beyond<'v>(container: &'v Value, allowed: &[&str], found: &mut Found<'v>) -> bool {
    let added = list(container, &["securityContext", "capabilities", "add"]).iter().filter_map(Value::as_str);
    let bad: Vec<&str> = added.filter(|capability| !allowed.contains(capability)).collect();
    found.extend(&bad);
    bad.is_empty()
}
