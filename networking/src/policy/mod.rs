//! NetworkPolicies: which connections pods may have, decided by who is at both ends and never by packets.
//!
//! A pod that no policy selects for a direction is open in it. One that is selected may have what any of these policies
//! allows, and a connection needs the leave of both its ends (Concepts, Network Policies: "The two sorts of pod
//! isolation"). What is always allowed is what Kubernetes allows: a pod to itself, this node to its pods, and answers.
//!
//! The ends are looked at where the connection really goes, behind a Service's address. The policies of a namespace are
//! compiled once with the other tables; a decision looks at those of both ends' namespaces alone.

mod party;
mod pod;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::networking::v1::NetworkPolicy;

pub use self::party::{DNS, End, INGRESS, Part};
use self::party::{Party, Who};
pub use self::pod::{NamedPort, Pod, StaticPod};
use self::rule::{Destination, Direction, Policy};
use crate::endpoint::PodIdentity;
use crate::service::Protocol;

/// All policies, and what they ask about pods and namespaces.
#[derive(Debug, Default)]
pub struct Policies {
    /// By namespace.
    policies: HashMap<String, Vec<Policy>>,
    namespaces: HashMap<String, BTreeMap<String, String>>,
    by_uid: HashMap<String, Arc<Pod>>,
    /// Those that show static pods, by what they say these pods' uids are.
    mirrors: HashMap<String, Vec<Arc<Pod>>>,
    by_ip: HashMap<IpAddr, Arc<Pod>>,
}

impl Policies {
    pub fn build(policies: &[Arc<NetworkPolicy>], namespaces: &[Arc<Namespace>], pods: &[Arc<Pod>]) -> Self {
        let mut built = Self::default();
        for policy in policies {
            let Some(namespace) = policy.metadata.namespace.clone() else { continue };
            built.policies.entry(namespace).or_default().extend(Policy::compile(policy));
        }
        // Without policies nobody asks about pods.
        if built.is_empty() {
            return built;
        }
        for namespace in namespaces {
            let Some(name) = namespace.metadata.name.clone() else { continue };
            built.namespaces.insert(name, namespace.metadata.labels.clone().unwrap_or_default());
        }
        for pod in pods {
            built.by_uid.insert(pod.uid.clone(), pod.clone());
            if let Some(shown) = &pod.mirrors {
                built.mirrors.entry(shown.uid.clone()).or_default().push(pod.clone());
            }
            built.by_ip.extend(pod.ips.iter().map(|ip| (*ip, pod.clone())));
        }
        built
    }

    pub fn is_empty(&self) -> bool {
        self.policies.is_empty()
    }

    /// Whether a connection may be made, to this port of the end that it goes to.
    pub fn allows(&self, from: End<'_>, to: End<'_>, port: u16, protocol: Protocol) -> bool {
        if self.is_empty() {
            return true;
        }
        let (from, to) = (self.party(from), self.party(to));
        if from.uid().is_some() && from.uid() == to.uid() {
            return true;
        }
        let destination = Destination { at: &to, port, protocol };
        self.permit(Direction::Egress, &from, &to, &destination)
            && self.permit(Direction::Ingress, &to, &from, &destination)
    }

    /// Whether the policies of `subject`'s namespace let it have a connection with `peer`.
    fn permit(
        &self,
        direction: Direction,
        subject: &Party<'_>,
        peer: &Party<'_>,
        destination: &Destination<'_>,
    ) -> bool {
        let pod_namespace = subject.uid().and_then(|_| subject.namespace());
        let Some(namespace) = pod_namespace.filter(|_| !matches!(peer.who, Who::Node)) else { return true };
        let mut isolated = false;
        for policy in self.policies.get(namespace).into_iter().flatten() {
            let Some(rules) = policy.rules(direction) else { continue };
            if matches!(subject.who, Who::NewPod(_)) {
                // Until its labels are known, any policy may be about it.
                return false;
            }
            if !subject.is_selected(&policy.selector) {
                continue;
            }
            if rules.iter().any(|rule| rule.allows(namespace, peer, destination)) {
                return true;
            }
            isolated = true;
        }
        !isolated
    }

    /// What is known of a pod of this node.
    fn pod(&self, pod: &PodIdentity) -> Option<&Pod> {
        let found = self.by_uid.get(&pod.uid);
        let shown = || self.mirrors.get(&pod.uid)?.iter().find(|mirror| mirror.shows(pod));
        found.or_else(shown).map(Arc::as_ref)
    }

    fn party<'a>(&'a self, end: End<'a>) -> Party<'a> {
        let (ip, who) = match end {
            End::Node => (None, Who::Node),
            End::Pod(pod) => (Some(pod.ip), self.pod(pod).map_or(Who::NewPod(pod), Who::Pod)),
            End::Part(part, ip) => (Some(ip.to_canonical()), Who::Part(part)),
            End::Address(ip) => {
                let ip = ip.to_canonical();
                (Some(ip), self.by_ip.get(&ip).map_or(Who::Host, |pod| Who::Pod(pod)))
            }
        };
        let mut party = Party { ip, who, namespace_labels: None };
        party.namespace_labels = party.namespace().and_then(|namespace| self.namespaces.get(namespace));
        party
    }
}
