//! Prefers domains with fewer of the pods that are to be spread (KEP-895, KEP-1258).

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;

/// The rating of a node that lacks one of the labels: the worst there is.
const IGNORED: i64 = -1;

pub struct PodTopologySpread;

impl Score for PodTopologySpread {
    fn begin<'a>(&self, cycle: &Cycle<'a>, feasible: &[usize]) -> Option<Rate<'a>> {
        let pod = cycle.pod;
        if pod.soft_spread.is_empty() {
            return None;
        }
        let needs_all = !(pod.spreads_by_default && pod.profile.has_system_defaults());
        let constraints = pod.soft_spread.iter().zip(&cycle.asked.soft_spread).map(|(spread, tally)| {
            let count = cycle.snapshot.tallies.get(*tally);
            // Topologies of many domains have few pods in each, which must not make them count for less.
            let weight = ((count.landscape.distinct(feasible) + 2) as f64).ln();
            (count, weight, (spread.max_skew - 1) as f64)
        });
        let constraints: Vec<_> = constraints.collect();
        Some(Box::new(move |node| {
            let mut rating = 0.0;
            for (count, weight, tolerance) in &constraints {
                match count.near(node.slot) {
                    Some(pods) => rating += pods as f64 * weight + tolerance,
                    None if needs_all => return IGNORED,
                    None => {}
                }
            }
            f64::round(rating) as i64
        }))
    }

    /// Fewer pods are better.
    fn normalise(&self, ratings: &mut [i64]) {
        let counted = || ratings.iter().copied().filter(|rating| *rating != IGNORED);
        let (least, most) = (counted().min().unwrap_or(0), counted().max().unwrap_or(0));
        for rating in ratings {
            *rating = match *rating {
                IGNORED => 0,
                _ if most == 0 => MAX_SCORE,
                rating => MAX_SCORE * (most + least - rating) / most,
            };
        }
    }
}
