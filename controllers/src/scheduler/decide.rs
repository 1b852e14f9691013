//! Picks a node for a pod, or says why there is none: no IO, no clock, and chance comes from outside.

use rand::{Rng, RngCore};

use super::cycle::{Asked, Cycle};
use super::filter::{self, Begin, Check, Refusal};
use super::pending::Pending;
use super::score;
use super::snapshot::Snapshot;
use super::unschedulable::{Refused, Unschedulable};

/// Below this many nodes all are looked at.
const MIN_FEASIBLE_NODES: usize = 100;
/// The smallest share of the nodes that must be found feasible before the search may stop, in percent.
const MIN_SHARE_PERCENT: usize = 5;

#[derive(Debug)]
pub enum Decision {
    /// The node's place in `Snapshot::nodes`.
    Node(usize),
    Unschedulable(Unschedulable),
}

/// Finds the best of the feasible nodes. In large clusters the search stops when enough are found (kube-scheduler's
/// adaptive `percentageOfNodesToScore`), beginning at `start`, which moves on so that every node gets its turn.
///
/// The snapshot is as before afterwards, except for what it remembers of its own counts.
pub fn decide(pod: &Pending, snapshot: &mut Snapshot, start: &mut usize, rng: &mut dyn RngCore) -> Decision {
    snapshot.tallies.make_room();
    let mut asked = Asked::by_filters(pod, snapshot);
    let others = snapshot.place_nominated(&pod.info);
    // What was evicted for this pod has left room on this node above all.
    let promised = pod.nominated_node().and_then(|name| snapshot.slot(name));
    let mut found = match promised {
        Some(slot) if refusal(pod, snapshot, &asked, slot).is_none() => {
            Found { feasible: vec![slot], ..Found::default() }
        }
        _ => search(&Cycle { pod, snapshot, asked: &asked }, start),
    };
    for (other, _) in &others {
        snapshot.displace(other.uid());
    }
    // The nominated pods may never come: the node must do without them too.
    for slot in others.iter().filter_map(|(_, slot)| *slot) {
        let Some(at) = found.feasible.iter().position(|feasible| *feasible == slot) else { continue };
        if let Some(refused) = refusal(pod, snapshot, &asked, slot) {
            found.feasible.remove(at);
            found.why.refuse(refused);
        }
    }
    match found.feasible[..] {
        [] => Decision::Unschedulable(found.why),
        [only] => Decision::Node(only),
        _ => {
            asked.by_scores(pod, snapshot);
            Decision::Node(best(&Cycle { pod, snapshot, asked: &asked }, &found.feasible, rng))
        }
    }
}

/// Why the node in this slot refuses the pod, if it does.
pub fn refusal(pod: &Pending, snapshot: &Snapshot, asked: &Asked, slot: usize) -> Option<Refused> {
    match begin(&Cycle { pod, snapshot, asked }) {
        Ok(begun) => begun.ask(snapshot, slot),
        Err((filter, message)) => {
            let refusal = Refusal { reasons: filter::Reasons::Many(vec![message.into()]), is_resolvable: false };
            Some(Refused { slot, filter, refusal })
        }
    }
}

#[derive(Default)]
struct Found {
    feasible: Vec<usize>,
    why: Unschedulable,
}

/// The filters that have something to say about the pod, by their place in the table.
struct Begun<'a> {
    checks: Vec<(usize, Check<'a>)>,
    /// The only nodes to look at, and the filter that says so.
    among: Option<(Vec<String>, &'static str)>,
}

impl Begun<'_> {
    fn ask(&self, snapshot: &Snapshot, slot: usize) -> Option<Refused> {
        let node = &snapshot.nodes[slot];
        self.checks
            .iter()
            .find_map(|(filter, check)| check(node).err().map(|refusal| Refused { slot, filter: *filter, refusal }))
    }
}

fn begin<'a>(cycle: &Cycle<'a>) -> Result<Begun<'a>, (usize, String)> {
    let mut begun = Begun { checks: Vec::new(), among: None };
    for (place, filter) in filter::all().iter().enumerate() {
        match filter.begin(cycle) {
            Begin::Pass => {}
            Begin::Check(check) => begun.checks.push((place, check)),
            Begin::Among(names, check) => {
                begun.checks.push((place, check));
                begun.among = Some((names, filter.name()));
            }
            Begin::Nowhere(message) => return Err((place, message)),
        }
    }
    Ok(begun)
}

fn search(cycle: &Cycle<'_>, start: &mut usize) -> Found {
    let snapshot = cycle.snapshot;
    let count = snapshot.nodes.len();
    let mut found = Found { why: Unschedulable::of(count), ..Found::default() };
    let begun = match begin(cycle) {
        Ok(begun) => begun,
        Err((filter, message)) => {
            found.why.nowhere(filter, message);
            return found;
        }
    };
    let enough = enough_feasible(count);
    let mut look_at = |slot| match begun.ask(snapshot, slot) {
        None => {
            found.feasible.push(slot);
            found.feasible.len() < enough
        }
        Some(refused) => {
            found.why.refuse(refused);
            true
        }
    };
    if let Some((names, filter)) = &begun.among {
        let named: Vec<usize> = names.iter().filter_map(|name| snapshot.slot(name)).collect();
        let left_out = count - named.len();
        named.into_iter().all(look_at);
        found.why.leave_out(left_out, filter);
        return found;
    }
    let mut looked_at = 0;
    while looked_at < count {
        looked_at += 1;
        if !look_at((*start + looked_at - 1) % count) {
            break;
        }
    }
    if count > 0 {
        *start = (*start + looked_at) % count;
    }
    found
}

/// Feasible nodes after which the search may stop.
fn enough_feasible(nodes: usize) -> usize {
    let percent = 50usize.saturating_sub(nodes / 125).max(MIN_SHARE_PERCENT);
    (nodes * percent / 100).max(MIN_FEASIBLE_NODES)
}

/// The feasible node with the highest total; chance decides between equals.
fn best(cycle: &Cycle<'_>, feasible: &[usize], rng: &mut dyn RngCore) -> usize {
    let totals = score::totals(cycle, feasible);
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
