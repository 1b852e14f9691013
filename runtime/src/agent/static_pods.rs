//! Static pods in the agent's loop: what the folder holds runs, and the API has a mirror of each.
//!
//! Both are brought about by looking at what there is, whatever happened: [`Agent::tend`] for one name at a time.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{Agent, jobs};
use crate::pod::static_pod;

/// Namespace and name.
pub(super) type PodName = (String, String);

#[derive(Default)]
pub(super) struct StaticPods {
    /// What the folder holds; `None` until it was read, which it never is without a folder.
    wanted: Option<BTreeMap<PodName, Pod>>,
    /// Uids of those that run or are about to end.
    running: HashMap<PodName, String>,
    /// Mirrors in the API.
    mirrors: HashMap<PodName, Pod>,
    /// Mirrors that are being made, by name, and those that are being deleted, by uid.
    making: HashSet<PodName>,
    deleting: HashSet<String>,
    /// Uids of those that are over, and of which something may still lie on the disk.
    clearing: HashSet<String>,
}

impl StaticPods {
    /// A node without a folder has none, and any mirror is left over.
    pub(super) fn new(has_folder: bool) -> StaticPods {
        StaticPods { wanted: (!has_folder).then(BTreeMap::new), ..StaticPods::default() }
    }

    /// Whether the pod of this uid is a static one.
    pub(super) fn has(&self, uid: &str) -> bool {
        self.running.values().any(|running| running == uid)
    }

    /// Whether the folder was read, if there is one.
    pub(super) fn are_known(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) fn uids(&self) -> impl Iterator<Item = &String> {
        self.running.values()
    }
}

impl Agent {
    /// The folder was read.
    pub(super) fn manifests_read(&mut self, pods: Vec<Pod>) {
        // Of two with the same name the last one counts, as in the kubelet.
        let wanted: BTreeMap<PodName, Pod> = pods.into_iter().map(|pod| (name_of(&pod), pod)).collect();
        let known = self.statics.running.keys().chain(self.statics.mirrors.keys());
        let names: HashSet<PodName> = known.chain(wanted.keys()).cloned().collect();
        self.statics.wanted = Some(wanted);
        names.iter().for_each(|name| self.tend(name));
        self.sweep();
    }

    /// A mirror is new, or changed.
    pub(super) fn mirror_applied(&mut self, mirror: Pod) {
        let name = name_of(&mirror);
        self.statics.mirrors.insert(name.clone(), mirror);
        self.tend(&name);
    }

    /// A mirror is gone.
    pub(super) fn mirror_gone(&mut self, mirror: &Pod) {
        let name = name_of(mirror);
        self.statics.deleting.remove(&mirror.uid().unwrap_or_default());
        self.statics.mirrors.retain(|known, shown| *known != name || shown.uid() != mirror.uid());
        self.tend(&name);
    }

    /// The API's mirrors have all been told: those that are not among them are gone.
    pub(super) fn mirrors_listed(&mut self, mirrors: Vec<Pod>) {
        let before = std::mem::take(&mut self.statics.mirrors);
        self.statics.mirrors = mirrors.into_iter().map(|mirror| (name_of(&mirror), mirror)).collect();
        let listed: HashSet<String> = self.statics.mirrors.values().filter_map(ResourceExt::uid).collect();
        self.statics.deleting.retain(|uid| listed.contains(uid));
        let known = self.statics.running.keys().chain(self.statics.mirrors.keys());
        let names: HashSet<PodName> = known.cloned().chain(before.into_keys()).collect();
        names.iter().for_each(|name| self.tend(name));
    }

    /// The API server answered the creation of a mirror.
    pub(super) fn mirror_made(&mut self, name: &PodName, mirror: Option<Box<Pod>>) {
        self.statics.making.remove(name);
        match mirror {
            // The watch may have told of it already, and of what became of it.
            Some(mirror) if !self.statics.mirrors.contains_key(name) => self.mirror_applied(*mirror),
            _ => self.tend(name),
        }
    }

    /// A pod is over and forgotten.
    pub(super) fn static_forgotten(&mut self, pod: &Pod) {
        self.statics.clearing.extend(pod.uid());
        self.tend(&name_of(pod));
    }

    /// Nothing is left of it. What the folder holds under its name now may begin.
    pub(super) fn static_cleared(&mut self, pod: &Pod) {
        let name = name_of(pod);
        self.statics.clearing.remove(&pod.uid().unwrap_or_default());
        self.statics.running.remove(&name);
        self.tend(&name);
    }

    /// Brings about what should be under one name: that its pod runs, and that the API shows exactly that.
    fn tend(&mut self, name: &PodName) {
        let Some(wanted) = self.statics.wanted.as_ref().map(|wanted| wanted.get(name)) else { return };
        match (self.statics.running.get(name).cloned(), wanted.cloned()) {
            (Some(uid), _) if self.statics.clearing.contains(&uid) => {}
            (Some(uid), wanted) if wanted.as_ref().and_then(ResourceExt::uid).as_ref() != Some(&uid) => {
                self.removed(&uid);
                // One that was not let in yet leaves nothing that would have to end first.
                if !self.pods.contains_key(&uid) {
                    self.statics.running.remove(name);
                    return self.tend(name);
                }
            }
            (None, Some(pod)) => {
                let uid = pod.uid().unwrap_or_default();
                self.statics.running.insert(name.clone(), uid.clone());
                self.admit(uid, pod, false);
            }
            _ => {}
        }
        self.tend_mirror(name);
    }

    fn tend_mirror(&mut self, name: &PodName) {
        let running = self.statics.running.get(name).cloned();
        let record = running.as_ref().and_then(|uid| self.pods.get_mut(uid));
        match (record, self.statics.mirrors.get(name)) {
            (Some(record), Some(mirror)) if is_good(mirror, running.as_deref()) => record.mirrored(mirror),
            (record, Some(mirror)) => {
                if let Some(record) = record {
                    record.unmirrored();
                }
                if self.statics.deleting.insert(mirror.uid().unwrap_or_default()) {
                    tokio::spawn(jobs::delete_mirror(self.shared.clone(), mirror.clone()));
                }
            }
            (Some(record), None) => {
                record.unmirrored();
                // A mirror belongs to its node, which has to be there first.
                if self.node.borrow().uid().is_some() && self.statics.making.insert(name.clone()) {
                    let mirror = static_pod::mirror(&record.pod, &self.node.borrow());
                    tokio::spawn(jobs::create_mirror(self.shared.clone(), name.clone(), mirror));
                }
            }
            (None, None) => {}
        }
        if let Some(uid) = running {
            self.settle(&uid);
        }
    }

    /// The node is known, which mirrors wait for.
    pub(super) fn tend_all(&mut self) {
        let names: Vec<PodName> = self.statics.running.keys().cloned().collect();
        names.iter().for_each(|name| self.tend(name));
    }
}

/// Whether a mirror shows the static pod of this uid, and is to stay.
fn is_good(mirror: &Pod, uid: Option<&str>) -> bool {
    mirror.metadata.deletion_timestamp.is_none() && static_pod::mirrored(mirror) == uid
}

fn name_of(pod: &Pod) -> PodName {
    (pod.namespace().unwrap_or_default(), pod.name_any())
}
