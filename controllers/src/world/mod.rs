//! Everything the reconcilers may look at: one store per kind, the graph of owners, and what discovery found.

mod graph;
mod part;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController,
    ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{IPAddress, Ingress, IngressClass, ServiceCIDR};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8w_kinds::core::{bootstrap_token, service_account_token};
use serde::{Deserialize, Deserializer};

pub use graph::Graph;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference as Owner;
pub use part::Part;
pub use store::{Effect, Meta, Store, controller_of, revision};

use crate::core::root_ca;
use crate::resource::{self, Key, Resource};

/// An object of a kind nobody reads more of than its metadata.
#[derive(Clone, Debug)]
pub struct Bare {
    pub resource: Arc<Resource>,
    pub metadata: ObjectMeta,
}

impl Meta for Bare {
    const IS_CLAIMED: bool = false;

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What moves the world.
pub enum Change {
    /// The watch delivered a state.
    Watched(Object),
    /// The watch delivered a deletion with the last state.
    WatchedGone(Object),
    /// A complete list of one resource, or of a part of it, at a revision; `bare` when it holds metadata only.
    Relisted { resource: Arc<Resource>, bare: bool, part: Option<Part>, objects: Vec<Object>, at: u64 },
    /// One of our writes returned this state.
    Written(Object),
    /// One of our writes removed an object.
    Removed { resource: Resource, key: Key, uid: String },
    /// What discovery found: every resource that can be listed, watched and deleted, and which of them say in a
    /// subresource how many replicas they have.
    Discovered { resources: Vec<Resource>, scalable: BTreeSet<Resource> },
    /// The `scale` of an object without a typed store was read.
    Scaled { resource: Resource, key: Key, scale: Scale },
    /// Look at everything again: heals whatever an event failed to say.
    Resync,
}

/// What the `scale` subresource of an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub uid: String,
    /// Of the object, when this was read.
    pub revision: u64,
    pub replicas: i32,
}

/// What changed for one object, as the controllers see it.
pub struct Delta {
    /// The new state, or the last one when the object is gone.
    pub object: Object,
    pub before: Option<Object>,
    pub gone: bool,
}

macro_rules! world {
    ($($(#[$doc:meta])* $field:ident: $kind:ident = $resource:ident $(of [$($part:expr),*])?;)*) => {
        /// An object of any kind, cheap to clone.
        #[derive(Clone, Debug)]
        pub enum Object {
            $($kind(Arc<$kind>),)*
            Bare(Arc<Bare>),
        }

        #[derive(Default)]
        pub struct World {
            $($(#[$doc])* pub $field: Store<$kind>,)*
            /// Kinds without a store of their own, by resource: metadata only.
            pub others: BTreeMap<Arc<Resource>, Store<Bare>>,
            pub graph: Graph,
            /// Of which resources and parts the first list has been taken in.
            listed: BTreeSet<(Arc<Resource>, Option<Part>)>,
            /// Every resource that can be listed, watched and deleted.
            pub resources: Vec<Resource>,
            /// Those of them that have the subresource `scale`.
            pub scalable: BTreeSet<Resource>,
            /// What was read of it by the object's uid, as long as the object is there.
            scales: BTreeMap<String, Scale>,
        }

        /// The kinds that have a typed store, each with the parts that it is limited to; none is no limit.
        pub static WATCHED: &[(&Resource, &[Part])] = &[$((&resource::$resource, &[$($($part),*)?]),)*];

        impl Object {
            pub fn meta(&self) -> &ObjectMeta {
                match self {
                    $(Object::$kind(object) => &object.metadata,)*
                    Object::Bare(object) => &object.metadata,
                }
            }

            pub fn resource(&self) -> &Resource {
                match self {
                    $(Object::$kind(_) => &resource::$resource,)*
                    Object::Bare(object) => &object.resource,
                }
            }

            /// Reads an object of `resource`; kinds without a store keep what [`Object::bare`] keeps.
            pub fn decode<'de, D: Deserializer<'de>>(resource: &Resource, from: D) -> Result<Object, D::Error> {
                $(if *resource == resource::$resource {
                    let mut object = $kind::deserialize(from)?;
                    object.metadata.managed_fields = None;
                    return Ok(Object::$kind(Arc::new(object)));
                })*
                Object::bare(&Arc::new(resource.clone()), from)
            }
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Object::$kind(Arc::new(object))
            }
        })*

        impl World {
            /// Every object of a namespace, of whatever kind. A kind of which only parts have a store is in `others`.
            pub fn in_namespace(&self, namespace: &str) -> Vec<Object> {
                let mut found: Vec<Object> = Vec::new();
                $({
                    let parts: &[Part] = &[$($($part),*)?];
                    if parts.is_empty() {
                        found.extend(self.$field.in_namespace(namespace).cloned().map(Object::$kind));
                    }
                })*
                found.extend(self.others.values().flat_map(|o| o.in_namespace(namespace)).cloned().map(Object::Bare));
                found
            }

            /// Takes in a change and says what it did, object by object.
            pub fn apply(&mut self, change: Change) -> Vec<Delta> {
                let mut deltas = Vec::new();
                match change {
                    Change::Watched(object) => match object {
                        $(Object::$kind(o) => deltas.extend(self.$field.watched(o).and_then(delta(Object::$kind))),)*
                        Object::Bare(o) => deltas.extend(self.other(&o.resource).watched(o).and_then(delta(Object::Bare))),
                    },
                    Change::WatchedGone(object) => match object {
                        $(Object::$kind(o) => deltas.extend(self.$field.watched_gone(&o).and_then(delta(Object::$kind))),)*
                        Object::Bare(o) => {
                            deltas.extend(self.other(&o.resource).watched_gone(&o).and_then(delta(Object::Bare)));
                        }
                    },
                    // A limited store must not take in what its watches would never delete again.
                    Change::Written(object) if !is_watched(&object) => {}
                    Change::Written(object) => match object {
                        $(Object::$kind(o) => deltas.extend(self.$field.written(o).and_then(delta(Object::$kind))),)*
                        Object::Bare(o) => deltas.extend(self.other(&o.resource).written(o).and_then(delta(Object::Bare))),
                    },
                    Change::Removed { resource, key, uid } => {
                        $(if resource == resource::$resource {
                            deltas.extend(self.$field.removed(&key, &uid).and_then(delta(Object::$kind)));
                        })*
                        if let Some(store) = self.others.get_mut(&resource) {
                            deltas.extend(store.removed(&key, &uid).and_then(delta(Object::Bare)));
                        }
                    }
                    Change::Relisted { resource, bare, part, objects, at } => {
                        $(if !bare && *resource == resource::$resource {
                            let objects = objects.into_iter().filter_map(|o| match o { Object::$kind(o) => Some(o), _ => None });
                            let is_listed = |o: &Arc<$kind>| part.is_none_or(|part| part.holds(&Object::$kind(o.clone())));
                            let effects = self.$field.relisted(objects.collect(), at, is_listed);
                            deltas.extend(effects.into_iter().filter_map(delta(Object::$kind)));
                            self.listed.insert((resource, part));
                            self.graph.observe(&deltas);
                            return deltas;
                        })*
                        let objects = objects.into_iter().filter_map(|o| match o { Object::Bare(o) => Some(o), _ => None });
                        let effects = self.other(&resource).relisted(objects.collect(), at, |_| true);
                        deltas.extend(effects.into_iter().filter_map(delta(Object::Bare)));
                    }
                    Change::Discovered { resources, scalable } => {
                        self.resources = resources;
                        self.scalable = scalable;
                    }
                    Change::Scaled { resource, key, scale } => {
                        let object = self.others.get(&resource).and_then(|store| store.by_key(&key)).cloned();
                        let object = object.map(Object::Bare).filter(|object| object.uid() == scale.uid);
                        if let Some(object) = object {
                            self.scales.insert(scale.uid.clone(), scale);
                            deltas.push(unchanged(object));
                        }
                    }
                    Change::Resync => {
                        $(deltas.extend(self.$field.iter().map(|o| unchanged(Object::$kind(o.clone()))));)*
                        for store in self.others.values() {
                            deltas.extend(store.iter().map(|o| unchanged(Object::Bare(o.clone()))));
                        }
                        return deltas;
                    }
                }
                self.graph.observe(&deltas);
                for delta in &deltas {
                    // Gone is also one that another has replaced.
                    let is_gone = |object: &&Object| delta.gone || object.uid() != delta.object.uid();
                    for object in delta.before.iter().chain([&delta.object]).filter(is_gone) {
                        self.scales.remove(object.uid());
                    }
                }
                deltas
            }
        }
    };
}

world! {
    pods: Pod = PODS;
    nodes: Node = NODES;
    namespaces: Namespace = NAMESPACES;
    services: Service = SERVICES;
    service_accounts: ServiceAccount = SERVICE_ACCOUNTS;
    /// Only these; the rest of the ConfigMaps is in `others`, without contents.
    config_maps: ConfigMap = CONFIG_MAPS of [
        Part::Named(root_ca::NAME), Part::Named(bootstrap_token::CLUSTER_INFO), Part::Named(service_account_token::TRACKING)
    ];
    /// Only these; the rest of the Secrets is in `others`, without contents.
    secrets: Secret = SECRETS of [
        Part::SecretType(service_account_token::SECRET_TYPE), Part::SecretType(bootstrap_token::SECRET_TYPE)
    ];
    endpoints: Endpoints = ENDPOINTS;
    resource_quotas: ResourceQuota = RESOURCE_QUOTAS;
    replication_controllers: ReplicationController = REPLICATION_CONTROLLERS;
    persistent_volumes: PersistentVolume = PERSISTENT_VOLUMES;
    persistent_volume_claims: PersistentVolumeClaim = PERSISTENT_VOLUME_CLAIMS;
    storage_classes: StorageClass = STORAGE_CLASSES;
    deployments: Deployment = DEPLOYMENTS;
    replica_sets: ReplicaSet = REPLICA_SETS;
    stateful_sets: StatefulSet = STATEFUL_SETS;
    daemon_sets: DaemonSet = DAEMON_SETS;
    controller_revisions: ControllerRevision = CONTROLLER_REVISIONS;
    jobs: Job = JOBS;
    cron_jobs: CronJob = CRON_JOBS;
    pod_disruption_budgets: PodDisruptionBudget = POD_DISRUPTION_BUDGETS;
    cluster_roles: ClusterRole = CLUSTER_ROLES;
    certificate_signing_requests: CertificateSigningRequest = CERTIFICATE_SIGNING_REQUESTS;
    endpoint_slices: EndpointSlice = ENDPOINT_SLICES;
    leases: Lease = LEASES;
    runtime_classes: RuntimeClass = RUNTIME_CLASSES;
    csi_nodes: CSINode = CSI_NODES;
    csi_drivers: CSIDriver = CSI_DRIVERS;
    csi_storage_capacities: CSIStorageCapacity = CSI_STORAGE_CAPACITIES;
    ingresses: Ingress = INGRESSES;
    ingress_classes: IngressClass = INGRESS_CLASSES;
    ip_addresses: IPAddress = IP_ADDRESSES;
    service_cidrs: ServiceCIDR = SERVICE_CIDRS;
}

impl Object {
    /// Reads of an object its identity, owners, finalizers and deletion, and nothing else.
    pub fn bare<'de, D: Deserializer<'de>>(resource: &Arc<Resource>, from: D) -> Result<Object, D::Error> {
        #[derive(Deserialize)]
        struct Partial {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Metadata {
            name: Option<String>,
            namespace: Option<String>,
            uid: Option<String>,
            resource_version: Option<String>,
            owner_references: Option<Vec<Owner>>,
            finalizers: Option<Vec<String>>,
            deletion_timestamp: Option<Time>,
        }
        let Partial { metadata } = Partial::deserialize(from)?;
        let metadata = ObjectMeta {
            name: metadata.name,
            namespace: metadata.namespace,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            owner_references: metadata.owner_references,
            finalizers: metadata.finalizers,
            deletion_timestamp: metadata.deletion_timestamp,
            ..ObjectMeta::default()
        };
        Ok(Object::Bare(Arc::new(Bare { resource: resource.clone(), metadata })))
    }

    pub fn key(&self) -> Key {
        Key::of(self.meta())
    }

    pub fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
}

/// Every list and watch that fills the typed stores: of a whole resource, or of a part of one.
pub fn watches() -> impl Iterator<Item = (&'static Resource, Option<Part>)> {
    WATCHED.iter().flat_map(|(resource, parts)| {
        let whole = parts.is_empty().then_some((*resource, None));
        whole.into_iter().chain(parts.iter().map(|part| (*resource, Some(*part))))
    })
}

/// Whether a typed store is kept of objects like this.
pub fn is_watched(object: &Object) -> bool {
    let parts = WATCHED.iter().find(|(resource, _)| *resource == object.resource()).map(|(_, parts)| *parts);
    parts.is_none_or(|parts| parts.is_empty() || parts.iter().any(|part| part.holds(object)))
}

impl World {
    /// Whether every typed store holds its first lists: before that, absence means nothing.
    pub fn synced(&self) -> bool {
        self.listed.len() == WATCHED.iter().map(|(_, parts)| parts.len().max(1)).sum::<usize>()
    }

    /// Whether absence from the graph means something for this resource: its first list has been taken in.
    pub fn knows(&self, resource: &Resource) -> bool {
        let typed = WATCHED.iter().any(|(watched, parts)| parts.is_empty() && *watched == resource);
        typed || self.others.get(resource).is_some_and(Store::synced)
    }

    /// The resource that an owner reference's kind is served as, in whatever version.
    pub fn resource_of(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let group = resource::group_of(api_version);
        self.resources.iter().find(|resource| resource.group == group && resource.kind == kind)
    }

    /// What the object says in its `scale`; `None` when that has not been read since it changed.
    pub fn scale_of(&self, object: &Bare) -> Option<&Scale> {
        let scale = self.scales.get(object.metadata.uid.as_deref()?)?;
        (scale.revision >= revision(&object.metadata)).then_some(scale)
    }

    fn other(&mut self, resource: &Arc<Resource>) -> &mut Store<Bare> {
        self.others.entry(resource.clone()).or_default()
    }
}

fn delta<K>(wrap: impl Fn(Arc<K>) -> Object) -> impl Fn(Effect<K>) -> Option<Delta> {
    move |effect| match (effect.before, effect.after) {
        (before, Some(after)) => Some(Delta { object: wrap(after), before: before.map(&wrap), gone: false }),
        (Some(before), None) => Some(Delta { object: wrap(before), before: None, gone: true }),
        (None, None) => None,
    }
}

fn unchanged(object: Object) -> Delta {
    Delta { before: Some(object.clone()), object, gone: false }
}
