//! What may be written, and what is filled in on the way: the ordered table of admission plugins.
//!
//! All of them `admit` in order, then all of them `validate`. To add one: a file, a `mod` line, a row in [`all`].
//! ResourceQuota comes after all of them, in the write's transaction ([`crate::effects`]).

mod default_ingress_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod owner_references;
pub mod pod_security;
mod priority;
mod rbac_escalation;
mod runtime_class;
mod service_account;
mod taint_nodes_by_condition;
#[cfg(test)]
pub mod testing;
mod wasm_architecture;

use std::sync::Arc;

use k8w_kinds::object::text;

use crate::authz::rbac::Rbac;
use crate::config::Config;
use crate::plugins::{Admission, AdmissionRequest, Authorizer, Operation};
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
        Arc::new(runtime_class::RuntimeClass),
        Arc::new(default_ingress_class::DefaultIngressClass),
        Arc::new(owner_references::OwnerReferencesPermissionEnforcement::new(authorizers.to_vec())),
        Arc::new(rbac_escalation::RbacEscalation::new(rbac.clone(), authorizers.to_vec())),
    ]
}

/// Whether the request is about the resource itself (no subresource).
fn is(request: &AdmissionRequest<'_>, operation: Operation, group: &str, plural: &str) -> bool {
    request.operation == operation && request.subresource.is_empty() && is_kind(request, group, plural)
}

fn is_kind(request: &AdmissionRequest<'_>, group: &str, plural: &str) -> bool {
    request.resource.plural == plural && request.resource.group == group
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
