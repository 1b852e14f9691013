//! One end of a connection, with what is known about it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8w_kinds::selector::LabelSelector;

use super::pod::Pod;
use crate::endpoint::PodIdentity;
use crate::service::Protocol;

/// Label that every Namespace carries with its own name (API reference, well-known labels).
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// One end of a connection, as who asks knows it.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// This node itself.
    Node,
    /// A pod of this node.
    Pod(&'a PodIdentity),
    /// A part of k8w, for a client at this address or at its own.
    Part(&'static Part, IpAddr),
    /// Whatever has this address: a pod, or a host.
    Address(IpAddr),
}

/// A part of k8w that peers select as if it were a pod, by its namespace and labels.
#[derive(Debug)]
pub struct Part {
    namespace: &'static str,
    labels: &'static [(&'static str, &'static str)],
}

/// The ingress. Peers also select it by the address of its client.
pub static INGRESS: Part = Part { namespace: "kube-system", labels: &[("app.kubernetes.io/name", "k8w-ingress")] };

/// The resolver for names outside of the cluster, under the labels by which policies everywhere name cluster DNS.
pub static DNS: Part = Part { namespace: "kube-system", labels: &[("k8s-app", "kube-dns")] };

/// One end of a connection, with what the tables know about it.
pub(super) struct Party<'a> {
    pub ip: Option<IpAddr>,
    pub who: Who<'a>,
    /// Of its namespace, if it has one that is known.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
}

pub(super) enum Who<'a> {
    Node,
    Pod(&'a Pod),
    /// A pod of this node that the tables have not seen yet.
    NewPod(&'a PodIdentity),
    Part(&'static Part),
    Host,
}

impl Party<'_> {
    pub fn namespace(&self) -> Option<&str> {
        match self.who {
            Who::Pod(pod) => Some(&pod.namespace),
            Who::NewPod(pod) => Some(&pod.namespace),
            Who::Part(part) => Some(part.namespace),
            Who::Node | Who::Host => None,
        }
    }

    /// The pod's UID.
    pub fn uid(&self) -> Option<&str> {
        match self.who {
            Who::Pod(pod) => Some(&pod.uid),
            Who::NewPod(pod) => Some(&pod.uid),
            Who::Part(_) | Who::Node | Who::Host => None,
        }
    }

    /// Whether it is in a namespace with such labels.
    pub fn is_in(&self, namespaces: &LabelSelector) -> bool {
        let Some(name) = self.namespace() else { return false };
        namespaces.matches_with(|key| match self.namespace_labels {
            Some(labels) => labels.get(key).map(String::as_str),
            None => (key == NAMESPACE_NAME).then_some(name),
        })
    }

    /// Whether it is a pod with such labels, or a part of k8w that counts as one.
    pub fn is_selected(&self, pods: &LabelSelector) -> bool {
        match self.who {
            Who::Pod(pod) => pods.matches_with(|key| pod.labels.get(key).map(String::as_str)),
            Who::Part(part) => {
                pods.matches_with(|key| part.labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
            }
            // Nothing is known of its labels, so that a selector which asks for some must not match.
            Who::NewPod(_) => pods.is_everything(),
            Who::Node | Who::Host => false,
        }
    }

    /// Whether it calls a port so.
    pub fn has_port(&self, name: &str, number: u16, protocol: Protocol) -> bool {
        let Who::Pod(pod) = self.who else { return false };
        pod.ports.iter().any(|port| port.name == name && port.number == number && port.protocol == protocol)
    }
}
