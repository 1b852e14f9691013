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

    /// Where each kind lives and what clients call it, beside its plural name: the singular where it is not the kind in
    /// small letters, short names, categories (`+`), what it has below it (`/`), and what selects it (`?`).
    #[test]
    fn names_are_those_of_kubernetes() {
        let shown = |kind: &KindDef| {
            let mut words = vec![if kind.namespaced { "namespaced" } else { "cluster" }.to_owned()];
            let singular = (kind.singular != kind.kind.to_lowercase()).then(|| kind.singular.to_string());
            words.extend(singular);
            words.extend(kind.short_names.iter().map(ToString::to_string));
            words.extend(kind.categories.iter().map(|category| format!("+{category}")));
            words.extend(kind.subresources.iter().map(|sub| format!("/{}", sub.name)));
            words.extend(kind.selectable_fields.iter().map(|field| format!("?{}", field.path)));
            format!("{} {}: {}\n", kind.api_version(), kind.plural, words.join(" "))
        };
        expect_test::expect![[r#"
            v1 bindings: namespaced
            v1 componentstatuses: cluster cs
            v1 configmaps: namespaced cm
            v1 endpoints: namespaced ep
            v1 events: namespaced ev ?involvedObject.kind ?involvedObject.namespace ?involvedObject.name ?involvedObject.uid ?involvedObject.apiVersion ?involvedObject.resourceVersion ?involvedObject.fieldPath ?reason ?type ?reportingComponent ?source
            v1 limitranges: namespaced limits
            v1 namespaces: cluster ns /finalize /status ?status.phase
            v1 nodes: cluster no /proxy /status ?spec.unschedulable
            v1 persistentvolumes: cluster pv /status
            v1 persistentvolumeclaims: namespaced pvc /status
            v1 pods: namespaced po +all /attach /binding /ephemeralcontainers /eviction /exec /log /portforward /proxy /resize /status ?spec.nodeName ?spec.restartPolicy ?spec.schedulerName ?spec.serviceAccountName ?spec.hostNetwork ?status.phase ?status.podIP ?status.podIPs ?status.nominatedNodeName
            v1 podtemplates: namespaced
            v1 replicationcontrollers: namespaced rc +all /scale /status ?status.replicas
            v1 resourcequotas: namespaced quota /status
            v1 secrets: namespaced ?type
            v1 services: namespaced svc +all /proxy /status ?spec.clusterIP ?spec.type
            v1 serviceaccounts: namespaced sa /token
            admissionregistration.k8s.io/v1 mutatingadmissionpolicies: cluster +api-extensions
            admissionregistration.k8s.io/v1 mutatingadmissionpolicybindings: cluster +api-extensions
            admissionregistration.k8s.io/v1 mutatingwebhookconfigurations: cluster +api-extensions
            admissionregistration.k8s.io/v1 validatingadmissionpolicies: cluster +api-extensions /status
            admissionregistration.k8s.io/v1 validatingadmissionpolicybindings: cluster +api-extensions
            admissionregistration.k8s.io/v1 validatingwebhookconfigurations: cluster +api-extensions
            apiextensions.k8s.io/v1 customresourcedefinitions: cluster crd crds +api-extensions /status
            apiregistration.k8s.io/v1 apiservices: cluster +api-extensions /status
            apps/v1 controllerrevisions: namespaced
            apps/v1 daemonsets: namespaced ds +all /status
            apps/v1 deployments: namespaced deploy +all /scale /status
            apps/v1 replicasets: namespaced rs +all /scale /status ?status.replicas
            apps/v1 statefulsets: namespaced sts +all /scale /status
            authentication.k8s.io/v1 selfsubjectreviews: cluster
            authentication.k8s.io/v1 tokenreviews: cluster
            authorization.k8s.io/v1 localsubjectaccessreviews: namespaced
            authorization.k8s.io/v1 selfsubjectaccessreviews: cluster
            authorization.k8s.io/v1 selfsubjectrulesreviews: cluster
            authorization.k8s.io/v1 subjectaccessreviews: cluster
            autoscaling/v2 horizontalpodautoscalers: namespaced hpa +all /status
            autoscaling/v1 horizontalpodautoscalers: namespaced hpa +all /status
            batch/v1 cronjobs: namespaced cj +all /status
            batch/v1 jobs: namespaced +all /status ?status.successful
            certificates.k8s.io/v1 certificatesigningrequests: cluster csr /approval /status ?spec.signerName
            coordination.k8s.io/v1 leases: namespaced
            discovery.k8s.io/v1 endpointslices: namespaced
            events.k8s.io/v1 events: namespaced ev ?regarding.kind ?regarding.namespace ?regarding.name ?regarding.uid ?regarding.apiVersion ?regarding.resourceVersion ?regarding.fieldPath ?reason ?type ?reportingController
            flowcontrol.apiserver.k8s.io/v1 flowschemas: cluster /status
            flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations: cluster /status
            networking.k8s.io/v1 ingresses: namespaced ing /status
            networking.k8s.io/v1 ingressclasses: cluster
            networking.k8s.io/v1 ipaddresses: cluster ip
            networking.k8s.io/v1 networkpolicies: namespaced netpol
            networking.k8s.io/v1 servicecidrs: cluster /status
            node.k8s.io/v1 runtimeclasses: cluster
            policy/v1 poddisruptionbudgets: namespaced pdb /status
            rbac.authorization.k8s.io/v1 clusterroles: cluster
            rbac.authorization.k8s.io/v1 clusterrolebindings: cluster
            rbac.authorization.k8s.io/v1 roles: namespaced
            rbac.authorization.k8s.io/v1 rolebindings: namespaced
            resource.k8s.io/v1 deviceclasses: cluster
            resource.k8s.io/v1 resourceclaims: namespaced /status
            resource.k8s.io/v1 resourceclaimtemplates: namespaced
            resource.k8s.io/v1 resourceslices: cluster ?spec.driver ?spec.nodeName
            scheduling.k8s.io/v1 priorityclasses: cluster pc
            storage.k8s.io/v1 csidrivers: cluster
            storage.k8s.io/v1 csinodes: cluster
            storage.k8s.io/v1 csistoragecapacities: namespaced
            storage.k8s.io/v1 storageclasses: cluster sc
            storage.k8s.io/v1 volumeattachments: cluster /status
            storage.k8s.io/v1 volumeattributesclasses: cluster vac
        "#]].assert_eq(&all().iter().map(shown).collect::<String>());
    }

    /// What `kubectl get -o wide` prints of each kind that does not have the two columns of all others; `+` marks what
    /// only `-o wide` shows.
    #[test]
    fn columns_are_those_of_kubernetes() {
        let shown = |kind: &KindDef| {
            let names = kind.columns.iter().map(|column| {
                let wide = if column.priority == 0 { "" } else { "+" };
                let type_ = if column.type_ == "string" { String::new() } else { format!(" ({})", column.type_) };
                format!("{wide}{}{type_}", column.name)
            });
            format!("{}: {}\n", kind.group_resource(), names.collect::<Vec<_>>().join(", "))
        };
        let own = all().iter().filter(|kind| kind.columns.iter().all(|column| column.name != "Created At"));
        expect_test::expect![[r#"
            componentstatuses: Name, Status, Message, Error
            configmaps: Name, Data, Age
            endpoints: Name, Endpoints, Age
            events: Last Seen, Type, Reason, Object, +Subobject, +Source, Message, +First Seen, +Count, +Name
            namespaces: Name, Status, Age
            nodes: Name, Status, Roles, Age, Version, +Internal-IP, +External-IP, +OS-Image, +Kernel-Version, +Container-Runtime
            persistentvolumes: Name, Capacity, Access Modes, Reclaim Policy, Status, Claim, StorageClass, VolumeAttributesClass, Reason, Age, +VolumeMode
            persistentvolumeclaims: Name, Status, Volume, Capacity, Access Modes, StorageClass, VolumeAttributesClass, Age, +VolumeMode
            pods: Name, Ready, Status, Restarts, Age, +IP, +Node, +Nominated Node, +Readiness Gates
            podtemplates: Name, Containers, Images, Pod Labels
            replicationcontrollers: Name, Desired (integer), Current (integer), Ready (integer), Age, +Containers, +Images, +Selector
            resourcequotas: Name, Request, Limit, Age
            secrets: Name, Type, Data, Age
            services: Name, Type, Cluster-IP, External-IP, Port(s), Age, +Selector
            serviceaccounts: Name, Secrets, Age
            mutatingadmissionpolicies.admissionregistration.k8s.io: Name, Mutations (integer), ParamKind, Age
            mutatingadmissionpolicybindings.admissionregistration.k8s.io: Name, PolicyName, ParamRef, Age
            mutatingwebhookconfigurations.admissionregistration.k8s.io: Name, Webhooks (integer), Age
            validatingadmissionpolicies.admissionregistration.k8s.io: Name, Validations (integer), ParamKind, Age
            validatingadmissionpolicybindings.admissionregistration.k8s.io: Name, PolicyName, ParamRef, Age
            validatingwebhookconfigurations.admissionregistration.k8s.io: Name, Webhooks (integer), Age
            apiservices.apiregistration.k8s.io: Name, Service, Available, Age
            controllerrevisions.apps: Name, Controller, Revision, Age
            daemonsets.apps: Name, Desired (integer), Current (integer), Ready (integer), Up-to-date (integer), Available (integer), Node Selector, Age, +Containers, +Images, +Selector
            deployments.apps: Name, Ready, Up-to-date, Available, Age, +Containers, +Images, +Selector
            replicasets.apps: Name, Desired (integer), Current (integer), Ready (integer), Age, +Containers, +Images, +Selector
            statefulsets.apps: Name, Ready, Age, +Containers, +Images
            horizontalpodautoscalers.autoscaling: Name, Reference, Targets, MinPods, MaxPods, Replicas, Age
            horizontalpodautoscalers.autoscaling: Name, Reference, Targets, MinPods, MaxPods, Replicas, Age
            cronjobs.batch: Name, Schedule, Timezone, Suspend (boolean), Active (integer), Last Schedule, Age, +Containers, +Images, +Selector
            jobs.batch: Name, Status, Completions, Duration, Age, +Containers, +Images, +Selector
            certificatesigningrequests.certificates.k8s.io: Name, Age, SignerName, Requestor, RequestedDuration, Condition
            leases.coordination.k8s.io: Name, Holder, Age
            endpointslices.discovery.k8s.io: Name, AddressType, Ports, Endpoints, Age
            events.events.k8s.io: Last Seen, Type, Reason, Object, +Subobject, +Source, Message, +First Seen, +Count, +Name
            flowschemas.flowcontrol.apiserver.k8s.io: Name, PriorityLevel, MatchingPrecedence, DistinguisherMethod, Age, MissingPL
            prioritylevelconfigurations.flowcontrol.apiserver.k8s.io: Name, Type, NominalConcurrencyShares, Queues, HandSize, QueueLengthLimit, Age
            ingresses.networking.k8s.io: Name, Class, Hosts, Address, Ports, Age
            ingressclasses.networking.k8s.io: Name, Controller, Parameters, Age
            ipaddresses.networking.k8s.io: Name, ParentRef
            networkpolicies.networking.k8s.io: Name, Pod-Selector, Age
            servicecidrs.networking.k8s.io: Name, CIDRs, Age
            runtimeclasses.node.k8s.io: Name, Handler, Age
            poddisruptionbudgets.policy: Name, Min Available, Max Unavailable, Allowed Disruptions (integer), Age
            clusterrolebindings.rbac.authorization.k8s.io: Name, Role, Age, +Users, +Groups, +ServiceAccounts
            rolebindings.rbac.authorization.k8s.io: Name, Role, Age, +Users, +Groups, +ServiceAccounts
            deviceclasses.resource.k8s.io: Name, Age
            resourceclaims.resource.k8s.io: Name, State, Age
            resourceclaimtemplates.resource.k8s.io: Name, Age
            resourceslices.resource.k8s.io: Name, Node, Driver, Pool, Age
            priorityclasses.scheduling.k8s.io: Name, Value (integer), Global-Default (boolean), Age, PreemptionPolicy
            csidrivers.storage.k8s.io: Name, AttachRequired (boolean), PodInfoOnMount (boolean), StorageCapacity (boolean), TokenRequests, RequiresRepublish (boolean), Modes, Age
            csinodes.storage.k8s.io: Name, Drivers (integer), Age
            csistoragecapacities.storage.k8s.io: Name, StorageClassName, Capacity
            storageclasses.storage.k8s.io: Name, Provisioner, ReclaimPolicy, VolumeBindingMode, AllowVolumeExpansion, Age
            volumeattachments.storage.k8s.io: Name, Attacher, PV, Node, Attached (boolean), Age
            volumeattributesclasses.storage.k8s.io: Name, DriverName, Age
        "#]].assert_eq(&own.map(shown).collect::<String>());
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
                kind.strategy.prepare_for_status_update(&mut new, object, jiff::Timestamp::UNIX_EPOCH);
                kind.strategy.prepare_for_create(&mut new);
                kind.strategy.canonicalize(&mut new);
                let mut errors = crate::metadata::validate_update(kind, &new, object);
                errors.extend(kind.strategy.validate_update(&new, object));
                errors.extend(kind.strategy.validate_status_update(&new, object));
                assert!(!errors.is_empty(), "{}", kind.group_resource());
                kind.strategy.warnings(&new);
                kind.strategy.update_warnings(&new, object);
                let context = crate::CellContext { now: jiff::Timestamp::UNIX_EPOCH };
                for column in &kind.columns {
                    column.render(&new, &context);
                }
            }
        }
    }
}
