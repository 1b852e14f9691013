//! The API's resources by name: what a request path is built from.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// A resource as discovery publishes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub namespaced: bool,
}

const fn namespaced(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    builtin(group, version, plural, kind, true)
}

const fn cluster(group: &'static str, version: &'static str, plural: &'static str, kind: &'static str) -> Resource {
    builtin(group, version, plural, kind, false)
}

const fn builtin(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        group: Cow::Borrowed(group),
        version: Cow::Borrowed(version),
        plural: Cow::Borrowed(plural),
        kind: Cow::Borrowed(kind),
        namespaced,
    }
}

pub static PODS: Resource = namespaced("", "v1", "pods", "Pod");
pub static NODES: Resource = cluster("", "v1", "nodes", "Node");
pub static NAMESPACES: Resource = cluster("", "v1", "namespaces", "Namespace");
pub static SERVICES: Resource = namespaced("", "v1", "services", "Service");
pub static SERVICE_ACCOUNTS: Resource = namespaced("", "v1", "serviceaccounts", "ServiceAccount");
pub static SECRETS: Resource = namespaced("", "v1", "secrets", "Secret");
pub static CONFIG_MAPS: Resource = namespaced("", "v1", "configmaps", "ConfigMap");
pub static EVENTS: Resource = namespaced("", "v1", "events", "Event");
pub static REPLICATION_CONTROLLERS: Resource = namespaced("", "v1", "replicationcontrollers", "ReplicationController");
pub static RESOURCE_QUOTAS: Resource = namespaced("", "v1", "resourcequotas", "ResourceQuota");
pub static ENDPOINTS: Resource = namespaced("", "v1", "endpoints", "Endpoints");
pub static PERSISTENT_VOLUMES: Resource = cluster("", "v1", "persistentvolumes", "PersistentVolume");
pub static PERSISTENT_VOLUME_CLAIMS: Resource = namespaced("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim");
pub static DEPLOYMENTS: Resource = namespaced("apps", "v1", "deployments", "Deployment");
pub static REPLICA_SETS: Resource = namespaced("apps", "v1", "replicasets", "ReplicaSet");
pub static STATEFUL_SETS: Resource = namespaced("apps", "v1", "statefulsets", "StatefulSet");
pub static DAEMON_SETS: Resource = namespaced("apps", "v1", "daemonsets", "DaemonSet");
pub static CONTROLLER_REVISIONS: Resource = namespaced("apps", "v1", "controllerrevisions", "ControllerRevision");
pub static JOBS: Resource = namespaced("batch", "v1", "jobs", "Job");
pub static CRON_JOBS: Resource = namespaced("batch", "v1", "cronjobs", "CronJob");
pub static POD_DISRUPTION_BUDGETS: Resource = namespaced("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget");
pub static STORAGE_CLASSES: Resource = cluster("storage.k8s.io", "v1", "storageclasses", "StorageClass");
pub static CLUSTER_ROLES: Resource = cluster("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole");
pub static CERTIFICATE_SIGNING_REQUESTS: Resource =
    cluster("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest");
pub static ENDPOINT_SLICES: Resource = namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice");
pub static LEASES: Resource = namespaced("coordination.k8s.io", "v1", "leases", "Lease");
pub static CSI_DRIVERS: Resource = cluster("storage.k8s.io", "v1", "csidrivers", "CSIDriver");
pub static CSI_STORAGE_CAPACITIES: Resource =
    namespaced("storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity");
pub static CSI_NODES: Resource = cluster("storage.k8s.io", "v1", "csinodes", "CSINode");
pub static RUNTIME_CLASSES: Resource = cluster("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass");
pub static INGRESSES: Resource = namespaced("networking.k8s.io", "v1", "ingresses", "Ingress");
pub static IP_ADDRESSES: Resource = cluster("networking.k8s.io", "v1", "ipaddresses", "IPAddress");
pub static SERVICE_CIDRS: Resource = cluster("networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR");
pub static INGRESS_CLASSES: Resource = cluster("networking.k8s.io", "v1", "ingressclasses", "IngressClass");

impl Resource {
    /// `v1` or `group/version`, as in an object's `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_string() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The URL path of the collection: of all namespaces when `namespace` is empty.
    pub fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if self.namespaced && !namespace.is_empty() {
            path.push_str("/namespaces/");
            path.push_str(namespace);
        }
        path.push('/');
        path.push_str(&self.plural);
        path
    }

    /// What refers to the object of this resource that has this metadata, in this very version.
    pub fn reference(&self, meta: &ObjectMeta) -> ObjectReference {
        ObjectReference {
            api_version: Some(self.api_version()),
            kind: Some(self.kind.to_string()),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            field_path: None,
        }
    }

    /// Whether the reference is to an object of this kind, in whatever version of its group.
    pub fn is_kind_of(&self, owner: &OwnerReference) -> bool {
        self.kind == owner.kind && self.group == group_of(&owner.api_version)
    }

    /// Same group and plural: versions of one resource hold the same objects.
    pub fn same_objects(&self, other: &Resource) -> bool {
        self.group == other.group && self.plural == other.plural
    }
}

/// The group that an `apiVersion` names; empty for the core group.
pub fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// An object's name within its resource; `namespace` is empty for cluster-scoped objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: std::sync::Arc<str>,
    pub name: std::sync::Arc<str>,
}

impl Key {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}
