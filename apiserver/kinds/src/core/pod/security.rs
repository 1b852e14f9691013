//! Rules of security contexts.

use std::collections::BTreeSet;

use super::windows;
use crate::field::{Field, FieldError};
use crate::rules;

fn id(id: &Field, errors: &mut Vec<FieldError>) {
    rules::between(id, 0, i64::from(i32::MAX), errors);
}

/// A field that must be one of some values where it is there, even if empty.
fn given(field: &Field, supported: &[&str], errors: &mut Vec<FieldError>) {
    if field.is_set() && !supported.contains(&field.text()) {
        errors.push(field.not_supported(supported));
    }
}

fn seccomp(profile: &Field, errors: &mut Vec<FieldError>) {
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    match kind.text() {
        "" => errors.push(kind.required("type is required when seccompProfile is set")),
        _ => rules::maybe_one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"], errors),
    }
    match (kind.text(), local.is_set()) {
        ("Localhost", true) => rules::path_below(&local, errors),
        ("Localhost", false) => errors.push(local.required("must be set when seccomp type is Localhost")),
        (_, true) => {
            let shown = profile.value().cloned().unwrap_or_default();
            let detail = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&local.path, shown, detail));
        }
        (_, false) => {}
    }
}

fn app_armor(profile: &Field, errors: &mut Vec<FieldError>) {
    const MAX_BYTES: usize = 4095;
    if !profile.is_set() {
        return;
    }
    let (kind, local) = (profile.get("type"), profile.get("localhostProfile"));
    let name = local.text();
    match kind.text() {
        "" => errors.push(kind.required("type is required when appArmorProfile is set")),
        "Localhost" => {
            if name.trim() != name {
                errors.push(local.invalid("must not be padded with whitespace"));
            } else if name.is_empty() {
                errors.push(local.required("must be set when AppArmor type is Localhost"));
            }
            if name.len() > MAX_BYTES {
                errors.push(FieldError::too_long(&local.path, MAX_BYTES));
            }
        }
        "RuntimeDefault" | "Unconfined" if local.is_set() => {
            errors.push(local.invalid("can only be set when AppArmor type is Localhost"));
        }
        _ => rules::maybe_one_of(&kind, &["Localhost", "RuntimeDefault", "Unconfined"], errors),
    }
}

/// Checks a pod's security context, and what goes with the namespaces that the pod shares with its node.
pub fn pod(spec: &Field, errors: &mut Vec<FieldError>) {
    let context = spec.get("securityContext");
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context.get(name), errors);
    }
    context.get("supplementalGroups").items().for_each(|group| id(&group, errors));
    let set = |name: &str| spec.get(name).bool() == Some(true);
    if set("hostPID") && set("shareProcessNamespace") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&context.path.child("shareProcessNamespace"), true, detail));
    }
    sysctls(&context.get("sysctls"), set("hostNetwork"), set("hostIPC"), errors);
    given(&context.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"], errors);
    seccomp(&context.get("seccompProfile"), errors);
    windows::options(&context.get("windowsOptions"), errors);
    app_armor(&context.get("appArmorProfile"), errors);
    given(&context.get("supplementalGroupsPolicy"), &["Merge", "Strict"], errors);
    // The other policy belongs to a feature that is off by default, also where it can be switched on.
    given(&context.get("seLinuxChangePolicy"), &["Recursive"], errors);
}

fn sysctls(list: &Field, host_network: bool, host_ipc: bool, errors: &mut Vec<FieldError>) {
    let mut names = BTreeSet::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        if rules::required(&name, errors) {
            if !is_sysctl(name.text()) {
                errors.push(name.invalid("must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"));
            } else if names.contains(name.text()) {
                errors.push(name.duplicate());
            }
        }
        names.insert(name.text());
        match namespace(name.text()) {
            Some("net") if host_network => {
                errors.push(name.invalid("may not be specified when 'hostNetwork' is true"));
            }
            Some("ipc") if host_ipc => errors.push(name.invalid("may not be specified when 'hostIPC' is true")),
            _ => {}
        }
    }
}

/// The namespace that a kernel parameter belongs to, for those that belong to one. Where the first separator is a slash,
/// dots and slashes have changed places.
fn namespace(sysctl: &str) -> Option<&'static str> {
    const NAMESPACES: [(&str, &str); 4] =
        [("kernel.shm", "ipc"), ("kernel.msg", "ipc"), ("fs.mqueue.", "ipc"), ("net.", "net")];
    let swapped = |c: char| match c {
        '.' => '/',
        '/' => '.',
        c => c,
    };
    let starts_with_slash = sysctl.find(['.', '/']).is_some_and(|at| sysctl[at..].starts_with('/'));
    let name = if starts_with_slash { sysctl.chars().map(swapped).collect() } else { sysctl.to_owned() };
    if name == "kernel.sem" {
        return Some("ipc");
    }
    NAMESPACES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, namespace)| *namespace)
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

/// Checks a container's security context; `host_users` says whether its users are the node's.
pub fn container(context: &Field, host_users: bool, errors: &mut Vec<FieldError>) {
    for name in ["runAsUser", "runAsGroup"] {
        id(&context.get(name), errors);
    }
    let mount = context.get("procMount");
    given(&mount, &["Default", "Unmasked"], errors);
    if host_users && mount.text() == "Unmasked" {
        errors.push(mount.invalid("`hostUsers` must be false to use `Unmasked`"));
    }
    seccomp(&context.get("seccompProfile"), errors);
    if context.get("allowPrivilegeEscalation").bool() == Some(false) {
        if context.get("privileged").bool() == Some(true) {
            errors.push(context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
        }
        let capabilities = context.get("capabilities");
        let added = capabilities.get("add");
        for _ in added.items().filter(|capability| capability.text() == "CAP_SYS_ADMIN") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(context.invalid(detail));
        }
    }
    windows::options(&context.get("windowsOptions"), errors);
    app_armor(&context.get("appArmorProfile"), errors);
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::{check_containers, check_specs};

    #[test]
    fn contexts_of_pods() {
        let at = "spec.securityContext";
        check_specs(&[
            (
                "securityContext: {seLinuxChangePolicy: Recursive, fsGroupChangePolicy: Always, supplementalGroups: [1]}",
                "",
            ),
            (
                "securityContext: {fsGroup: -1, supplementalGroups: [-1], fsGroupChangePolicy: '', seLinuxChangePolicy: MountOption, supplementalGroupsPolicy: Odd}",
                &format!(
                    "{at}.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive\n{at}.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive\n{at}.fsGroupChangePolicy: Unsupported value: \"\": supported values: \"Always\", \"OnRootMismatch\"\n{at}.supplementalGroupsPolicy: Unsupported value: \"Odd\": supported values: \"Merge\", \"Strict\"\n{at}.seLinuxChangePolicy: Unsupported value: \"MountOption\": supported values: \"Recursive\""
                ),
            ),
            (
                "hostNetwork: true, hostIPC: true, securityContext: {sysctls: [{name: net/ipv4/x, value: '1'}, {name: kernel.sem, value: '1'}, {name: kernel.shmmax, value: '1'}, {name: vm.x, value: '1'}]}",
                &format!(
                    "{at}.sysctls[0].name: Invalid value: \"net/ipv4/x\": may not be specified when 'hostNetwork' is true\n{at}.sysctls[1].name: Invalid value: \"kernel.sem\": may not be specified when 'hostIPC' is true\n{at}.sysctls[2].name: Invalid value: \"kernel.shmmax\": may not be specified when 'hostIPC' is true"
                ),
            ),
            (
                "securityContext: {seccompProfile: {type: RuntimeDefault, localhostProfile: x}, appArmorProfile: {type: Localhost, localhostProfile: ' x'}}",
                &format!(
                    "{at}.seccompProfile.localhostProfile: Invalid value: {{\"localhostProfile\":\"x\",\"type\":\"RuntimeDefault\"}}: can only be set when seccomp type is Localhost\n{at}.appArmorProfile.localhostProfile: Invalid value: \" x\": must not be padded with whitespace"
                ),
            ),
            (
                "securityContext: {seccompProfile: {}, appArmorProfile: {}}",
                &format!(
                    "{at}.seccompProfile.type: Required value: type is required when seccompProfile is set\n{at}.appArmorProfile.type: Required value: type is required when appArmorProfile is set"
                ),
            ),
        ]);
    }

    #[test]
    fn users_of_a_pods_own() {
        let with = |rest: &str| format!("containers: [{{name: c, image: i, {rest}}}], hostUsers: false");
        check_specs(&[
            (&with("securityContext: {procMount: Unmasked}"), ""),
            (&format!("{}, hostNetwork: true", with("")), "spec.hostNetwork: Forbidden: when `hostUsers` is false"),
            (
                &format!(
                    "{}, volumes: [{{name: v, persistentVolumeClaim: {{claimName: x}}}}]",
                    with("volumeDevices: [{name: v, devicePath: /d}]")
                ),
                "spec.containers[0].volumeDevices: Forbidden: when `hostUsers` is false",
            ),
        ]);
        check_containers(&[
            (
                "securityContext: {procMount: Unmasked}",
                "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
            ),
            (
                "securityContext: {procMount: Odd, runAsUser: -1}",
                "spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive\nspec.containers[0].securityContext.procMount: Unsupported value: \"Odd\": supported values: \"Default\", \"Unmasked\"",
            ),
        ]);
    }
}
