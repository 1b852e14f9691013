//! THE table of built-in kinds: a row per kind.

use std::sync::LazyLock;

use crate::kind::KindDef;
use crate::{
    admissionregistration, apiextensions, apiregistration, apps, authentication, authorization, autoscaling, batch,
    certificates, coordination, core, discovery, events, flowcontrol, networking, node, policy, rbac, resource,
    scheduling, storage,
};

static ALL: LazyLock<Vec<KindDef>> = LazyLock::new(|| {
    vec![
        core::binding::definition(),
        core::component_status::definition(),
        core::config_map::definition(),
        core::endpoints::definition(),
        core::event::definition(),
        core::limit_range::definition(),
        core::namespace::definition(),
        core::node::definition(),
        core::persistent_volume::definition(),
        core::persistent_volume_claim::definition(),
        core::pod::definition(),
        core::pod_template::definition(),
        core::replication_controller::definition(),
        core::resource_quota::definition(),
        core::secret::definition(),
        core::service::definition(),
        core::service_account::definition(),
        admissionregistration::mutating_admission_policy::definition(),
        admissionregistration::mutating_admission_policy_binding::definition(),
        admissionregistration::mutating_webhook_configuration::definition(),
        admissionregistration::validating_admission_policy::definition(),
        admissionregistration::validating_admission_policy_binding::definition(),
        admissionregistration::validating_webhook_configuration::definition(),
        apiextensions::custom_resource_definition::definition(),
        apiregistration::api_service::definition(),
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
        autoscaling::horizontal_pod_autoscaler::definition(),
        autoscaling::horizontal_pod_autoscaler_v1::definition(),
        batch::cron_job::definition(),
        batch::job::definition(),
        certificates::certificate_signing_request::definition(),
        coordination::lease::definition(),
        discovery::endpoint_slice::definition(),
        events::event::definition(),
        flowcontrol::flow_schema::definition(),
        flowcontrol::priority_level_configuration::definition(),
        networking::ingress::definition(),
        networking::ingress_class::definition(),
        networking::ip_address::definition(),
        networking::network_policy::definition(),
        networking::service_cidr::definition(),
        node::runtime_class::definition(),
        policy::pod_disruption_budget::definition(),
        rbac::cluster_role::definition(),
        rbac::cluster_role_binding::definition(),
        rbac::role::definition(),
        rbac::role_binding::definition(),
        resource::device_class::definition(),
        resource::resource_claim::definition(),
        resource::resource_claim_template::definition(),
        resource::resource_slice::definition(),
        scheduling::priority_class::definition(),
        storage::csi_driver::definition(),
        storage::csi_node::definition(),
        storage::csi_storage_capacity::definition(),
        storage::storage_class::definition(),
        storage::volume_attachment::definition(),
        storage::volume_attributes_class::definition(),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_stands_once_and_has_its_type() {
        let mut resources = BTreeSet::new();
        let mut kinds = BTreeSet::new();
        for kind in all() {
            assert!(resources.insert((&kind.group, &kind.version, &kind.plural)), "{}", kind.group_resource());
            assert!(kinds.insert((&kind.group, &kind.version, &kind.kind)), "{}", kind.group_resource());
            let mut object = json!({});
            kind.schema().default(&mut object);
        }
    }

    #[test]
    fn short_names_mean_one_resource() {
        let mut names = BTreeSet::new();
        for kind in all().iter().filter(|k| k.stored_as.is_none()) {
            for name in &kind.short_names {
                assert!(names.insert(name), "{name}");
            }
        }
    }

    /// Rules meet whatever a client sends: nothing may panic on objects of odd shapes.
    #[test]
    fn odd_objects_are_answered_with_errors() {
        let odd = [
            json!({}),
            json!({"metadata": 1, "spec": [], "status": "x"}),
            json!({"metadata": {"labels": []}, "spec": {"template": 1, "containers": {}, "ports": 3, "rules": "x"}}),
            json!({"spec": {"containers": [1, null], "volumes": [[]], "strategy": 1, "template": {"spec": 7}}}),
        ];
        for kind in all() {
            for object in &odd {
                let mut new = object.clone();
                kind.strategy.default(&mut new);
                kind.strategy.prepare_for_update(&mut new, object);
                kind.strategy.prepare_for_status_update(&mut new, object);
                kind.strategy.prepare_for_create(&mut new);
                let mut errors = crate::metadata::validate_update(kind, &new, object);
                errors.extend(kind.strategy.validate_update(&new, object));
                errors.extend(kind.strategy.validate_status_update(&new, object));
                assert!(!errors.is_empty(), "{}", kind.group_resource());
                kind.strategy.warnings(&new);
                let context = crate::CellContext { now: jiff::Timestamp::UNIX_EPOCH };
                for column in &kind.columns {
                    column.render(&new, &context);
                }
            }
        }
    }
}
