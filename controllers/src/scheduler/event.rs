//! Changes that may help a pod which fits nowhere (kube-scheduler's queueing hints).

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

use super::pod_info::PodInfo;
use super::snapshot::NodeInfo;

#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// A node is new, or something that decisions rest on has changed.
    Node {
        node: &'a NodeInfo,
        before: Option<&'a Node>,
    },
    NodeGone {
        node: &'a Node,
    },
    /// A pod no longer counts; `node` is what it counted against, if that is known.
    Freed {
        pod: &'a PodInfo,
        node: Option<&'a NodeInfo>,
    },
    /// A pod that still counts against its node is being deleted.
    Leaving {
        pod: &'a PodInfo,
    },
    /// A pod counts against its node, and other pods see it there.
    Placed {
        pod: &'a PodInfo,
    },
    RuntimeClass,
    /// A claim is new or has changed.
    Claim(&'a PersistentVolumeClaim),
    Volume {
        volume: &'a PersistentVolume,
        before: Option<&'a PersistentVolume>,
    },
    StorageClass {
        class: &'a StorageClass,
        before: Option<&'a StorageClass>,
    },
    CsiNode {
        node: &'a CSINode,
        before: Option<&'a CSINode>,
    },
    CsiDriver {
        driver: &'a CSIDriver,
        before: Option<&'a CSIDriver>,
    },
    CsiCapacity {
        capacity: &'a CSIStorageCapacity,
        before: Option<&'a CSIStorageCapacity>,
    },
}

impl Event<'_> {
    /// A node is new, or has other labels than before.
    pub fn is_new_ground(&self) -> bool {
        matches!(self, Event::Node { node, before }
            if before.is_none_or(|before| node.node.metadata.labels != before.metadata.labels))
    }

    /// A node is one of these which wasn't before.
    pub fn joins(&self, nodes: impl Fn(&Node) -> bool) -> bool {
        matches!(self, Event::Node { node, before } if nodes(&node.node) && !before.is_some_and(nodes))
    }
}
