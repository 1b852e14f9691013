//! What admission plugins are told at start: the file that `--admission-control-config-file` names
//! (`apiserver.config.k8s.io/v1` AdmissionConfiguration).

use k8w_kinds::pod_security::Policy;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::pod_security::Settings;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("it is no AdmissionConfiguration: {0}")]
    Form(String),
    #[error("{found:?} is not {expected:?}")]
    Kind { expected: &'static str, found: String },
    #[error("the plugin {0} takes no configuration")]
    Plugin(String),
    #[error("the configuration of PodSecurity is needed in place, as `configuration`: {0}")]
    Path(String),
    #[error("the configuration of PodSecurity is wrong: {0}")]
    PodSecurity(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AdmissionConfiguration {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    configuration: Option<Value>,
}

/// `pod-security.admission.config.k8s.io/v1` PodSecurityConfiguration.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodSecurityConfiguration {
    api_version: String,
    kind: String,
    /// Keyed as the labels of namespaces are, without their prefix.
    #[serde(default)]
    defaults: Map<String, Value>,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Exemptions {
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

/// Reads the file's text.
///
/// # Errors
/// [`ConfigurationError`], also for plugins that cannot be configured.
pub fn read(yaml: &str) -> Result<Settings, ConfigurationError> {
    let file: AdmissionConfiguration =
        serde_saphyr::from_str(yaml).map_err(|error| ConfigurationError::Form(error.to_string()))?;
    check(&file.api_version, "apiserver.config.k8s.io/v1")?;
    check(&file.kind, "AdmissionConfiguration")?;
    let mut settings = Settings::default();
    for plugin in file.plugins {
        if plugin.name != "PodSecurity" {
            return Err(ConfigurationError::Plugin(plugin.name));
        }
        if !plugin.path.is_empty() {
            return Err(ConfigurationError::Path(plugin.path));
        }
        if let Some(configuration) = plugin.configuration {
            settings = pod_security(configuration)?;
        }
    }
    Ok(settings)
}

fn pod_security(configuration: Value) -> Result<Settings, ConfigurationError> {
    let wrong = |error: String| ConfigurationError::PodSecurity(error);
    let configuration: PodSecurityConfiguration =
        serde_json::from_value(configuration).map_err(|error| wrong(error.to_string()))?;
    check(&configuration.api_version, "pod-security.admission.config.k8s.io/v1")?;
    check(&configuration.kind, "PodSecurityConfiguration")?;
    const MODES: &[&str] = &["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"];
    let defaults = &configuration.defaults;
    if let Some(unknown) = defaults.keys().find(|key| !MODES.contains(&key.as_str())) {
        return Err(wrong(format!("defaults: unknown field {unknown:?}")));
    }
    let label = |mode: &str| format!("pod-security.kubernetes.io/{mode}");
    let mut labels: Map<String, Value> = defaults.iter().map(|(mode, level)| (label(mode), level.clone())).collect();
    // Unlike a namespace that enforces something, a default does not warn of it by itself.
    labels.entry(label("warn")).or_insert_with(|| "privileged".into());
    let (defaults, errors) = Policy::of(Some(&labels), Policy::default());
    if let Some(error) = errors.first() {
        return Err(wrong(format!("defaults: {}", error.body())));
    }
    let Exemptions { usernames, runtime_classes, namespaces } = configuration.exemptions;
    Ok(Settings {
        defaults,
        exempt_namespaces: namespaces,
        exempt_users: usernames,
        exempt_runtime_classes: runtime_classes,
    })
}

fn check(found: &str, expected: &'static str) -> Result<(), ConfigurationError> {
    if found == expected { Ok(()) } else { Err(ConfigurationError::Kind { expected, found: found.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(plugins: &str) -> String {
        format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: AdmissionConfiguration, plugins: [{plugins}]}}")
    }

    fn with(configuration: &str) -> Result<Settings, ConfigurationError> {
        let head = "apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration";
        read(&file(&format!("{{name: PodSecurity, configuration: {{{head}, {configuration}}}}}")))
    }

    #[test]
    fn pod_security_has_defaults_and_exemptions() {
        let settings = with(
            "defaults: {enforce: baseline, enforce-version: v1.30, warn: restricted}, \
             exemptions: {usernames: [jane], runtimeClasses: [vm], namespaces: [kube-system]}",
        );
        let settings = settings.unwrap();
        assert_eq!(settings.defaults.enforce.to_string(), "baseline:v1.30");
        assert_eq!(settings.defaults.warn.to_string(), "restricted:latest");
        assert_eq!(settings.exempt_namespaces, ["kube-system"]);
        assert_eq!((settings.exempt_users, settings.exempt_runtime_classes), (vec!["jane".into()], vec!["vm".into()]));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let refused = |result: Result<Settings, ConfigurationError>| result.map(drop).unwrap_err().to_string();
        for (result, why) in [
            (read("{}"), "it is no AdmissionConfiguration"),
            (read(&file("").replace("/v1,", "/v2,")), "is not \"apiserver.config.k8s.io/v1\""),
            (read(&file("{name: ImagePolicyWebhook}")), "the plugin ImagePolicyWebhook takes no configuration"),
            (read(&file("{name: PodSecurity, path: other.yaml}")), "other.yaml"),
            (with("defaults: {enforce: strict}"), "defaults: Invalid value: \"strict\""),
            (with("defaults: {forbid: baseline}"), "unknown field \"forbid\""),
            (with("exemptions: {groups: [dev]}"), "groups"),
        ] {
            let refused = refused(result);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
