//! No domain may have many more of the pods than the one with the fewest (KEP-895).

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::snapshot::Snapshot;

pub struct PodTopologySpread;

impl Filter for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        if cycle.pod.spread.is_empty() {
            return Begin::Pass;
        }
        let constraints = cycle.pod.spread.iter().zip(&cycle.asked.spread);
        let constraints = constraints.map(|(spread, tally)| {
            let count = cycle.snapshot.tallies.get(*tally);
            let (domains, least) = count.least();
            let least = if domains < spread.min_domains { 0 } else { least };
            let most = spread.max_skew + least - i64::from(spread.counts_itself);
            (spread.terrain.key.as_str(), count, most)
        });
        let constraints: Vec<_> = constraints.collect();
        Begin::check(move |node| {
            for (key, count, most) in &constraints {
                match count.near(node.slot) {
                    Some(near) if near > *most => {
                        return Err(Refusal::for_now("node(s) didn't match pod topology spread constraints"));
                    }
                    None if !node.labels().contains_key(*key) => {
                        return Err(Refusal::for_good(
                            "node(s) didn't match pod topology spread constraints (missing required label)",
                        ));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, snapshot: &Snapshot) -> bool {
        match event {
            Event::Placed { pod: other } | Event::Leaving { pod: other } | Event::Freed { pod: other, .. } => {
                pod.spread.iter().any(|spread| spread.who.selects(&other.pod, snapshot.namespaces()))
            }
            Event::Node { node, before } => pod.spread.iter().any(|spread| {
                let domain = |node| spread.terrain.domain_of(node);
                domain(&node.node) != before.and_then(domain)
            }),
            // With its domain the fewest pods of a domain may have gone.
            Event::NodeGone { node } => pod.spread.iter().any(|spread| spread.terrain.domain_of(node).is_some()),
            _ => false,
        }
    }
}
