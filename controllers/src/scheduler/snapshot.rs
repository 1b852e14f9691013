//! What the scheduler decides on: each node with what runs on it, or is about to.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Taint};
use k8w_kinds::core::taints::PREFER_NO_SCHEDULE;

use super::amounts::Amounts;
use super::images::Images;
use super::pod_info::PodInfo;
use super::topology::{Holdings, Namespaces, Tallies, Terrain, Who};
use super::volumes::Volumes;
use crate::nodes;
use crate::pods;
use crate::selector::Labels;

pub struct NodeInfo {
    /// The node's place in [`Snapshot::nodes`].
    pub slot: usize,
    pub node: Arc<Node>,
    pub unschedulable: bool,
    /// NoSchedule and NoExecute.
    pub hard_taints: Vec<Taint>,
    /// PreferNoSchedule.
    pub soft_taints: Vec<Taint>,
    pub allocatable: Amounts,
    pub max_pods: usize,
    pub requested: Amounts,
    pub assumed: Amounts,
    pub pods: HashMap<Arc<str>, Arc<PodInfo>>,
}

impl NodeInfo {
    fn new(slot: usize, node: Arc<Node>) -> Self {
        let mut info = Self {
            slot,
            node: Arc::default(),
            unschedulable: false,
            hard_taints: Vec::new(),
            soft_taints: Vec::new(),
            allocatable: Amounts::default(),
            max_pods: 0,
            requested: Amounts::default(),
            assumed: Amounts::default(),
            pods: HashMap::new(),
        };
        info.set_node(node);
        info
    }

    fn set_node(&mut self, node: Arc<Node>) {
        let allocatable = node.status.as_ref().and_then(|s| s.allocatable.as_ref());
        self.allocatable = Amounts::from_list(allocatable);
        self.max_pods = max_pods(&node);
        self.unschedulable = nodes::is_unschedulable(&node);
        self.hard_taints = hard_taints(&node).cloned().collect();
        self.soft_taints = taints(&node).filter(|taint| !is_hard(taint)).cloned().collect();
        self.node = node;
    }

    pub fn name(&self) -> &str {
        nodes::name(&self.node)
    }

    pub fn labels(&self) -> &Labels {
        nodes::labels(&self.node)
    }

    fn add(&mut self, uid: Arc<str>, pod: Arc<PodInfo>) {
        self.requested += &pod.requests;
        self.assumed += &pod.assumed;
        self.pods.insert(uid, pod);
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested -= &pod.requests;
        self.assumed -= &pod.assumed;
        Some(pod)
    }
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

fn is_hard(taint: &Taint) -> bool {
    taint.effect != PREFER_NO_SCHEDULE
}

/// The node's taints that keep pods away: NoSchedule and NoExecute.
pub fn hard_taints(node: &Node) -> impl Iterator<Item = &Taint> {
    taints(node).filter(|taint| is_hard(taint))
}

/// How many pods the node has room for.
pub fn max_pods(node: &Node) -> usize {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let pods = allocatable.and_then(|amounts| crate::quantity::units(amounts.get("pods")?));
    pods.and_then(|pods| usize::try_from(pods).ok()).unwrap_or(0)
}

/// What a pod's change did to the counts.
#[derive(Default)]
pub struct Moved {
    /// It no longer counts, or no longer so, against the node in this slot (if the node is known).
    pub freed: Option<(Arc<PodInfo>, Option<usize>)>,
    pub placed: Option<Arc<PodInfo>>,
    /// What it was before it began to leave: it still counts, but not where pods that stay are counted.
    pub leaving: Option<Arc<PodInfo>>,
}

/// Nodes, the pods on them, and what else decisions rest on.
#[derive(Default)]
pub struct Snapshot {
    pub nodes: Vec<NodeInfo>,
    index: HashMap<Arc<str>, usize>,
    /// Pod uid -> the node it counts against.
    places: HashMap<Arc<str>, Arc<str>>,
    /// Pods whose node is not known (yet), by node name.
    homeless: HashMap<Arc<str>, HashMap<Arc<str>, Arc<PodInfo>>>,
    /// RuntimeClass -> its handler.
    pub runtime_handlers: HashMap<String, String>,
    namespaces: Namespaces,
    pub tallies: Tallies,
    pub holdings: Holdings,
    pub volumes: Volumes,
    pub images: Images,
    /// Pods that others were evicted for, by uid, and the node each waits for.
    nominated: HashMap<Arc<str>, (Arc<PodInfo>, String)>,
}

impl Snapshot {
    pub fn slot(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.slot(name).map(|slot| &self.nodes[slot])
    }

    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    /// Takes in a namespace's labels; `None` when it is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        let has_changed = match labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()) != Some(labels),
            None => self.namespaces.remove(name).is_some(),
        };
        if has_changed {
            self.tallies.namespaces_changed();
        }
    }

    /// Takes in a node; says whether something that decisions rest on has changed.
    pub fn set_node(&mut self, node: Arc<Node>) -> bool {
        let name: Arc<str> = node.metadata.name.as_deref().unwrap_or_default().into();
        let Some(slot) = self.slot(&name) else {
            self.add_node(name, node);
            return true;
        };
        let before = self.nodes[slot].node.clone();
        self.images.replace(Some(&before), Some(&node));
        let (was, is) = (before.status.as_ref(), node.status.as_ref());
        let same_place = before.metadata.labels == node.metadata.labels && before.spec == node.spec;
        let same_status =
            was.map(|s| (&s.allocatable, &s.runtime_handlers)) == is.map(|s| (&s.allocatable, &s.runtime_handlers));
        if same_place && same_status {
            self.nodes[slot].node = node;
            return false;
        }
        if same_place {
            self.nodes[slot].set_node(node);
            return true;
        }
        self.count_node(slot, -1);
        self.tallies.leave(slot);
        self.holdings.leave(slot);
        self.nodes[slot].set_node(node);
        self.tallies.enter(&self.nodes[slot]);
        self.holdings.enter(&self.nodes[slot]);
        self.count_node(slot, 1);
        true
    }

    fn add_node(&mut self, name: Arc<str>, node: Arc<Node>) {
        self.images.replace(None, Some(&node));
        let slot = self.nodes.len();
        let mut info = NodeInfo::new(slot, node);
        for (uid, pod) in self.homeless.remove(&name).unwrap_or_default() {
            info.add(uid, pod);
        }
        self.index.insert(name, slot);
        self.tallies.enter(&info);
        self.holdings.enter(&info);
        self.nodes.push(info);
        self.count_node(slot, 1);
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.slot(name) else { return };
        self.images.replace(Some(&self.nodes[slot].node), None);
        self.count_node(slot, -1);
        self.tallies.swap_remove(slot);
        self.holdings.swap_remove(slot);
        self.index.remove(name);
        let removed = self.nodes.swap_remove(slot);
        if let Some(moved) = self.nodes.get_mut(slot) {
            moved.slot = slot;
            if let Some(place) = self.index.get_mut(moved.name()) {
                *place = slot;
            }
        }
        if !removed.pods.is_empty() {
            self.homeless.insert(name.into(), removed.pods);
        }
    }

    /// Counts all pods of a node in (1) or out (-1).
    fn count_node(&mut self, slot: usize, sign: isize) {
        for pod in self.nodes[slot].pods.values() {
            self.tallies.count(pod, slot, sign, &self.namespaces);
            self.holdings.count(pod, slot, sign, &self.nodes);
        }
    }

    /// The tally of the pods that all of these select on this terrain.
    pub fn tally(&mut self, who: Vec<Who>, terrain: Terrain) -> usize {
        self.tallies.of(who, terrain, &self.nodes, &self.namespaces)
    }

    /// Counts the pod against a node, and no longer against any other.
    pub fn place(&mut self, pod: Arc<PodInfo>, node: &str) {
        let uid: Arc<str> = pod.uid().into();
        self.displace(&uid);
        self.places.insert(uid.clone(), node.into());
        self.volumes.used_by(&pod, 1);
        match self.slot(node) {
            Some(slot) => {
                self.tallies.count(&pod, slot, 1, &self.namespaces);
                self.holdings.count(&pod, slot, 1, &self.nodes);
                self.nodes[slot].add(uid, pod);
            }
            None => _ = self.homeless.entry(node.into()).or_default().insert(uid, pod),
        }
    }

    /// Stops counting the pod, and says what it was and where.
    pub fn displace(&mut self, uid: &str) -> Option<(Arc<PodInfo>, Option<usize>)> {
        let node = self.places.remove(uid)?;
        let slot = self.slot(&node);
        let pod = match slot {
            Some(slot) => {
                let pod = self.nodes[slot].remove(uid)?;
                self.tallies.count(&pod, slot, -1, &self.namespaces);
                self.holdings.count(&pod, slot, -1, &self.nodes);
                pod
            }
            None => {
                let pods = self.homeless.get_mut(&node)?;
                let pod = pods.remove(uid)?;
                if pods.is_empty() {
                    self.homeless.remove(&node);
                }
                pod
            }
        };
        self.volumes.used_by(&pod, -1);
        Some((pod, slot))
    }

    /// Follows a pod's state: it counts from when it has a node until it has ended.
    pub fn follow(&mut self, pod: &Arc<Pod>, gone: bool) -> Moved {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        match pods::node_name(pod) {
            Some(node) if !gone && !pods::is_terminal(pod) => {
                let known = match self.places.get(uid) {
                    Some(place) if &**place == node => match self.slot(node) {
                        Some(slot) => self.nodes[slot].pods.get_mut(uid),
                        None => self.homeless.get_mut(node).and_then(|pods| pods.get_mut(uid)),
                    },
                    _ => None,
                };
                if let Some(known) = known
                    && known.counts_like(pod)
                    && pods::is_deleting(&known.pod.metadata) == pods::is_deleting(&pod.metadata)
                {
                    // Most updates are status only, and change nothing that counts here.
                    match Arc::get_mut(known) {
                        Some(info) => info.pod = pod.clone(),
                        None => *known = Arc::new(PodInfo::new(pod.clone())),
                    }
                    return Moved::default();
                }
                let freed = self.displace(uid);
                let info = Arc::new(PodInfo::new(pod.clone()));
                self.place(info.clone(), node);
                match freed {
                    Some((before, _)) if before.counts_like(pod) => Moved { leaving: Some(before), ..Moved::default() },
                    freed => Moved { freed, placed: Some(info), leaving: None },
                }
            }
            None if !gone => Moved::default(),
            _ => Moved { freed: self.displace(uid), ..Moved::default() },
        }
    }

    /// Remembers which node the pod waits for while those evicted for it leave; `None` forgets.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: Option<&str>) {
        match node {
            Some(node) => _ = self.nominated.insert(pod.uid().into(), (pod.clone(), node.to_owned())),
            None => _ = self.nominated.remove(pod.uid()),
        }
    }

    /// Takes in a later state of a pod that waits for its node.
    pub fn follow_nominated(&mut self, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if let Some((known, _)) = self.nominated.get_mut(uid) {
            *known = Arc::new(PodInfo::new(pod.clone()));
        }
    }

    /// Forgets what was remembered by [`Self::nominate`]; the pod and its node, unless it is there.
    pub fn withdraw(&mut self, uid: &str) -> Option<(Arc<PodInfo>, String)> {
        self.nominated.remove(uid).filter(|_| !self.places.contains_key(uid))
    }

    /// Pods that wait for this node and must give way to one of `priority`.
    pub fn nominated_below(&self, node: &str, priority: i32) -> Vec<Arc<PodInfo>> {
        let waiting = self.nominated.values().filter(|(pod, place)| place == node && pod.priority() < priority);
        let mut waiting: Vec<_> = waiting.map(|(pod, _)| pod.clone()).collect();
        waiting.sort_by(|a, b| a.uid().cmp(b.uid()));
        waiting
    }

    /// Places the nominated pods that the given one must make room for, and says which those are and where.
    pub fn place_nominated(&mut self, before: &PodInfo) -> Vec<(Arc<PodInfo>, Option<usize>)> {
        if self.nominated.is_empty() {
            return Vec::new();
        }
        let rivals = self.nominated.iter().filter(|(uid, (pod, _))| {
            &***uid != before.uid() && pod.priority() >= before.priority() && !self.places.contains_key(*uid)
        });
        let mut rivals: Vec<_> = rivals.map(|(_, nominated)| nominated.clone()).collect();
        rivals.sort_by(|(a, _), (b, _)| a.uid().cmp(b.uid()));
        let placed = rivals.into_iter().map(|(pod, node)| {
            self.place(pod.clone(), &node);
            (pod, self.slot(&node))
        });
        placed.collect()
    }
}
