//! PersistentVolumeClaims of pods, as far as they decide where a pod can run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeSpec,
    Pod, TopologySelectorLabelRequirement,
};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};
use k8w_kinds::core::selection::{NO_LABELS, Selector, node_terms};

use super::event::Event;
use super::pod_info::{PodInfo, ephemeral_claim};
use crate::nodes;
use crate::pods::annotation;
use crate::quantity;
use crate::resource::Key;
use crate::selector;
use crate::world::{Delta, Object, controller_of};

pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// Names the node for which a volume is to be provided.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// A pod's claims by what is still to be done for them.
#[derive(Default)]
pub struct PodVolumes<'a> {
    /// Claims with the volume each is bound to; `None` if the volume is gone.
    pub bound: Vec<(&'a PersistentVolumeClaim, Option<&'a PersistentVolume>)>,
    /// Claims whose volume is chosen with the node, smallest first.
    pub waiting: Vec<&'a PersistentVolumeClaim>,
    /// Whether some claim is to be bound before the pod is placed, and isn't yet.
    pub has_unbound: bool,
}

/// What must be done before the pod can go to its node.
#[derive(Debug, PartialEq)]
pub enum Binding {
    /// The volume is to be bound to the claim.
    Existing(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>),
    /// A volume is to be made for the claim on the node.
    Provisioned(Arc<PersistentVolumeClaim>),
}

/// Why waiting claims can't be served on a node.
#[derive(Debug, PartialEq)]
pub enum Unserved {
    /// There is no volume for one of them, and none can be made there.
    NoVolume,
    /// The driver that would make it says that there is not enough space.
    NoSpace,
}

#[derive(Default)]
pub struct Volumes {
    claims: HashMap<Key, Arc<PersistentVolumeClaim>>,
    volumes: HashMap<String, Arc<PersistentVolume>>,
    classes: HashMap<String, Arc<StorageClass>>,
    csi_nodes: HashMap<String, Arc<CSINode>>,
    csi_drivers: HashMap<String, Arc<CSIDriver>>,
    csi_capacities: HashMap<Key, Arc<CSIStorageCapacity>>,
    /// Placed pods that use each claim.
    users: HashMap<Key, usize>,
    /// Volumes promised to claims of pods that are on their way.
    promised: HashMap<String, Key>,
}

impl Volumes {
    /// Takes in a change; says whether it concerns volumes.
    pub fn observe(&mut self, delta: &Delta) -> bool {
        let name = || delta.object.meta().name.clone().unwrap_or_default();
        fn set<K: Eq + std::hash::Hash, V>(map: &mut HashMap<K, V>, key: K, value: V, gone: bool) {
            if gone {
                map.remove(&key);
            } else {
                map.insert(key, value);
            }
        }
        match &delta.object {
            Object::PersistentVolumeClaim(claim) => {
                set(&mut self.claims, delta.object.key(), claim.clone(), delta.gone);
            }
            Object::PersistentVolume(volume) => {
                self.promised.remove(&name());
                set(&mut self.volumes, name(), volume.clone(), delta.gone);
            }
            Object::StorageClass(class) => set(&mut self.classes, name(), class.clone(), delta.gone),
            Object::CSIDriver(driver) => set(&mut self.csi_drivers, name(), driver.clone(), delta.gone),
            Object::CSIStorageCapacity(capacity) => {
                set(&mut self.csi_capacities, delta.object.key(), capacity.clone(), delta.gone);
            }
            Object::CSINode(node) => set(&mut self.csi_nodes, name(), node.clone(), delta.gone),
            _ => return false,
        }
        true
    }

    /// A pod with claims was placed (1) or went (-1).
    pub fn used_by(&mut self, pod: &PodInfo, sign: i64) {
        for claim in &pod.claims {
            let key = Key::new(pod.namespace(), claim);
            if sign > 0 {
                *self.users.entry(key).or_default() += 1;
            } else if let Some(users) = self.users.get_mut(&key) {
                *users -= 1;
                if *users == 0 {
                    self.users.remove(&key);
                }
            }
        }
    }

    /// Whether a placed pod uses a claim that only one pod may use and that this pod wants.
    pub fn has_exclusive_conflict(&self, pod: &PodInfo) -> bool {
        pod.claims.iter().any(|claim| {
            let key = Key::new(pod.namespace(), claim);
            let spec = self.claims.get(&key).and_then(|claim| claim.spec.as_ref());
            let modes = spec.and_then(|spec| spec.access_modes.as_ref());
            modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteOncePod"))
                && self.users.contains_key(&key)
        })
    }

    /// Sorts the pod's claims; an error, in kube-scheduler's words, when one can't be used at all.
    pub fn of_pod(&self, pod: &PodInfo) -> Result<PodVolumes<'_>, String> {
        let mut sorted = PodVolumes::default();
        for name in &pod.claims {
            let Some(claim) = self.claims.get(&Key::new(pod.namespace(), name)) else {
                return Err(if is_ephemeral(pod, name) {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                } else {
                    format!("persistentvolumeclaim {name:?} not found")
                });
            };
            let spec = claim.spec.as_ref();
            let volume = spec.and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty());
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase == Some("Lost") {
                let volume = volume.unwrap_or_default();
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            if is_ephemeral(pod, name) && !is_made_for(claim, &pod.pod) {
                return Err(not_made_for(claim, &pod.pod));
            }
            let completed = claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(BIND_COMPLETED));
            match volume {
                Some(volume) if completed => {
                    sorted.bound.push((claim, self.volumes.get(volume).map(Arc::as_ref)));
                }
                None if self.waits_for_node(claim) => sorted.waiting.push(claim),
                _ => sorted.has_unbound = true,
            }
        }
        sorted.waiting.sort_by_key(|claim| requested_bytes(claim));
        Ok(sorted)
    }

    /// Whether all of the pod's claims are bound.
    pub fn are_bound(&self, pod: &PodInfo) -> bool {
        pod.claims.is_empty() || self.of_pod(pod).is_ok_and(|v| v.waiting.is_empty() && !v.has_unbound)
    }

    fn class_of(&self, claim: &PersistentVolumeClaim) -> Option<&StorageClass> {
        self.classes.get(class_name(claim)?).map(Arc::as_ref)
    }

    fn waits_for_node(&self, claim: &PersistentVolumeClaim) -> bool {
        self.class_of(claim).is_some_and(|c| c.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
    }

    /// How the waiting claims can be served on the node.
    pub fn bindings(&self, waiting: &[&PersistentVolumeClaim], node: &Node) -> Result<Vec<Binding>, Unserved> {
        let is_elsewhere = |selected: &str| Some(selected) != node.metadata.name.as_deref();
        if waiting.iter().any(|claim| annotation(&claim.metadata, SELECTED_NODE).is_some_and(is_elsewhere)) {
            return Err(Unserved::NoVolume);
        }
        let mut taken = HashSet::new();
        let mut bindings = Vec::new();
        for claim in waiting {
            let key = Key::of(&claim.metadata);
            let shared = self.claims.get(&key).ok_or(Unserved::NoVolume)?;
            let is_selected = annotation(&claim.metadata, SELECTED_NODE).is_some();
            let existing = if is_selected { None } else { self.existing(claim, &key, node, &taken) };
            if let Some(volume) = existing {
                taken.insert(volume.metadata.name.as_deref());
                bindings.push(Binding::Existing(volume.clone(), shared.clone()));
            } else {
                self.can_be_made(claim, node)?;
                bindings.push(Binding::Provisioned(shared.clone()));
            }
        }
        Ok(bindings)
    }

    /// The smallest free volume that serves the claim on the node.
    fn existing<'a>(
        &'a self,
        claim: &PersistentVolumeClaim,
        key: &Key,
        node: &Node,
        taken: &HashSet<Option<&'a str>>,
    ) -> Option<&'a Arc<PersistentVolume>> {
        let candidates = self.volumes.values().filter(|volume| {
            let name = volume.metadata.name.as_deref();
            let promised = name.and_then(|name| self.promised.get(name)).is_some_and(|other| other != key);
            !promised && !taken.contains(&name) && serves(volume, claim) && allows(volume, node)
        });
        candidates.min_by_key(|volume| (capacity_bytes(volume), volume.metadata.name.clone()))
    }

    fn can_be_made(&self, claim: &PersistentVolumeClaim, node: &Node) -> Result<(), Unserved> {
        let Some(class) = self.class_of(claim) else { return Err(Unserved::NoVolume) };
        let labels = nodes::labels(node);
        let mut topologies = class.allowed_topologies.iter().flatten().peekable();
        let is_allowed = topologies.peek().is_none()
            || topologies.any(|term| {
                let needs = term.match_label_expressions.as_deref().unwrap_or_default();
                let has = |need: &TopologySelectorLabelRequirement| {
                    labels.get(&need.key).is_some_and(|value| need.values.contains(value))
                };
                !needs.is_empty() && needs.iter().all(has)
            });
        if class.provisioner.is_empty() || class.provisioner == NO_PROVISIONER || !is_allowed {
            return Err(Unserved::NoVolume);
        }
        if self.has_space(claim, class, node) { Ok(()) } else { Err(Unserved::NoSpace) }
    }

    /// Whether a driver that publishes its capacities has enough where the node can reach it (KEP-1472).
    fn has_space(&self, claim: &PersistentVolumeClaim, class: &StorageClass, node: &Node) -> bool {
        let driver = self.csi_drivers.get(&class.provisioner);
        let bytes = requested_bytes(claim);
        if bytes == 0 || !driver.is_some_and(|driver| publishes_capacity(driver)) {
            return true;
        }
        self.csi_capacities.values().any(|capacity| {
            Some(&capacity.storage_class_name) == class.metadata.name.as_ref()
                && largest_volume_bytes(capacity).is_some_and(|largest| largest >= bytes)
                && capacity
                    .node_topology
                    .as_ref()
                    .is_some_and(|topology| selector::matches(topology, node.metadata.labels.as_ref()))
        })
    }

    /// Keeps the volumes from other claims until the API shows them bound.
    pub fn promise(&mut self, bindings: &[Binding]) {
        for binding in bindings {
            if let Binding::Existing(volume, claim) = binding {
                self.promised.insert(volume.metadata.name.clone().unwrap_or_default(), Key::of(&claim.metadata));
            }
        }
    }

    /// Whether what was asked for is still on its way: nobody took it back.
    pub fn are_under_way(&self, bindings: &[Binding], node: &str) -> bool {
        bindings.iter().all(|binding| match binding {
            Binding::Existing(volume, claim) => {
                let volume = self.volumes.get(volume.metadata.name.as_deref().unwrap_or_default());
                let kept = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
                kept.is_some_and(|kept| kept.uid == claim.metadata.uid)
            }
            Binding::Provisioned(claim) => {
                let claim = self.claims.get(&Key::of(&claim.metadata));
                let selected = claim.and_then(|claim| claim.metadata.annotations.as_ref()?.get(SELECTED_NODE));
                selected.is_some_and(|selected| selected == node)
            }
        })
    }

    /// The claims of this pod will not be bound now.
    pub fn release(&mut self, pod: &PodInfo) {
        self.promised.retain(|_, claim| {
            *claim.namespace != *pod.namespace() || !pod.claims.iter().any(|name| **name == *claim.name)
        });
    }

    /// CSI volumes of the pod as (driver, volume), counting a claim that is to be provisioned as a volume of its own.
    pub fn csi_volumes(&self, pod: &PodInfo) -> HashSet<(String, String)> {
        let claims = pod.claims.iter().filter_map(|name| self.claims.get(&Key::new(pod.namespace(), name)));
        let volumes = claims.filter_map(|claim| {
            let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref());
            if let Some(volume) = volume.and_then(|name| self.volumes.get(name)) {
                let csi = volume.spec.as_ref()?.csi.as_ref()?;
                return Some((csi.driver.clone(), csi.volume_handle.clone()));
            }
            let provisioner = &self.class_of(claim)?.provisioner;
            Some((provisioner.clone(), Key::of(&claim.metadata).to_string()))
        });
        volumes.collect()
    }

    /// How many volumes of the driver the node can attach, if it says so.
    pub fn csi_limit(&self, node: &str, driver: &str) -> Option<usize> {
        let drivers = &self.csi_nodes.get(node)?.spec.drivers;
        let count = drivers.iter().find(|d| d.name == driver)?.allocatable.as_ref()?.count?;
        usize::try_from(count).ok()
    }

    pub fn has_csi_limits(&self) -> bool {
        !self.csi_nodes.is_empty()
    }
}

/// What a change concerning volumes may mean for pods that wait.
pub fn event(delta: &Delta) -> Option<Event<'_>> {
    /// The state before, if it is of the same kind.
    macro_rules! before {
        ($kind:ident) => {
            match &delta.before {
                Some(Object::$kind(before)) => Some(&**before),
                _ => None,
            }
        };
    }
    if delta.gone {
        return None;
    }
    Some(match &delta.object {
        Object::PersistentVolumeClaim(claim) => Event::Claim(claim),
        Object::PersistentVolume(volume) => Event::Volume { volume, before: before!(PersistentVolume) },
        Object::StorageClass(class) => Event::StorageClass { class, before: before!(StorageClass) },
        Object::CSINode(node) => Event::CsiNode { node, before: before!(CSINode) },
        Object::CSIDriver(driver) => Event::CsiDriver { driver, before: before!(CSIDriver) },
        Object::CSIStorageCapacity(capacity) => Event::CsiCapacity { capacity, before: before!(CSIStorageCapacity) },
        _ => return None,
    })
}

/// Whether the driver says where it has how much space.
pub fn publishes_capacity(driver: &CSIDriver) -> bool {
    driver.spec.storage_capacity == Some(true)
}

/// The largest volume that can be made of this capacity.
pub fn largest_volume_bytes(capacity: &CSIStorageCapacity) -> Option<i64> {
    capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref()).and_then(quantity::units)
}

/// Whether the volume can be mounted on the node.
pub fn allows(volume: &PersistentVolume, node: &Node) -> bool {
    let required = volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()?.required.as_ref());
    let (name, labels) = (nodes::name(node), nodes::labels(node));
    required.is_none_or(|r| node_terms(r).iter().any(|term| term.selects(name, labels)))
}

/// Whether the reference is to this claim, or to any claim of its name.
pub fn refers_to(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.name == claim.metadata.name
        && reference.namespace == claim.metadata.namespace
        && (reference.uid.is_none() || reference.uid == claim.metadata.uid)
}

/// Whether the volume is free, or kept for this claim, and is what it asks for. One that is kept may be of any class.
pub fn serves(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let (Some(has), Some(asks)) = (&volume.spec, &claim.spec) else { return false };
    let is_kept = has.claim_ref.as_ref().is_some_and(|kept| refers_to(kept, claim));
    let is_free = has.claim_ref.is_none()
        && volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available");
    let selects = |spec: &PersistentVolumeClaimSpec| {
        let labels = volume.metadata.labels.as_ref().unwrap_or(&NO_LABELS);
        spec.selector.as_ref().is_none_or(|selector| Selector::of(Some(selector)).selects(labels))
    };
    volume.metadata.deletion_timestamp.is_none()
        && same_mode(has, asks)
        && same_attributes(has, asks)
        && grants_access(has, asks)
        && (is_kept || (is_free && is_of_class(volume, claim) && selects(asks)))
        && capacity_bytes(volume) >= requested_bytes(claim)
}

/// Both are a file system, or both a block device.
pub fn same_mode(volume: &PersistentVolumeSpec, claim: &PersistentVolumeClaimSpec) -> bool {
    let is_file_system = |mode: &Option<String>| mode.as_deref().unwrap_or("Filesystem") == "Filesystem";
    is_file_system(&volume.volume_mode) == is_file_system(&claim.volume_mode)
}

/// Both are of the same VolumeAttributesClass, or of none.
pub fn same_attributes(volume: &PersistentVolumeSpec, claim: &PersistentVolumeClaimSpec) -> bool {
    let class = |name: &Option<String>| name.clone().unwrap_or_default();
    class(&volume.volume_attributes_class_name) == class(&claim.volume_attributes_class_name)
}

/// Whether the volume can be used in every way that the claim asks for.
pub fn grants_access(volume: &PersistentVolumeSpec, claim: &PersistentVolumeClaimSpec) -> bool {
    let modes = volume.access_modes.as_deref().unwrap_or_default();
    claim.access_modes.iter().flatten().all(|mode| modes.contains(mode))
}

/// Whether the volume is of the class that the claim names.
pub fn is_of_class(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let class = volume.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    class.unwrap_or_default() == class_name(claim).unwrap_or_default()
}

/// The class that a claim names, in the older way if it does (`GetPersistentVolumeClaimClass` of Kubernetes); `None` where
/// none was chosen yet, empty where none is wanted.
pub fn class_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    let named = || claim.spec.as_ref()?.storage_class_name.as_deref();
    annotation(&claim.metadata, CLASS).or_else(named)
}

pub fn requested_bytes(claim: &PersistentVolumeClaim) -> i64 {
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()?.requests.as_ref());
    requests.and_then(|r| quantity::units(r.get("storage")?)).unwrap_or(0)
}

pub fn capacity_bytes(volume: &PersistentVolume) -> i64 {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref());
    capacity.and_then(|c| quantity::units(c.get("storage")?)).unwrap_or(0)
}

/// Whether the claim was made for the pod's ephemeral volume of its name.
pub fn is_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    controller_of(&claim.metadata).is_some_and(|owner| Some(&owner.uid) == pod.metadata.uid.as_ref())
}

/// What is said of a claim that has the name of one for the pod.
pub fn not_made_for(claim: &PersistentVolumeClaim, pod: &Pod) -> String {
    let (claim, pod) = (Key::of(&claim.metadata), Key::of(&pod.metadata));
    format!("PVC {claim} was not created for pod {pod} (pod is not owner)")
}

/// Whether the claim is for one of the pod's ephemeral volumes.
pub fn is_ephemeral(pod: &PodInfo, claim: &str) -> bool {
    let volumes = pod.pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref()).into_iter().flatten();
    volumes.filter(|v| v.ephemeral.is_some()).any(|v| ephemeral_claim(&pod.pod, &v.name) == claim)
}
