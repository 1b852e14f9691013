//! Changes that may help a pod which fits nowhere (kube-scheduler's queueing hints).

use k8s_openapi::api::core::v1::Node;

use super::pod_info::PodInfo;
use super::snapshot::NodeInfo;

#[derive(Clone, Copy)]
pub enum Event<'a> {
    /// A node is new, or something that decisions rest on has changed.
    Node {
        node: &'a NodeInfo,
        before: Option<&'a Node>,
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
    /// Something about volumes, claims or their classes.
    Volumes,
    RuntimeClass,
}

impl Event<'_> {
    /// The node is new, or has other labels or taints than before.
    pub fn is_new_ground(&self) -> bool {
        match self {
            Event::Node { before: None, .. } => true,
            Event::Node { node, before: Some(before) } => {
                let taints = |node: &Node| node.spec.as_ref().and_then(|spec| spec.taints.clone());
                node.node.metadata.labels != before.metadata.labels || taints(&node.node) != taints(before)
            }
            _ => false,
        }
    }
}
