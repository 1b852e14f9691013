//! Where the pods are that hold a term about others: what they refuse and what they are drawn to works both ways.

use std::collections::HashMap;
use std::sync::Arc;

use super::landscape::{Landscapes, Terrain};
use super::tally::add;
use super::term::{Namespaces, Term};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::NodeInfo;

/// A pod that requires to be near another makes the other like its company by this much
/// (kube-scheduler's `hardPodAffinityWeight`).
const REQUIRED_WEIGHT: i64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Keeps the selected pods away from the holder's domain.
    Refuses,
    /// Draws them there, or pushes them off, by weight.
    Prefers,
}

struct Held {
    landscape: usize,
    /// The holders' weights by domain.
    weights: Vec<i64>,
    holders: usize,
}

#[derive(Default)]
pub struct Holdings {
    landscapes: Landscapes,
    held: HashMap<Arc<(Hold, Term)>, Held>,
    /// Terms about pods of one namespace with one label in common, by the anchor of both.
    anchored: HashMap<u64, Vec<Arc<(Hold, Term)>>>,
    /// All others.
    wide: Vec<Arc<(Hold, Term)>>,
}

impl Holdings {
    /// The weight of the holders around a node, for each held term that selects the pod.
    pub fn about<'a>(
        &'a self,
        hold: Hold,
        pod: &'a PodInfo,
        namespaces: &'a Namespaces,
    ) -> impl Iterator<Item = impl Fn(usize) -> i64 + use<'a>> + use<'a> {
        let anchored = pod.anchors().filter_map(|anchor| self.anchored.get(&anchor)).flatten();
        let selecting = anchored.chain(&self.wide).filter(move |held| held.0 == hold);
        let selecting = selecting.filter(move |held| held.1.who.selects(&pod.pod, namespaces));
        selecting.filter_map(|held| self.held.get(held)).filter(|held| held.weights.iter().any(|w| *w != 0)).map(
            move |held| {
                let landscape = self.landscapes.get(held.landscape);
                move |slot| landscape.domain(slot).and_then(|domain| held.weights.get(domain)).copied().unwrap_or(0)
            },
        )
    }

    /// Counts a pod's own terms in (1) or out (-1) where it is.
    pub fn count(&mut self, pod: &PodInfo, slot: usize, sign: isize, nodes: &[NodeInfo]) {
        let Some(terms) = &pod.terms else { return };
        for term in &terms.refused {
            self.hold(Hold::Refuses, term, slot, sign, 1, nodes);
        }
        for term in &terms.required {
            self.hold(Hold::Prefers, term, slot, sign, REQUIRED_WEIGHT, nodes);
        }
        for (weight, term) in &terms.preferred {
            self.hold(Hold::Prefers, term, slot, sign, *weight, nodes);
        }
    }

    fn hold(&mut self, hold: Hold, term: &Term, slot: usize, sign: isize, weight: i64, nodes: &[NodeInfo]) {
        let key = Arc::new((hold, term.clone()));
        let held = match self.held.get_mut(&key) {
            Some(held) => held,
            None => {
                let landscape = self.landscapes.of(Terrain::whole(&term.key), nodes);
                match term.who.anchor() {
                    Some(anchor) => self.anchored.entry(anchor).or_default().push(key.clone()),
                    None => self.wide.push(key.clone()),
                }
                self.held.entry(key.clone()).or_insert(Held { landscape, weights: Vec::new(), holders: 0 })
            }
        };
        if let Some(domain) = self.landscapes.get(held.landscape).domain(slot) {
            add(&mut held.weights, domain, sign as i64 * weight);
        }
        held.holders = if sign > 0 { held.holders + 1 } else { held.holders.saturating_sub(1) };
        if held.holders == 0 {
            self.forget(&key);
        }
    }

    fn forget(&mut self, key: &Arc<(Hold, Term)>) {
        self.held.remove(key);
        let Some(anchor) = key.1.who.anchor() else {
            return self.wide.retain(|held| held != key);
        };
        if let Some(anchored) = self.anchored.get_mut(&anchor) {
            anchored.retain(|held| held != key);
            if anchored.is_empty() {
                self.anchored.remove(&anchor);
            }
        }
    }

    pub fn enter(&mut self, node: &NodeInfo) {
        self.landscapes.enter(node);
    }

    pub fn leave(&mut self, slot: usize) {
        self.landscapes.leave(slot);
    }

    pub fn swap_remove(&mut self, slot: usize) {
        self.landscapes.swap_remove(slot);
    }
}
