//! THE table of built-in kinds: a row per kind.

use std::sync::LazyLock;

use crate::kind::KindDef;
use crate::{apps, authentication, authorization, coordination, core, discovery, events, networking, node, rbac};

static ALL: LazyLock<Vec<KindDef>> = LazyLock::new(|| {
    vec![
        core::config_map::definition(),
        core::event::definition(),
        core::namespace::definition(),
        core::node::definition(),
        core::persistent_volume::definition(),
        core::persistent_volume_claim::definition(),
        core::pod::definition(),
        core::pod_template::definition(),
        core::replication_controller::definition(),
        core::secret::definition(),
        core::service::definition(),
        core::service_account::definition(),
        apps::controller_revision::definition(),
        apps::daemon_set::definition(),
        apps::deployment::definition(),
        apps::replica_set::definition(),
        apps::stateful_set::definition(),
        authentication::self_subject_review::definition(),
        authentication::token_review::definition(),
        authorization::local_subject_access_review::definition(),
        authorization::self_subject_access_review::definition(),
        authorization::self_subject_rules_review::definition(),
        authorization::subject_access_review::definition(),
        coordination::lease::definition(),
        discovery::endpoint_slice::definition(),
        events::event::definition(),
        networking::ingress::definition(),
        networking::ingress_class::definition(),
        node::runtime_class::definition(),
        rbac::cluster_role::definition(),
        rbac::cluster_role_binding::definition(),
        rbac::role::definition(),
        rbac::role_binding::definition(),
    ]
});

/// Every built-in kind.
pub fn all() -> &'static [KindDef] {
    &ALL
}

/// The kind that is served at `/apis/{group}/{version}/…/{plural}` (`/api/{version}` for the empty group).
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static KindDef> {
    all().iter().find(|k| k.plural == plural && k.group == group && k.version == version)
}

/// The kind that objects with this `apiVersion` and `kind` have.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static KindDef> {
    all().iter().find(|k| k.kind == kind && k.group == group && k.version == version)
}
