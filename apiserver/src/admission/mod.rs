//! What may be written, and what is filled in on the way: the ordered table of admission plugins.
//!
//! All of them `admit` in order, then all of them `validate`. To add one: a file, a `mod` line, a row in [`all`].
//! ResourceQuota comes after all of them, in the write's transaction ([`crate::effects`]).

mod certificate_approval;
mod certificate_requester;
mod certificate_signing;
mod certificate_subject_restriction;
pub mod configuration;
mod default_ingress_class;
mod default_storage_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod owner_references;
mod persistent_volume_claim_resize;
pub mod pod_security;
mod pod_topology_labels;
mod priority;
mod rbac_escalation;
mod runtime_class;
mod service_account;
mod storage_object_in_use_protection;
mod taint_nodes_by_condition;
#[cfg(test)]
pub mod testing;
mod wasm_architecture;

use std::sync::Arc;

use k8w_kinds::object::text;
use serde_json::Value;

use crate::authz::{self, rbac::Rbac};
use crate::config::Config;
use crate::identity::Attributes;
use crate::plugins::{Admission, AdmissionRequest, Authorizer, Decision, Operation};
use crate::request_info::RequestInfo;
use crate::resources::Resource;
use crate::status::Status;
use crate::watch_cache::WatchCache;

/// The admission plugins of a cluster, in order.
pub fn all(
    config: &Config,
    cache: &WatchCache,
    rbac: &Arc<Rbac>,
    authorizers: &[Arc<dyn Authorizer>],
) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle::new(cache)),
        Arc::new(limit_ranger::LimitRanger),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(service_account::ServiceAccount),
        Arc::new(taint_nodes_by_condition::TaintNodesByCondition),
        Arc::new(pod_security::PodSecurity::new(config.pod_security.clone())),
        Arc::new(wasm_architecture::WasmArchitecture),
        Arc::new(priority::Priority),
        Arc::new(default_toleration_seconds::DefaultTolerationSeconds),
        Arc::new(default_storage_class::DefaultStorageClass),
        Arc::new(storage_object_in_use_protection::StorageObjectInUseProtection),
        Arc::new(owner_references::OwnerReferencesPermissionEnforcement::new(authorizers.to_vec())),
        Arc::new(persistent_volume_claim_resize::PersistentVolumeClaimResize),
        Arc::new(runtime_class::RuntimeClass),
        Arc::new(certificate_requester::CertificateRequester),
        Arc::new(certificate_approval::CertificateApproval::new(authorizers.to_vec())),
        Arc::new(certificate_signing::CertificateSigning::new(authorizers.to_vec())),
        Arc::new(certificate_subject_restriction::CertificateSubjectRestriction),
        Arc::new(default_ingress_class::DefaultIngressClass),
        Arc::new(pod_topology_labels::PodTopologyLabels),
        Arc::new(rbac_escalation::RbacEscalation::new(rbac.clone(), authorizers.to_vec())),
    ]
}

/// What Kubernetes runs unless told otherwise and no cluster of k8w runs: to leave these out is to have what there is.
pub const NEVER_RUN: [&str; 5] = [
    "ClusterTrustBundleAttest",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
];

/// Lets the plugins see and change an object, in order.
pub async fn admit(plugins: &[Arc<dyn Admission>], request: &mut AdmissionRequest<'_>) -> Result<(), Status> {
    for plugin in plugins {
        if looks_at(&**plugin, request.resource) {
            plugin.admit(request).await?;
        }
    }
    Ok(())
}

/// Lets them refuse what would be stored.
pub async fn validate(plugins: &[Arc<dyn Admission>], request: &AdmissionRequest<'_>) -> Result<(), Status> {
    for plugin in plugins {
        if looks_at(&**plugin, request.resource) {
            plugin.validate(request).await?;
        }
    }
    Ok(())
}

fn looks_at(plugin: &dyn Admission, resource: &Resource) -> bool {
    plugin.resources().is_none_or(|resources| resources.iter().any(|(group, plural)| resource.is(group, plural)))
}

/// Whether the request does this to the object itself (no subresource).
fn is(request: &AdmissionRequest<'_>, operation: Operation) -> bool {
    request.operation == operation && request.subresource.is_empty()
}

fn is_kind(request: &AdmissionRequest<'_>, group: &str, plural: &str) -> bool {
    request.resource.is(group, plural)
}

/// Of the classes that an annotation makes the cluster's default the newest, or the first by name.
fn newest_default(classes: impl Iterator<Item = Value>, annotations: &[&str]) -> Option<Value> {
    let is_default =
        |class: &Value| annotations.iter().any(|name| text(class, &["metadata", "annotations", name]) == "true");
    let created = |class: &Value| text(class, &["metadata", "creationTimestamp"]).to_owned();
    classes.filter(is_default).reduce(|best, class| if created(&class) > created(&best) { class } else { best })
}

/// Whether the request's user may do something else too.
fn may(authorizers: &[Arc<dyn Authorizer>], request: &AdmissionRequest<'_>, verb: &str, info: &RequestInfo) -> bool {
    let attributes = Attributes { user: request.user, verb, info };
    authz::decide(authorizers, &attributes) == Decision::Allow
}

/// Whether the request's user may use a signer: by its name, or all those of its domain (`example.com/*`).
fn may_use_signer(
    authorizers: &[Arc<dyn Authorizer>],
    request: &AdmissionRequest<'_>,
    verb: &str,
    signer: &str,
) -> bool {
    let named = |name: &str| RequestInfo {
        is_resource_request: true,
        group: certificate_requester::GROUP.to_owned(),
        version: "*".to_owned(),
        resource: "signers".to_owned(),
        name: name.to_owned(),
        ..RequestInfo::default()
    };
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    [signer, &format!("{domain}/*")].iter().any(|name| may(authorizers, request, verb, &named(name)))
}

/// 403 as admission words it: `pods "x" is forbidden: …`.
fn forbidden(request: &AdmissionRequest<'_>, why: impl std::fmt::Display) -> Status {
    let name = [
        request.name,
        text(request.object, &["metadata", "name"]),
        text(request.object, &["metadata", "generateName"]),
    ];
    let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or("Unknown");
    Status::forbidden(&request.resource.group, &request.resource.plural, name, why)
}
