//! How many pods of a kind are in each domain, counted along as pods come and go.

use std::collections::HashMap;

use super::landscape::{Landscape, Landscapes, Terrain};
use super::term::{Namespaces, Who};
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::NodeInfo;

/// Tallies kept at a time. Each costs a number per domain; one that was forgotten is counted anew when it is asked for.
const MAX_TALLIES: usize = 2048;

struct Tally {
    /// Pods that every one of these selects are counted.
    who: Vec<Who>,
    landscape: usize,
    /// By domain; shorter when the last domains have none.
    counts: Vec<i64>,
}

/// One tally as it stands.
#[derive(Clone, Copy)]
pub struct Count<'a> {
    pub landscape: &'a Landscape,
    counts: &'a [i64],
}

impl Count<'_> {
    /// Pods in the node's domain; `None` if the node is in none.
    pub fn near(&self, slot: usize) -> Option<i64> {
        self.landscape.domain(slot).map(|domain| self.within(domain))
    }

    /// Pods in all domains.
    pub fn total(&self) -> i64 {
        self.counts.iter().sum()
    }

    /// How many domains there are, and the least number of pods in one of them.
    pub fn least(&self) -> (usize, i64) {
        let mut domains = 0;
        let mut least = i64::MAX;
        for domain in self.landscape.domains() {
            domains += 1;
            least = least.min(self.within(domain));
        }
        (domains, if domains == 0 { 0 } else { least })
    }

    fn within(&self, domain: usize) -> i64 {
        self.counts.get(domain).copied().unwrap_or(0)
    }
}

#[derive(Default)]
pub struct Tallies {
    landscapes: Landscapes,
    list: Vec<Tally>,
    ids: HashMap<(Vec<Who>, usize), usize>,
    /// Tallies of pods of one namespace with one label in common, by the anchor of both.
    anchored: HashMap<u64, Vec<usize>>,
    /// All others.
    wide: Vec<usize>,
    /// How many placed pods have each anchor: most tallies are of pods of which there are none yet.
    carriers: HashMap<u64, usize>,
}

impl Tallies {
    /// Forgets everything if too much is known; ids from before are void then.
    pub fn make_room(&mut self) {
        if self.list.len() > MAX_TALLIES {
            self.clear();
        }
    }

    /// Namespaces got other labels: tallies that choose namespaces by label count anew.
    pub fn namespaces_changed(&mut self) {
        if self.list.iter().any(|tally| tally.who.iter().any(|who| who.namespace_selector.is_some())) {
            self.clear();
        }
    }

    fn clear(&mut self) {
        *self = Self { carriers: std::mem::take(&mut self.carriers), ..Self::default() };
    }

    /// The tally's id, good until the next [`Self::make_room`] or [`Self::namespaces_changed`].
    pub fn of(&mut self, who: Vec<Who>, terrain: Terrain, nodes: &[NodeInfo], namespaces: &Namespaces) -> usize {
        let landscape = self.landscapes.of(terrain, nodes);
        let key = (who, landscape);
        if let Some(id) = self.ids.get(&key) {
            return *id;
        }
        let id = self.list.len();
        let mut tally = Tally { who: key.0.clone(), landscape, counts: Vec::new() };
        let anchor = tally.who.iter().find_map(Who::anchor);
        let has_any = anchor.is_none_or(|anchor| self.carriers.contains_key(&anchor));
        for node in nodes.iter().filter(|_| has_any) {
            let Some(domain) = self.landscapes.get(landscape).domain(node.slot) else { continue };
            let count = node.pods.values().filter(|pod| tally.counts_pod(pod, namespaces)).count();
            tally.add(domain, count as i64);
        }
        match anchor {
            Some(anchor) => self.anchored.entry(anchor).or_default().push(id),
            None => self.wide.push(id),
        }
        self.list.push(tally);
        self.ids.insert(key, id);
        id
    }

    pub fn get(&self, id: usize) -> Count<'_> {
        let tally = &self.list[id];
        Count { landscape: self.landscapes.get(tally.landscape), counts: &tally.counts }
    }

    /// Counts a pod in (1) or out (-1) where it is.
    pub fn count(&mut self, pod: &PodInfo, slot: usize, sign: isize, namespaces: &Namespaces) {
        for anchor in pod.anchors() {
            let carriers = self.carriers.entry(anchor).or_default();
            *carriers = carriers.saturating_add_signed(sign);
            if *carriers == 0 {
                self.carriers.remove(&anchor);
            }
        }
        let anchored = pod.anchors().filter_map(|anchor| self.anchored.get(&anchor)).flatten();
        for id in anchored.chain(&self.wide) {
            let tally = &mut self.list[*id];
            let Some(domain) = self.landscapes.get(tally.landscape).domain(slot) else { continue };
            if tally.counts_pod(pod, namespaces) {
                tally.add(domain, sign as i64);
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

impl Tally {
    fn counts_pod(&self, pod: &PodInfo, namespaces: &Namespaces) -> bool {
        self.who.iter().all(|who| who.selects(&pod.pod, namespaces))
    }

    fn add(&mut self, domain: usize, amount: i64) {
        add(&mut self.counts, domain, amount);
    }
}

pub(super) fn add(counts: &mut Vec<i64>, domain: usize, amount: i64) {
    if counts.len() <= domain {
        counts.resize(domain + 1, 0);
    }
    counts[domain] += amount;
}
