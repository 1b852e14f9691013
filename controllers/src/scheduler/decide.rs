//! Picks a node for a pod, or says why there is none: pure and fast.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use rand::{Rng, RngCore};

use super::filter::{self, Filter};
use super::score;
use super::snapshot::{PodInfo, Snapshot};

/// Below this many nodes all are looked at.
const MIN_FEASIBLE_NODES: usize = 100;
/// The smallest share of the nodes that must be found feasible before the search may stop, in percent.
const MIN_SHARE_PERCENT: usize = 5;

#[derive(Debug, PartialEq, Eq)]
pub enum Decision {
    /// The node's place in `Snapshot::nodes`.
    Node(usize),
    Unschedulable(Unschedulable),
}

/// Why no node would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unschedulable {
    nodes: usize,
    reasons: BTreeMap<Cow<'static, str>, usize>,
    /// Nodes that fewer pods would make feasible.
    resolvable: usize,
    may_preempt: bool,
    /// One bit for each filter of the table that refused a node.
    pub filters: u64,
}

/// Finds the best of the feasible nodes. In large clusters the search stops when enough are found (kube-scheduler's
/// adaptive `percentageOfNodesToScore`), beginning at `start`, which moves on so that every node gets its turn.
pub fn decide(pod: &PodInfo, snapshot: &Snapshot, start: &mut usize, rng: &mut dyn RngCore) -> Decision {
    let count = snapshot.nodes.len();
    let checks: Vec<_> = filter::all()
        .iter()
        .enumerate()
        .filter_map(|(bit, filter)| Some((bit, (*filter as &dyn Filter).begin(pod, snapshot)?)))
        .collect();
    let enough = enough_feasible(count);
    let mut feasible = Vec::with_capacity(enough.min(count));
    let mut refused = Unschedulable { nodes: count, may_preempt: may_preempt(pod), ..Unschedulable::default() };
    let mut looked_at = 0;
    while looked_at < count && feasible.len() < enough {
        let index = (*start + looked_at) % count;
        looked_at += 1;
        let node = &snapshot.nodes[index];
        match checks.iter().find_map(|(bit, check)| check(node).err().map(|refusal| (bit, refusal))) {
            None => feasible.push(index),
            Some((bit, refusal)) => {
                refused.filters |= 1 << bit;
                refused.resolvable += usize::from(refusal.is_resolvable);
                for reason in refusal.reasons {
                    *refused.reasons.entry(reason).or_default() += 1;
                }
            }
        }
    }
    if count > 0 {
        *start = (*start + looked_at) % count;
    }
    match feasible[..] {
        [] => Decision::Unschedulable(refused),
        [only] => Decision::Node(only),
        _ => Decision::Node(best(pod, snapshot, &feasible, rng)),
    }
}

/// Feasible nodes after which the search may stop.
fn enough_feasible(nodes: usize) -> usize {
    let percent = 50usize.saturating_sub(nodes / 125).max(MIN_SHARE_PERCENT);
    (nodes * percent / 100).max(MIN_FEASIBLE_NODES)
}

/// The feasible node with the highest total; chance decides between equals.
fn best(pod: &PodInfo, snapshot: &Snapshot, feasible: &[usize], rng: &mut dyn RngCore) -> usize {
    let mut totals = vec![0i64; feasible.len()];
    let mut ratings = vec![0i64; feasible.len()];
    for (score, weight) in score::all() {
        let Some(rate) = score.begin(pod, snapshot) else { continue };
        for (rating, index) in ratings.iter_mut().zip(feasible) {
            *rating = rate(&snapshot.nodes[*index]);
        }
        score.normalise(&mut ratings);
        for (total, rating) in totals.iter_mut().zip(&ratings) {
            *total += rating * weight;
        }
    }
    let mut best = 0;
    let mut equals = 1;
    for at in 1..totals.len() {
        if totals[at] > totals[best] {
            (best, equals) = (at, 1);
        } else if totals[at] == totals[best] {
            equals += 1;
            if rng.random_range(0..equals) == 0 {
                best = at;
            }
        }
    }
    feasible[best]
}

fn may_preempt(pod: &PodInfo) -> bool {
    pod.pod.spec.as_ref().is_none_or(|spec| spec.preemption_policy.as_deref() != Some("Never"))
}

/// In kube-scheduler's words.
impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes;
        if nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let mut reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        reasons.sort();
        write!(f, "0/{nodes} nodes are available: {}.", reasons.join(", "))?;
        if !self.may_preempt {
            return f.write_str(" preemption: not eligible due to preemptionPolicy=Never.");
        }
        let hopeless = nodes - self.resolvable;
        let mut preemption = Vec::new();
        if self.resolvable > 0 {
            preemption.push(format!("{} No preemption victims found for incoming pod", self.resolvable));
        }
        if hopeless > 0 {
            preemption.push(format!("{hopeless} Preemption is not helpful for scheduling"));
        }
        preemption.sort();
        write!(f, " preemption: 0/{nodes} nodes are available: {}.", preemption.join(", "))
    }
}
