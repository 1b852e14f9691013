//! Rules of a pod's spec, for pods and for templates.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{container, scheduling, security, volume};
use crate::field::{Field, FieldError};
use crate::names;
use crate::rules;

/// Whose spec it is: a few rules only hold for real pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Pod,
    Template,
}

pub fn validate(spec: &Field, owner: Owner, errors: &mut Vec<FieldError>) {
    let volumes = volume::validate(&spec.get("volumes"), errors);
    let host_network = spec.get("hostNetwork").bool().unwrap_or_default();
    let claims = resource_claims(&spec.get("resourceClaims"), errors);
    let grace = spec.get("terminationGracePeriodSeconds").int();
    let context = container::Context { volumes: &volumes, host_network, claims: &claims, grace };
    container::validate_all(spec, &context, errors);
    rules::one_of(&spec.get("restartPolicy"), &["Always", "OnFailure", "Never"], errors);
    dns(spec, errors);
    addresses_and_names(spec, errors);
    scheduling::validate(spec, errors);
    security::pod(&spec.get("securityContext"), errors);
    host_namespaces(spec, errors);
    for secret in spec.get("imagePullSecrets").items() {
        rules::required(&secret.get("name"), errors);
    }
    rules::between(&spec.get("activeDeadlineSeconds"), 1, i64::from(i32::MAX), errors);
    if owner == Owner::Template && !spec.get("ephemeralContainers").is_empty() {
        errors.push(spec.get("ephemeralContainers").forbidden("ephemeral containers not allowed in pod template"));
    }
    if owner == Owner::Pod && !spec.get("schedulingGates").is_empty() && !spec.get("nodeName").is_empty() {
        errors.push(spec.get("nodeName").forbidden("cannot be set until all schedulingGates have been cleared"));
    }
}

/// Checks the claims of a pod; their names.
fn resource_claims<'v>(claims: &Field<'v, '_>, errors: &mut Vec<FieldError>) -> BTreeSet<&'v str> {
    let mut names = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if rules::required(&name, errors) {
            if names.insert(name.text()) {
                rules::form(&name, names::dns_label, errors);
            } else {
                errors.push(name.duplicate());
            }
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"].map(|source| claim.get(source).is_set());
        match sources {
            [true, true] => errors.push(
                claim.invalid("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"),
            ),
            [false, false] => {
                errors.push(claim.invalid("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"));
            }
            _ => {}
        }
    }
    names
}

/// Namespaces of the node that a pod may not have beside others of its own.
fn host_namespaces(spec: &Field, errors: &mut Vec<FieldError>) {
    let set = |name: &str| spec.get(name).bool() == Some(true);
    if set("hostPID") && set("shareProcessNamespace") {
        let context = spec.get("securityContext");
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&context.path.child("shareProcessNamespace"), true, detail));
    }
    if spec.get("hostUsers").bool() == Some(false) {
        // Kubernetes names the fields of its own code.
        for (name, shown) in [("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if set(name) {
                errors.push(FieldError::forbidden(&spec.path.child(shown), "when `pod.Spec.HostUsers` is false"));
            }
        }
    }
}

fn addresses_and_names(spec: &Field, errors: &mut Vec<FieldError>) {
    for (field, form) in [
        ("serviceAccountName", names::dns_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns_subdomain),
        ("priorityClassName", names::dns_subdomain),
        ("runtimeClassName", names::dns_subdomain),
        ("schedulerName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
    ] {
        rules::maybe_form(&spec.get(field), form, errors);
    }
    rules::maybe_one_of(&spec.get("preemptionPolicy"), &["Never", "PreemptLowerPriority"], errors);
    let os = spec.get("os");
    if os.is_set() {
        rules::one_of(&os.get("name"), &["linux", "windows"], errors);
    }
    for alias in spec.get("hostAliases").items() {
        rules::ip(&alias.get("ip"), errors);
        for name in alias.get("hostnames").items() {
            rules::form(&name, names::dns_subdomain, errors);
        }
    }
    for gate in spec.get("readinessGates").items() {
        rules::form(&gate.get("conditionType"), names::qualified_name, errors);
    }
    let mut gates = BTreeSet::new();
    for gate in spec.get("schedulingGates").items() {
        let name = gate.get("name");
        rules::form(&name, names::qualified_name, errors);
        if !gates.insert(name.text()) {
            errors.push(FieldError::duplicate(&gate.path, name.text()));
        }
    }
}

fn dns(spec: &Field, errors: &mut Vec<FieldError>) {
    const MAX_NAMESERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
    const MAX_SEARCH_BYTES: usize = 2048;
    let (policy, config) = (spec.get("dnsPolicy"), spec.get("dnsConfig"));
    rules::one_of(&policy, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"], errors);
    let nameservers = config.get("nameservers");
    if policy.text() == "None" {
        if !config.is_set() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
        } else if nameservers.is_empty() {
            errors.push(nameservers.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
    }
    if nameservers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(nameservers.invalid(detail));
    }
    for server in nameservers.items() {
        rules::ip(&server, errors);
    }
    let searches = config.get("searches");
    if searches.len() > MAX_SEARCHES {
        errors.push(searches.invalid(format!("must not have more than {MAX_SEARCHES} search paths")));
    }
    let bytes: usize = searches.items().map(|s| s.text().len() + 1).sum();
    if bytes > MAX_SEARCH_BYTES + 1 {
        let detail =
            format!("must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list");
        errors.push(searches.invalid(detail));
    }
    for search in searches.items() {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        let wrong = if name.is_empty() { Vec::new() } else { names::dns_subdomain(&name.replace('_', "-")) };
        errors.extend(wrong.into_iter().map(|wrong| search.invalid(wrong)));
    }
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}

/// What is allowed, but likely not meant.
pub fn warnings(spec: &Field) -> Vec<String> {
    let mut warnings = Vec::new();
    let deprecated = ["beta.kubernetes.io/arch", "beta.kubernetes.io/os"];
    for (key, label) in spec.get("nodeSelector").entries() {
        if deprecated.contains(&key) {
            warnings.push(format!("{}: deprecated since v1.14; use \"{}\" instead", label.path, &key[5..]));
        }
    }
    if spec.get("terminationGracePeriodSeconds").int().is_some_and(|s| s < 0) {
        let path = spec.get("terminationGracePeriodSeconds").path.to_string();
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get(list).items() {
            let mut seen = BTreeSet::new();
            for variable in container.get("env").items() {
                if !seen.insert(variable.get("name").text()) {
                    let name = variable.get("name").text();
                    warnings.push(format!(
                        "{}: hides previous definition of \"{name}\", which may be dropped when using apply",
                        variable.path
                    ));
                }
            }
        }
    }
    for alias in spec.get("hostAliases").items() {
        let ip = alias.get("ip");
        if ip.text().parse::<IpAddr>().is_ok_and(|parsed| parsed.to_string() != ip.text()) {
            warnings.push(format!(
                "{}: non-standard IP address {:?} will be considered invalid in a future Kubernetes release",
                ip.path,
                ip.text()
            ));
        }
    }
    warnings
}
