//! SELinux confines containers as containers, whatever they ask for.

use super::pod::{Found, plural, quoted};
use super::{Check, Pod, Violation};
use crate::object::{get, text};

/// What containers may say of their type: any of these confines them as containers.
pub const TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

pub static CHECK: Check = Check::new(&[
    (0, |pod| check(pod, &["", "container_t", "container_init_t", "container_kvm_t"])),
    (31, |pod| check(pod, TYPES)),
]);

fn check(pod: &Pod, allowed: &[&str]) -> Option<Violation> {
    let (mut types, mut user, mut role) = (Found::new(), false, false);
    let setters = pod.bad_contexts(|context| {
        let Some(options) = get(context, &["seLinuxOptions"]) else { return false };
        let kind = text(options, &["type"]);
        let (bad_type, sets_user, sets_role) =
            (!allowed.contains(&kind), !text(options, &["user"]).is_empty(), !text(options, &["role"]).is_empty());
        if bad_type {
            types.insert(kind);
        }
        user |= sets_user;
        role |= sets_role;
        bad_type || sets_user || sets_role
    })?;
    let mut faults = Vec::new();
    if !types.is_empty() {
        faults.push(format!("{} {}", plural("type", types.len()), quoted(&types)));
    }
    if user {
        faults.push("user may not be set".to_owned());
    }
    if role {
        faults.push("role may not be set".to_owned());
    }
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", faults.join("; "));
    Some(Violation::new("seLinuxOptions", detail))
}
