//! A pod with what is asked of it again and again, computed once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod};
use k8w_kinds::core::pod::host_port::{HostPort, host_ports};
use k8w_kinds::core::selection::NO_LABELS;

use super::amounts::{Amounts, assumed_requests, requests};
use super::disks::{Disk, disks};
use super::topology::{PodTerms, anchor};
use crate::selector::Labels;

#[derive(Debug)]
pub struct PodInfo {
    pub pod: Arc<Pod>,
    pub requests: Amounts,
    pub assumed: Amounts,
    pub ports: Vec<HostPort>,
    /// What it wants of the pods around it.
    pub terms: Option<Box<PodTerms>>,
    /// The PersistentVolumeClaims it mounts, by name.
    pub claims: Vec<String>,
    /// The disks that it mounts without a claim.
    pub disks: Vec<Disk>,
}

impl PodInfo {
    pub fn new(pod: Arc<Pod>) -> Self {
        Self {
            requests: requests(&pod),
            assumed: assumed_requests(&pod),
            ports: host_ports(&pod).collect(),
            terms: PodTerms::of(&pod),
            claims: claim_names(&pod).collect(),
            disks: disks(&pod).collect(),
            pod,
        }
    }

    pub fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub fn labels(&self) -> &Labels {
        self.pod.metadata.labels.as_ref().unwrap_or(&NO_LABELS)
    }

    /// See [`anchor`]: one for each label.
    pub fn anchors(&self) -> impl Iterator<Item = u64> {
        self.labels().iter().map(|(label, value)| anchor(self.namespace(), label, value))
    }

    pub fn priority(&self) -> i32 {
        self.pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
    }

    /// Whether it mounts this claim.
    pub fn uses(&self, claim: &PersistentVolumeClaim) -> bool {
        let meta = &claim.metadata;
        meta.namespace.as_deref() == Some(self.namespace())
            && self.claims.iter().any(|name| Some(name) == meta.name.as_ref())
    }

    /// Whether the other state of the same pod counts for the same.
    pub fn counts_like(&self, other: &Pod) -> bool {
        let resources = |pod: &Pod| {
            let of = |list: &Option<Vec<ContainerStatus>>| {
                list.iter().flatten().map(|s| (s.resources.clone(), s.allocated_resources.clone())).collect::<Vec<_>>()
            };
            pod.status.as_ref().map(|s| (of(&s.container_statuses), of(&s.init_container_statuses)))
        };
        self.pod.metadata.labels == other.metadata.labels
            && self.pod.spec == other.spec
            && resources(&self.pod) == resources(other)
    }
}

/// The names of the claims that a pod's volumes use.
pub fn claim_names(pod: &Pod) -> impl Iterator<Item = String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(source), _) => Some(source.claim_name.clone()),
        (None, Some(_)) => Some(ephemeral_claim(pod, &volume.name)),
        (None, None) => None,
    })
}

/// The claim that is made for a pod's generic ephemeral volume (KEP-1698).
pub fn ephemeral_claim(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pod.metadata.name.as_deref().unwrap_or_default())
}
