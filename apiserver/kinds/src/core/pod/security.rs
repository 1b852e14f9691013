//! Rules of security contexts.

use std::collections::BTreeSet;

use crate::field::{Field, FieldError};
use crate::rules;

const ID: &str = "must be between 0 and 2147483647, inclusive";

fn ids(context: &Field, errors: &mut Vec<FieldError>) {
    for name in ["runAsUser", "runAsGroup", "fsGroup"] {
        let id = context.get(name);
        if id.int().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
            errors.push(id.invalid(ID));
        }
    }
    let seccomp = context.get("seccompProfile");
    if seccomp.is_set() {
        profile(&seccomp, true, errors);
    }
    let armor = context.get("appArmorProfile");
    if armor.is_set() {
        profile(&armor, false, errors);
    }
}

fn profile(profile: &Field, is_path: bool, errors: &mut Vec<FieldError>) {
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "" => errors.push(kind.required(if is_path { "type is required when seccompProfile is set" } else { "" })),
        "Localhost" if local.is_empty() => {
            let detail = if is_path {
                "must be set when seccomp type is Localhost"
            } else {
                "must be set when AppArmor type is Localhost"
            };
            errors.push(local.required(detail));
        }
        "Localhost" if is_path => rules::path_below(&local, errors),
        "Localhost" => {}
        "RuntimeDefault" | "Unconfined" => {
            if local.is_set() {
                let system = if is_path { "seccomp" } else { "AppArmor" };
                errors.push(local.invalid(format!("can only be set when {system} type is Localhost")));
            }
        }
        _ => errors.push(kind.not_supported(&["Localhost", "RuntimeDefault", "Unconfined"])),
    }
}

/// Checks a pod's security context.
pub fn pod(context: &Field, errors: &mut Vec<FieldError>) {
    ids(context, errors);
    for group in context.get("supplementalGroups").items() {
        if group.int().is_some_and(|id| !(0..=i64::from(i32::MAX)).contains(&id)) {
            errors.push(group.invalid(ID));
        }
    }
    rules::maybe_one_of(&context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], errors);
    rules::maybe_one_of(&context.get("supplementalGroupsPolicy"), &["Merge", "Strict"], errors);
    rules::maybe_one_of(&context.get("seLinuxChangePolicy"), &["MountOption", "Recursive"], errors);
    let mut names = BTreeSet::new();
    for sysctl in context.get("sysctls").items() {
        let name = sysctl.get("name");
        if !rules::required(&name, errors) {
            continue;
        }
        if !names.insert(name.text()) {
            errors.push(name.duplicate());
        } else if !is_sysctl(name.text()) {
            errors.push(name.invalid("must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"));
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |p: &str| {
        let bytes = p.as_bytes();
        bytes.first().is_some_and(|b| inner(*b))
            && bytes.last().is_some_and(|b| inner(*b))
            && bytes.iter().all(|b| inner(*b) || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split(['.', '/']).all(part)
}

/// Checks a container's security context.
pub fn container(context: &Field, errors: &mut Vec<FieldError>) {
    ids(context, errors);
    rules::maybe_one_of(&context.get("procMount"), &["Default", "Unmasked"], errors);
    if context.get("allowPrivilegeEscalation").bool() != Some(false) {
        return;
    }
    if context.get("privileged").bool() == Some(true) {
        errors.push(context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
    }
    let capabilities = context.get("capabilities");
    if capabilities.get("add").items().any(|c| matches!(c.text(), "CAP_SYS_ADMIN")) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.push(context.invalid(detail));
    }
}
