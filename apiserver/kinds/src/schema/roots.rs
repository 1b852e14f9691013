//! The built-in types that are decoded on their own: kinds, and the bodies of subresources.

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};

/// Puts a type's schema, and those of all types it refers to, into the generator's definitions.
pub(super) type Generate = fn(&mut SchemaGenerator);

fn generate<T: JsonSchema>(generator: &mut SchemaGenerator) {
    let _ = generator.subschema_for::<T>();
}

macro_rules! root {
    ($package:literal ($($module:ident)::+) $kind:ident) => {
        (concat!($package, ".", stringify!($kind)), generate::<k8s_openapi::$($module)::+::$kind>)
    };
}

macro_rules! roots {
    ($( $package:literal $module:tt $($kind:ident)+; )+) => {
        /// Sorted by name.
        const ROOTS: &[(&str, Generate)] = &[$($( root!($package $module $kind), )+)+];
    };
}

roots! {
    "io.k8s.api.admissionregistration.v1" (api::admissionregistration::v1)
        MutatingAdmissionPolicy MutatingAdmissionPolicyBinding MutatingWebhookConfiguration
        ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding ValidatingWebhookConfiguration;
    "io.k8s.api.apps.v1" (api::apps::v1) ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
    "io.k8s.api.authentication.v1" (api::authentication::v1) SelfSubjectReview TokenRequest TokenReview;
    "io.k8s.api.authorization.v1" (api::authorization::v1)
        LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview SubjectAccessReview;
    "io.k8s.api.autoscaling.v1" (api::autoscaling::v1) HorizontalPodAutoscaler Scale;
    "io.k8s.api.autoscaling.v2" (api::autoscaling::v2) HorizontalPodAutoscaler;
    "io.k8s.api.batch.v1" (api::batch::v1) CronJob Job;
    "io.k8s.api.certificates.v1" (api::certificates::v1) CertificateSigningRequest;
    "io.k8s.api.coordination.v1" (api::coordination::v1) Lease;
    "io.k8s.api.core.v1" (api::core::v1)
        Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
        PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
    "io.k8s.api.discovery.v1" (api::discovery::v1) EndpointSlice;
    "io.k8s.api.events.v1" (api::events::v1) Event;
    "io.k8s.api.flowcontrol.v1" (api::flowcontrol::v1) FlowSchema PriorityLevelConfiguration;
    "io.k8s.api.networking.v1" (api::networking::v1) IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
    "io.k8s.api.node.v1" (api::node::v1) RuntimeClass;
    "io.k8s.api.policy.v1" (api::policy::v1) Eviction PodDisruptionBudget;
    "io.k8s.api.rbac.v1" (api::rbac::v1) ClusterRole ClusterRoleBinding Role RoleBinding;
    "io.k8s.api.resource.v1" (api::resource::v1) DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
    "io.k8s.api.scheduling.v1" (api::scheduling::v1) PriorityClass;
    "io.k8s.api.storage.v1" (api::storage::v1)
        CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1" (apiextensions_apiserver::pkg::apis::apiextensions::v1)
        CustomResourceDefinition;
    "io.k8s.apimachinery.pkg.apis.meta.v1" (apimachinery::pkg::apis::meta::v1)
        APIGroup APIGroupList APIResourceList APIVersions DeleteOptions LabelSelector ListMeta ObjectMeta Status;
    "io.k8s.apimachinery.pkg.version" (apimachinery::pkg::version) Info;
    "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1" (kube_aggregator::pkg::apis::apiregistration::v1) APIService;
}

/// How to generate a root type, by its published name.
pub(super) fn find(type_name: &str) -> Option<Generate> {
    ROOTS.binary_search_by(|(name, _)| (*name).cmp(type_name)).ok().map(|i| ROOTS[i].1)
}

/// The published names of all root types, lists excepted.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROOTS.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_sorted_and_named_as_generated() {
        assert!(ROOTS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, generate) in ROOTS {
            let mut generator = SchemaGenerator::default();
            generate(&mut generator);
            assert!(generator.definitions().contains_key(*name), "{name}");
        }
    }
}
