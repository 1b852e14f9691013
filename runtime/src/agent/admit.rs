//! Pods that are new to the node: those that ran here before come back, the others are let in or turned away.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8w_kinds::core::pod::host_port::{HostPort, host_ports};
use k8w_networking::{HostPortRegistration, Protocol};
use kube::ResourceExt;

use super::record::Record;
use super::{Agent, jobs};
use crate::pod::admission::{self, Refused, Rejection};
use crate::pod::identity::identity;
use crate::pod::plan::PodPlan;
use crate::pod::resources;
use crate::pod::state::{self, PodState};
use crate::pod::static_pod;

impl Agent {
    /// The API's pods of this node have all been told: what is not among them is gone. Those that ran here before have
    /// their room first, then those that are here longest.
    pub(super) fn listed(&mut self) {
        let listing = self.listing.take().unwrap_or_default();
        let is_mirror = |pod: &Pod| static_pod::mirrored(pod).is_some();
        let (mirrors, mut pods): (Vec<Pod>, Vec<Pod>) = listing.into_iter().partition(is_mirror);
        self.mirrors_listed(mirrors);
        pods.sort_by_cached_key(|pod| (!was_here(pod), pod.creation_timestamp()));
        let own = pods.iter().filter_map(ResourceExt::uid);
        let listed: HashSet<String> = own.chain(self.statics.uids().cloned()).collect();
        pods.into_iter().for_each(|pod| self.applied(pod));
        let known = self.pods.keys().chain(self.undecided.keys());
        let gone: Vec<String> = known.filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in gone {
            self.removed(&uid);
        }
        self.shared.pods.all_are_here();
        self.is_listed = true;
        self.sweep();
    }

    /// Removes what pods left that are not this node's any more, once both the API and the folder have told of theirs.
    pub(super) fn sweep(&mut self) {
        if self.is_listed && self.statics.are_known() {
            let known = self.pods.keys().chain(self.undecided.keys()).chain(self.statics.uids());
            let known: HashSet<String> = known.cloned().collect();
            tokio::spawn(jobs::sweep(std::mem::take(&mut self.leftovers), known));
        }
    }

    /// A pod of this node is new, or changed.
    pub(super) fn applied(&mut self, pod: Pod) {
        let Some(uid) = pod.uid() else { return };
        if static_pod::mirrored(&pod).is_some() {
            self.mirror_applied(pod);
        } else if self.pods.contains_key(&uid) {
            self.changed(&uid, pod);
        } else if let Some(waiting) = self.undecided.get_mut(&uid) {
            *waiting = pod;
        } else {
            self.admit(uid, pod, false);
        }
    }

    /// A pod's object is gone, and with it what it had of the node's room, although it may still have to stop.
    pub(super) fn removed(&mut self, uid: &str) {
        self.undecided.remove(uid);
        self.room.give_back(uid);
        self.process(uid, state::Event::Removed);
    }

    /// The Node object was looked at for a pod that waits.
    pub(super) fn node_seen(&mut self, uid: String, node: Option<Box<Node>>) {
        if let Some(node) = node {
            self.node.send_replace(*node);
        }
        if let Some(pod) = self.undecided.remove(&uid) {
            self.admit(uid, pod, true);
        }
    }

    /// Begins with a pod that is new. Who bound it may know a newer Node object than this agent does, which therefore looks
    /// before it turns a pod away for that.
    pub(super) fn admit(&mut self, uid: String, pod: Pod, has_looked: bool) {
        // One that ran here before has what it had then, until there is room for what it wants now.
        if let Some(before) = Some(&pod).filter(|pod| was_here(pod)).and_then(resources::as_shown) {
            self.begin(uid.clone(), before, has_looked);
            return self.changed(&uid, pod);
        }
        self.begin(uid, pod, has_looked);
    }

    fn begin(&mut self, uid: String, pod: Pod, has_looked: bool) {
        let (plan, now) = (PodPlan::of(&pod), Timestamp::now());
        let state = if was_here(&pod) {
            PodState::restore(plan, &pod.status.clone().unwrap_or_default(), now)
        } else if pod.metadata.deletion_timestamp.is_some() {
            PodState::new(plan, now)
        } else {
            let admitted = admission::check(&uid, &pod, &self.room, &self.node.borrow());
            match admitted {
                Ok(()) => PodState::new(plan, now),
                Err(Refused::ByNode(_)) if !has_looked => {
                    self.undecided.insert(uid.clone(), pod);
                    tokio::spawn(jobs::look_at_node(self.shared.clone(), uid));
                    return;
                }
                Err(Refused::ByNode(rejection) | Refused::ForGood(rejection)) => {
                    let Rejection { reason, message } = &rejection;
                    self.shared.recorder.pod(&pod, None, true, reason, message.as_str());
                    PodState::rejected(plan, rejection, now)
                }
            }
        };
        let mut address = None;
        if state.outcome().is_none() {
            self.room.take(&uid, &pod);
            address = self.address_for(&pod);
        }
        let host_ports = address.map(|ip| self.lead_host_ports(&pod, ip)).unwrap_or_default();
        let is_static = self.statics.has(&uid);
        self.pods.insert(uid.clone(), Record::new(pod, state, address, host_ports, is_static, now));
        self.process(&uid, state::Event::Tick);
    }

    /// The address that the pod's status shows, or a fresh one.
    fn address_for(&mut self, pod: &Pod) -> Option<Ipv4Addr> {
        let shown = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
        let shown: Option<Ipv4Addr> = shown.and_then(|ip| ip.parse().ok());
        shown.filter(|address| self.addresses.claim(*address)).or_else(|| self.addresses.allocate())
    }

    /// Leads the node's ports that a pod asks for to its own.
    fn lead_host_ports(&self, pod: &Pod, ip: Ipv4Addr) -> Vec<HostPortRegistration> {
        let identity = identity(pod, ip.into());
        let lead = |asked: HostPort| {
            // A pod whose address is none does not start.
            let ip = if asked.is_everywhere() { None } else { Some(asked.address.parse().ok()?) };
            let (port, own) = (u16::try_from(asked.port).ok()?, u16::try_from(asked.container_port).ok()?);
            let host = k8w_networking::HostPort { protocol: Protocol::parse(Some(&asked.protocol))?, port, ip };
            Some(self.shared.network.register_host_port(host, &identity, own))
        };
        host_ports(pod).filter_map(lead).collect()
    }
}

/// Whether this node has begun with a pod before, or is to find it over.
fn was_here(pod: &Pod) -> bool {
    pod.status.as_ref().is_some_and(|status| {
        status.start_time.is_some() || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
    })
}
