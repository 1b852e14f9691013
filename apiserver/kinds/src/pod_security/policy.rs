//! Which level of the standards a namespace asks for, in each mode: what its labels say.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/#pod-security-admission-labels-for-namespaces>

use std::fmt;

use serde_json::{Map, Value};

use super::NEWEST_MINOR;
use crate::field::{FieldError, FieldPath};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// How strict the standards are, the least strict first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    #[default]
    Privileged,
    Baseline,
    Restricted,
}

/// Which state of the standards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    #[default]
    Latest,
    /// `v1.<minor>`.
    Minor(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LevelVersion {
    pub level: Level,
    pub version: Version,
}

/// What is done about pods that violate which standard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// They are refused.
    pub enforce: LevelVersion,
    /// The audit log says so.
    pub audit: LevelVersion,
    /// The client is warned.
    pub warn: LevelVersion,
}

impl Level {
    fn parse(text: &str) -> Option<Level> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Version> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let canonical = minor == "0" || !minor.starts_with('0');
        let digits = minor.bytes().all(|byte| byte.is_ascii_digit());
        (canonical && digits).then(|| minor.parse().ok().map(Version::Minor)).flatten()
    }

    /// The minor version whose checks apply.
    pub(super) fn minor(self) -> u32 {
        match self {
            Version::Latest => NEWEST_MINOR,
            Version::Minor(minor) => minor.min(NEWEST_MINOR),
        }
    }
}

impl fmt::Display for LevelVersion {
    /// `baseline:v1.24`, `restricted:latest`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// What a namespace's labels ask for; where they say nothing, `defaults` do. With the labels that cannot be read: these
    /// enforce `restricted`, and neither audit nor warn.
    pub fn of(labels: Option<&Map<String, Value>>, defaults: Policy) -> (Policy, Vec<FieldError>) {
        let mut policy = defaults;
        let mut errors = Vec::new();
        let Some(labels) = labels else { return (policy, errors) };
        let label = |name: &str| labels.get(&format!("{PREFIX}{name}")).and_then(Value::as_str);
        let modes = [
            ("enforce", &mut policy.enforce, Level::Restricted),
            ("audit", &mut policy.audit, Level::Privileged),
            ("warn", &mut policy.warn, Level::Privileged),
        ];
        for (mode, wanted, otherwise) in modes {
            if let Some(text) = label(mode) {
                let level = Level::parse(text);
                if level.is_none() {
                    errors.push(unreadable(mode, text, "must be one of privileged, baseline, restricted"));
                }
                wanted.level = level.unwrap_or(otherwise);
            }
            let name = format!("{mode}-version");
            if let Some(text) = label(&name) {
                let version = Version::parse(text);
                if version.is_none() {
                    errors.push(unreadable(&name, text, "must be \"latest\" or \"v1.x\""));
                }
                wanted.version = version.unwrap_or_default();
            }
        }
        // Who enforces a level wants to hear of it too.
        let enforces = label("enforce").and_then(Level::parse).is_some();
        if enforces && label("warn").is_none() && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label("warn-version").is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether nothing is refused and nobody hears of anything.
    pub fn is_privileged(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|mode| mode.level == Level::Privileged)
    }
}

fn unreadable(name: &str, text: &str, detail: &str) -> FieldError {
    let (metadata, label) = (FieldPath::new("metadata"), format!("{PREFIX}{name}"));
    FieldError::invalid(&metadata.child("labels").key(&label), text, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(labels: &[(&str, &str)]) -> (String, String) {
        let labels = labels.iter().map(|(name, value)| (format!("{PREFIX}{name}"), json!(value))).collect();
        let (policy, errors) = Policy::of(Some(&labels), Policy::default());
        let modes = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (modes, errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn labels_say_what_is_wanted() {
        let modes = |labels: &[(&str, &str)]| policy(labels).0;
        assert_eq!(modes(&[]), "privileged:latest privileged:latest privileged:latest");
        assert_eq!(
            modes(&[("enforce", "baseline"), ("enforce-version", "v1.24")]),
            "baseline:v1.24 privileged:latest baseline:v1.24"
        );
        assert_eq!(
            modes(&[
                ("enforce", "baseline"),
                ("warn", "restricted"),
                ("audit", "restricted"),
                ("audit-version", "v1.0")
            ]),
            "baseline:latest restricted:v1.0 restricted:latest"
        );
    }

    #[test]
    fn unreadable_labels_are_named_and_fail_safe() {
        let (modes, errors) = policy(&[("enforce", "strict"), ("warn", "strict"), ("audit-version", "v1.01")]);
        assert_eq!(modes, "restricted:latest privileged:latest privileged:latest");
        assert_eq!(
            errors,
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, \
             baseline, restricted\n\
             metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.01\": must be \"latest\" or \
             \"v1.x\"\n\
             metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"strict\": must be one of privileged, \
             baseline, restricted"
        );
    }
}
