//! Rules of what only Windows has, and of what it has not.

use super::container;
use crate::field::{Field, FieldError};
use crate::names;

/// Checks `windowsOptions` of a security context.
pub fn options(options: &Field, errors: &mut Vec<FieldError>) {
    const MAX_SPEC_KIB: usize = 64;
    let (name, spec, user) =
        (options.get("gmsaCredentialSpecName"), options.get("gmsaCredentialSpec"), options.get("runAsUserName"));
    if name.is_set() {
        errors.extend(names::dns_subdomain(name.text()).into_iter().map(|wrong| name.invalid(wrong)));
    }
    match spec.str().map(str::len) {
        Some(0) => errors.push(spec.invalid("gmsaCredentialSpec cannot be an empty string")),
        Some(bytes) if bytes > MAX_SPEC_KIB * 1024 => {
            errors.push(spec.invalid(format!("gmsaCredentialSpec size must be under {MAX_SPEC_KIB} KiB")));
        }
        _ => {}
    }
    if let Some(text) = user.str() {
        errors.extend(user_name(text).into_iter().map(|wrong| user.invalid(wrong)));
    }
}

/// `USER` or `DOMAIN\USER`.
fn user_name(name: &str) -> Vec<String> {
    const MAX_DOMAIN_BYTES: usize = 256;
    const MAX_USER_BYTES: usize = 104;
    const NOT_IN_USERS: [char; 16] = ['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']'];
    let one = |wrong: &str| vec![wrong.to_owned()];
    if name.is_empty() {
        return one("runAsUserName cannot be an empty string");
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return one("runAsUserName cannot contain control characters");
    }
    let (domain, user) = match name.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return one("runAsUserName cannot contain more than one backslash"),
    };
    let mut wrong = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= MAX_DOMAIN_BYTES) {
        wrong.push(format!("runAsUserName's Domain length must be under {MAX_DOMAIN_BYTES} characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        wrong.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        wrong.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > MAX_USER_BYTES {
        wrong.push(format!("runAsUserName's User length must not be longer than {MAX_USER_BYTES} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        wrong.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(NOT_IN_USERS) {
        let detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        wrong.push(detail.to_owned());
    }
    wrong
}

fn is_net_bios(domain: &str) -> bool {
    const MAX_CHARS: usize = 15;
    let inner = |c: char| !matches!(c, '\\' | '/' | ':' | '*' | '?' | '"' | '<' | '>' | '|');
    (1..=MAX_CHARS).contains(&domain.chars().count()) && !domain.starts_with('.') && domain.chars().all(inner)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        bytes.len() <= names::DNS_LABEL_MAX_BYTES
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

/// A container that is a process of the host makes the whole pod one, in the host's network.
pub fn host_processes(spec: &Field, errors: &mut Vec<FieldError>) {
    let context = spec.get("securityContext");
    let of_pod = context.get("windowsOptions").get("hostProcess").bool();
    let (mut containers, mut host_processes) = (0, 0);
    container::each(spec, |container| {
        containers += 1;
        let context = container.get("securityContext");
        let options = context.get("windowsOptions");
        let own = options.get("hostProcess");
        if let (Some(of_pod), Some(of_container)) = (of_pod, own.bool())
            && of_pod != of_container
        {
            let detail = format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
            errors.push(own.invalid(detail));
        }
        host_processes += usize::from(own.bool().or(of_pod) == Some(true));
    });
    if host_processes == 0 {
        return;
    }
    if host_processes != containers {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(FieldError::invalid(&spec.path, "", detail));
    }
    if spec.get("hostNetwork").bool() != Some(true) {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(FieldError::invalid(&spec.path.child("hostNetwork"), false, detail));
    }
}

/// Checks `os`, and that nothing is asked of it that it does not have.
pub fn os(spec: &Field, errors: &mut Vec<FieldError>) {
    let os = spec.get("os");
    if !os.is_set() {
        return;
    }
    match os.get("name").text() {
        "" => errors.push(os.get("name").required("")),
        "linux" => on_linux(spec, errors),
        "windows" => on_windows(spec, errors),
        other => errors.push(FieldError::not_supported(&os.path, other, &["linux", "windows"])),
    }
}

fn on_linux(spec: &Field, errors: &mut Vec<FieldError>) {
    let mut check = |of: &Field| {
        let context = of.get("securityContext");
        let options = context.get("windowsOptions");
        if options.is_set() {
            errors.push(options.forbidden("windows options cannot be set for a linux pod"));
        }
    };
    check(spec);
    container::each(spec, check);
}

fn on_windows(spec: &Field, errors: &mut Vec<FieldError>) {
    /// In the order in which Kubernetes finds them; those that are not of the security context are the spec's own.
    const OF_POD: [&str; 15] = [
        "appArmorProfile",
        "seLinuxOptions",
        "hostUsers",
        "hostPID",
        "hostIPC",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "shareProcessNamespace",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    const OF_CONTAINER: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    let mut refuse = |field: &Field| errors.push(field.forbidden("cannot be set for a windows pod"));
    let context = spec.get("securityContext");
    for name in OF_POD {
        let field = match name {
            "hostUsers" | "hostPID" | "hostIPC" | "shareProcessNamespace" => spec.get(name),
            _ => context.get(name),
        };
        let is_set = match name {
            "hostPID" | "hostIPC" => field.bool() == Some(true),
            "sysctls" => !field.is_empty(),
            _ => field.is_set(),
        };
        if is_set {
            refuse(&field);
        }
    }
    container::each(spec, |container| {
        let context = container.get("securityContext");
        for name in OF_CONTAINER {
            let field = context.get(name);
            if field.is_set() {
                refuse(&field);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use crate::core::pod::tests::check_specs;

    #[test]
    fn each_system_has_its_own_options() {
        check_specs(&[
            ("os: {name: linux}, hostPID: true, securityContext: {runAsUser: 1}", ""),
            ("os: {name: windows}, securityContext: {windowsOptions: {runAsUserName: ContainerUser}}", ""),
            ("os: {}", "spec.os.name: Required value"),
            ("os: {name: plan9}", "spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""),
            (
                "containers: [{name: c, image: i, securityContext: {windowsOptions: {runAsUserName: u}}}], os: {name: linux}, securityContext: {windowsOptions: {}}",
                "spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod\nspec.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ),
            (
                "containers: [{name: c, image: i, securityContext: {privileged: false, runAsUser: 1}}], os: {name: windows}, hostUsers: true, hostPID: true, securityContext: {fsGroup: 1, seLinuxOptions: {}}",
                "spec.securityContext.seLinuxOptions: Forbidden: cannot be set for a windows pod\nspec.hostUsers: Forbidden: cannot be set for a windows pod\nspec.hostPID: Forbidden: cannot be set for a windows pod\nspec.securityContext.fsGroup: Forbidden: cannot be set for a windows pod\nspec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod\nspec.containers[0].securityContext.runAsUser: Forbidden: cannot be set for a windows pod",
            ),
        ]);
    }

    #[test]
    fn processes_of_the_host() {
        let host = "windowsOptions: {hostProcess: true}";
        check_specs(&[
            (&format!("hostNetwork: true, securityContext: {{{host}}}"), ""),
            (
                &format!("securityContext: {{{host}}}"),
                "spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ),
            (
                &format!(
                    "containers: [{{name: c, image: i, securityContext: {{{host}}}}}, {{name: d, image: i}}], hostNetwork: true"
                ),
                "spec: Invalid value: \"\": If pod contains any hostProcess containers then all containers must be HostProcess containers",
            ),
            (
                &format!(
                    "containers: [{{name: c, image: i, securityContext: {{{host}}}}}], hostNetwork: true, securityContext: {{windowsOptions: {{hostProcess: false}}}}"
                ),
                "spec.containers[0].securityContext.windowsOptions.hostProcess: Invalid value: true: pod hostProcess value must be identical if both are specified, was false",
            ),
        ]);
    }

    #[test]
    fn names_of_users() {
        for (name, wrong) in [
            ("User", ""),
            ("DOMAIN\\User", ""),
            ("example.com\\User", ""),
            ("", "runAsUserName cannot be an empty string"),
            ("a\tb", "runAsUserName cannot contain control characters"),
            ("a\\b\\c", "runAsUserName cannot contain more than one backslash"),
            (".a\\b", "runAsUserName's Domain doesn't match the NetBios nor the DNS format"),
            ("a\\", "runAsUserName's User cannot be empty"),
            (". .", "runAsUserName's User cannot contain only periods or spaces"),
            ("a@b", "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"),
        ] {
            assert_eq!(super::user_name(name).join("; "), wrong, "{name:?}");
        }
    }
}
