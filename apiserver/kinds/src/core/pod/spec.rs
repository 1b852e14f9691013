//! Rules of a pod's spec, for pods and for templates.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{annotations, container, env, mirror, resources, scheduling, security, volume, windows};
use crate::field::{Field, FieldError, FieldPath};
use crate::object::text;
use crate::{metadata, names, rules};

/// Whose spec it is: a few rules only hold for real pods.
#[derive(Clone, Copy, Debug)]
pub enum Owner<'v> {
    Pod(&'v Value),
    Template,
}

impl Owner<'_> {
    /// The pod's name; a template makes pods of any.
    fn name(&self) -> &str {
        match self {
            Owner::Pod(pod) => text(pod, &["metadata", "name"]),
            Owner::Template => "",
        }
    }

    fn is_pod(&self) -> bool {
        matches!(self, Owner::Pod(_))
    }

    fn is_mirror(&self) -> bool {
        matches!(self, Owner::Pod(pod) if mirror::mirrored(pod).is_some())
    }
}

/// Checks a whole pod but for its metadata's form: its annotations, its spec, and what only holds for real pods.
pub fn validate_pod(pod: &Value, errors: &mut Vec<FieldError>) {
    let root = Field::root(pod);
    let (meta, spec) = (root.get("metadata"), root.get("spec"));
    annotations::validate(&meta.get("annotations"), &spec, errors);
    validate(&spec, Owner::Pod(pod), errors);
    if spec.get("serviceAccountName").is_empty() {
        for volume in spec.get("volumes").items() {
            for source in volume.get("projected").get("sources").items() {
                let token = source.get("serviceAccountToken");
                if token.is_set() {
                    errors.push(token.forbidden("must not be specified when serviceAccountName is not set"));
                }
            }
        }
    }
    container::validate_of_pod(&spec, errors);
}

pub fn validate(spec: &Field, owner: Owner, errors: &mut Vec<FieldError>) {
    let set = |name: &str| spec.get(name).bool() == Some(true);
    let (host_network, host_users) = (set("hostNetwork"), spec.get("hostUsers").bool() != Some(false));
    rules::required(&spec.get("terminationGracePeriodSeconds"), errors);
    let volumes = volume::validate(&spec.get("volumes"), owner.name(), errors);
    let claims = resource_claims(&spec.get("resourceClaims"), owner.is_mirror(), errors);
    let context = container::Context {
        volumes: &volumes,
        claims: &claims,
        grace: spec.get("terminationGracePeriodSeconds").int(),
        host_users,
        restart_policy: spec.get("restartPolicy").text(),
    };
    container::validate_all(spec, &context, errors);
    resources::validate_pod_level(spec, &claims, errors);
    if host_network {
        container::node_ports(&spec.get("containers"), owner.is_pod(), errors);
    }
    rules::one_of(&spec.get("restartPolicy"), &["Always", "OnFailure", "Never"], errors);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    rules::one_of(&spec.get("dnsPolicy"), &policies, errors);
    metadata::labels(&spec.get("nodeSelector"), errors);
    security::pod(spec, errors);
    scheduling::affinity(&spec.get("affinity"), errors);
    dns(spec, errors);
    for gate in spec.get("readinessGates").items() {
        rules::form(&gate.get("conditionType"), names::qualified_name, errors);
    }
    scheduling::gates(&spec.get("schedulingGates"), errors);
    scheduling::spread(&spec.get("topologySpreadConstraints"), errors);
    windows::host_processes(spec, errors);
    if !host_users {
        own_users(spec, errors);
    }
    names(spec, host_network, errors);
    resources::validate_overhead(&spec.get("overhead"), errors);
    windows::os(spec, errors);
    let all_volumes = spec.get("volumes");
    container::each(spec, |container| env::validate_files(container, &all_volumes, errors));
}

/// Checks the claims of a pod; their names. A mirror pod has none: its node runs it without asking anybody.
fn resource_claims<'v>(claims: &Field<'v, '_>, mirror: bool, errors: &mut Vec<FieldError>) -> BTreeSet<&'v str> {
    let mut names = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if mirror {
            errors.push(FieldError::forbidden(&FieldPath::ROOT, "static pods do not support resource claims"));
            names.insert(name.text());
            continue;
        }
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
        for source in ["resourceClaimName", "resourceClaimTemplateName"] {
            let source = claim.get(source);
            if source.is_set() {
                rules::form(&source, names::dns_subdomain, errors);
            }
        }
    }
    names
}

/// What a pod with users of its own cannot share with its node, or have from it.
fn own_users(spec: &Field, errors: &mut Vec<FieldError>) {
    const DETAIL: &str = "when `hostUsers` is false";
    // Kubernetes names two of the fields as its own code does.
    for (name, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(name).bool() == Some(true) {
            errors.push(FieldError::forbidden(&spec.path.child(shown), DETAIL));
        }
    }
    container::each(spec, |container| {
        let devices = container.get("volumeDevices");
        if !devices.is_empty() {
            errors.push(devices.forbidden(DETAIL));
        }
    });
}

/// Checks what a pod is called, and what it calls others.
fn names(spec: &Field, host_network: bool, errors: &mut Vec<FieldError>) {
    host_name(spec, host_network, errors);
    rules::maybe_form(&spec.get("serviceAccountName"), names::dns_subdomain, errors);
    rules::maybe_form(&spec.get("nodeName"), names::dns_subdomain, errors);
    rules::between(&spec.get("activeDeadlineSeconds"), 1, i64::from(i32::MAX), errors);
    rules::maybe_form(&spec.get("hostname"), names::dns_label, errors);
    rules::maybe_form(&spec.get("subdomain"), names::dns_label, errors);
    scheduling::tolerations(&spec.get("tolerations"), errors);
    for alias in spec.get("hostAliases").items() {
        rules::ip(&alias.get("ip"), errors);
        for name in alias.get("hostnames").items() {
            rules::form(&name, names::dns_subdomain, errors);
        }
    }
    rules::maybe_form(&spec.get("priorityClassName"), names::dns_subdomain, errors);
    let (runtime, preemption) = (spec.get("runtimeClassName"), spec.get("preemptionPolicy"));
    if runtime.is_set() {
        rules::form(&runtime, names::dns_subdomain, errors);
    }
    if preemption.is_set() {
        rules::one_of(&preemption, &["PreemptLowerPriority", "Never"], errors);
    }
}

fn host_name(spec: &Field, host_network: bool, errors: &mut Vec<FieldError>) {
    const MAX_BYTES: usize = 64;
    let name = spec.get("hostnameOverride");
    if !name.is_set() {
        return;
    }
    if spec.get("setHostnameAsFQDN").bool() == Some(true) {
        errors.push(name.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if host_network {
        errors.push(name.forbidden("may not be specified when hostNetwork is true"));
    }
    if name.text().len() > MAX_BYTES {
        errors.push(FieldError::too_long(&name.path, MAX_BYTES));
    }
    rules::form(&name, names::dns_subdomain, errors);
}

fn dns(spec: &Field, errors: &mut Vec<FieldError>) {
    const MAX_NAMESERVERS: usize = 3;
    const MAX_SEARCHES: usize = 32;
    const MAX_SEARCH_BYTES: usize = 2048;
    let (policy, config) = (spec.get("dnsPolicy"), spec.get("dnsConfig"));
    let nameservers = config.get("nameservers");
    if policy.text() == "None" {
        if !config.is_set() {
            return errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        if nameservers.is_empty() {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.push(nameservers.required(detail));
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
    for search in searches.items().filter(|search| search.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        let wrong = names::dns_subdomain_with_underscores(name).into_iter();
        errors.extend(wrong.map(|wrong| FieldError::invalid(&search.path, name, wrong)));
    }
    for option in config.get("options").items() {
        if option.get("name").is_empty() {
            errors.push(option.required("must not be empty"));
        }
    }
}
