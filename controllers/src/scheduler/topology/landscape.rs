//! Which domain of a topology each node is in.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, Toleration};
use k8w_kinds::core::selection::NodeSelection;
use k8w_kinds::core::taints::tolerated;

use crate::nodes;
use crate::scheduler::snapshot::{NodeInfo, hard_taints};

const NOWHERE: u32 = u32::MAX;

/// What makes nodes count, and by which label they fall into domains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terrain {
    /// The label whose values are the domains.
    pub key: String,
    /// Labels that a node must have besides.
    pub needs: Vec<String>,
    /// Nodes that the pod may not choose don't count (`nodeAffinityPolicy: Honor`).
    pub selection: NodeSelection,
    /// Nodes with taints that these don't tolerate don't count (`nodeTaintsPolicy: Honor`).
    pub tolerations: Option<Tolerations>,
}

/// A pod's tolerations, comparable.
#[derive(Clone, Debug)]
pub struct Tolerations {
    list: Vec<Toleration>,
    text: String,
}

impl Tolerations {
    pub fn new(list: Option<&Vec<Toleration>>) -> Self {
        let list = list.cloned().unwrap_or_default();
        Self { text: serde_json::to_string(&list).unwrap_or_default(), list }
    }
}

impl PartialEq for Tolerations {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Tolerations {}

impl std::hash::Hash for Tolerations {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl Terrain {
    /// All nodes that have the label.
    pub fn whole(key: &str) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// The domain that the node counts for.
    pub fn domain_of<'n>(&self, node: &'n Node) -> Option<&'n String> {
        let (name, labels) = (nodes::name(node), nodes::labels(node));
        let tolerates_all =
            |tolerations: &Tolerations| hard_taints(node).all(|taint| tolerated(Some(&tolerations.list), taint));
        let counts = self.needs.iter().all(|key| labels.contains_key(key))
            && (self.selection.allows_all() || self.selection.allows(name, labels))
            && self.tolerations.as_ref().is_none_or(tolerates_all);
        if counts { labels.get(&self.key) } else { None }
    }
}

/// A terrain with all nodes on it. Nodes are known by their slot in the snapshot.
pub struct Landscape {
    terrain: Terrain,
    domains: Vec<u32>,
    names: HashMap<String, u32>,
    /// Nodes in each domain.
    nodes: Vec<u32>,
    free: Vec<u32>,
}

impl Landscape {
    fn new(terrain: Terrain, nodes: &[NodeInfo]) -> Self {
        let mut landscape =
            Self { terrain, domains: Vec::new(), names: HashMap::new(), nodes: Vec::new(), free: Vec::new() };
        nodes.iter().for_each(|node| landscape.enter(node));
        landscape
    }

    /// The domain the node in this slot counts for.
    pub fn domain(&self, slot: usize) -> Option<usize> {
        self.domains.get(slot).filter(|domain| **domain != NOWHERE).map(|domain| *domain as usize)
    }

    /// Domains that have a node.
    pub fn domains(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().enumerate().filter(|(_, nodes)| **nodes > 0).map(|(domain, _)| domain)
    }

    /// How many domains these nodes are in.
    pub fn distinct(&self, slots: &[usize]) -> usize {
        let mut seen = vec![false; self.nodes.len()];
        slots
            .iter()
            .filter_map(|slot| self.domain(*slot))
            .filter(|domain| !std::mem::replace(&mut seen[*domain], true))
            .count()
    }

    /// Puts the node of the next slot, or of one that was left, where it belongs.
    fn enter(&mut self, node: &NodeInfo) {
        let domain = match self.terrain.domain_of(&node.node) {
            None => NOWHERE,
            Some(name) => match self.names.get(name) {
                Some(domain) => *domain,
                None => {
                    let domain = self.free.pop().unwrap_or_else(|| {
                        self.nodes.push(0);
                        (self.nodes.len() - 1) as u32
                    });
                    self.names.insert(name.clone(), domain);
                    domain
                }
            },
        };
        if domain != NOWHERE {
            self.nodes[domain as usize] += 1;
        }
        match self.domains.get_mut(node.slot) {
            Some(place) => *place = domain,
            None => self.domains.push(domain),
        }
    }

    fn leave(&mut self, slot: usize) {
        let domain = std::mem::replace(&mut self.domains[slot], NOWHERE);
        if domain == NOWHERE {
            return;
        }
        self.nodes[domain as usize] -= 1;
        if self.nodes[domain as usize] == 0 {
            self.names.retain(|_, known| *known != domain);
            self.free.push(domain);
        }
    }
}

/// Landscapes by terrain.
#[derive(Default)]
pub struct Landscapes {
    list: Vec<Landscape>,
    ids: HashMap<Terrain, usize>,
}

impl Landscapes {
    /// The landscape's place in the list.
    pub fn of(&mut self, terrain: Terrain, nodes: &[NodeInfo]) -> usize {
        if let Some(id) = self.ids.get(&terrain) {
            return *id;
        }
        let id = self.list.len();
        self.list.push(Landscape::new(terrain.clone(), nodes));
        self.ids.insert(terrain, id);
        id
    }

    pub fn get(&self, id: usize) -> &Landscape {
        &self.list[id]
    }

    pub fn enter(&mut self, node: &NodeInfo) {
        self.list.iter_mut().for_each(|landscape| landscape.enter(node));
    }

    pub fn leave(&mut self, slot: usize) {
        self.list.iter_mut().for_each(|landscape| landscape.leave(slot));
    }

    /// The slot is given up, and the last one takes its place.
    pub fn swap_remove(&mut self, slot: usize) {
        for landscape in &mut self.list {
            landscape.leave(slot);
            landscape.domains.swap_remove(slot);
        }
    }
}
