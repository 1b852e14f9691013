//! The Pod Security Standards: what pods may do at each level, in each version. Pure.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
//!
//! A check is a file and a row in [`BASELINE`] or [`RESTRICTED`]; it has a revision for every version of the standards in
//! which it changed. Messages are those of `k8s.io/pod-security-admission/policy`.

mod allow_privilege_escalation;
mod app_armor_profile;
mod capabilities_baseline;
mod capabilities_restricted;
mod host_namespaces;
mod host_path_volumes;
mod host_ports;
mod host_probes_and_lifecycle;
mod pod;
pub mod policy;
mod privileged;
mod proc_mount;
mod restricted_volumes;
mod run_as_non_root;
mod run_as_user;
mod se_linux_options;
mod seccomp_profile_baseline;
mod seccomp_profile_restricted;
mod sysctls;
mod windows_host_process;

pub use pod::Pod;
pub use policy::{Level, LevelVersion, Policy, Version};
pub use se_linux_options::TYPES as SE_LINUX_TYPES;

/// The newest version of the standards: Kubernetes' own. Newer ones are read as this one.
pub const NEWEST_MINOR: u32 = 36;

/// Why a check does not allow a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, in a word or two.
    pub reason: String,
    /// Where and how.
    pub detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Violation { reason: reason.into(), detail: detail.into() }
    }
}

/// What a check has to say of a pod.
type Run = fn(&Pod) -> Option<Violation>;

/// One rule of the standards.
struct Check {
    /// What it looks like since which `v1.<minor>`, oldest first.
    revisions: &'static [(u32, Run)],
    /// The baseline check that this restricted one stands for from its first revision on.
    stands_for: Option<&'static Check>,
}

impl Check {
    const fn new(revisions: &'static [(u32, Run)]) -> Check {
        Check { revisions, stands_for: None }
    }

    const fn instead_of(revisions: &'static [(u32, Run)], other: &'static Check) -> Check {
        Check { revisions, stands_for: Some(other) }
    }

    fn at(&self, minor: u32) -> Option<Run> {
        self.revisions.iter().rev().find(|(since, _)| *since <= minor).map(|(_, run)| *run)
    }
}

/// In the order in which violations are listed.
static BASELINE: [&Check; 12] = [
    &app_armor_profile::CHECK,
    &capabilities_baseline::CHECK,
    &host_namespaces::CHECK,
    &host_path_volumes::CHECK,
    &host_ports::CHECK,
    &host_probes_and_lifecycle::CHECK,
    &privileged::CHECK,
    &proc_mount::BASELINE,
    &se_linux_options::CHECK,
    &seccomp_profile_baseline::CHECK,
    &sysctls::CHECK,
    &windows_host_process::CHECK,
];

/// Those that the level `restricted` adds.
static RESTRICTED: [&Check; 7] = [
    &allow_privilege_escalation::CHECK,
    &capabilities_restricted::CHECK,
    &proc_mount::RESTRICTED,
    &restricted_volumes::CHECK,
    &run_as_non_root::CHECK,
    &run_as_user::CHECK,
    &seccomp_profile_restricted::CHECK,
];

/// What a level's checks have to say of a pod; nothing when the level allows it.
pub fn evaluate(level: LevelVersion, pod: &Pod) -> Vec<Violation> {
    let minor = level.version.minor();
    let restricted: &[&Check] = match level.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &[],
        Level::Restricted => &RESTRICTED,
    };
    let replaced = |check: &Check| {
        let active = restricted.iter().filter(|other| other.at(minor).is_some());
        active.filter_map(|other| other.stands_for).any(|other| std::ptr::eq(other, check))
    };
    let baseline = BASELINE.iter().filter(|check| !replaced(check));
    let checks = baseline.chain(restricted).filter_map(|check| check.at(minor));
    checks.filter_map(|run| run(pod)).collect()
}

/// `host namespaces (hostPID=true), privileged (…)`.
pub fn details(violations: &[Violation]) -> String {
    let parts = violations.iter().map(|violation| match violation.detail.as_str() {
        "" => violation.reason.clone(),
        detail => format!("{} ({detail})", violation.reason),
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// `host namespaces, privileged`.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
