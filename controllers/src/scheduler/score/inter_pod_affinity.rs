//! Prefers domains with pods that this one likes, and with pods that like this one.

use super::{MAX_SCORE, Rate, Score};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::topology::Hold;

pub struct InterPodAffinity;

impl Score for InterPodAffinity {
    fn begin<'a>(&self, cycle: &Cycle<'a>, _: &[usize]) -> Option<Rate<'a>> {
        let Cycle { pod, snapshot, asked } = *cycle;
        let preferred = pod.info.terms.as_deref().map(|terms| &terms.preferred).into_iter().flatten();
        let liked = preferred.zip(&asked.preferred).map(|((weight, _), tally)| (*weight, snapshot.tallies.get(*tally)));
        let liked: Vec<_> = liked.filter(|(_, count)| count.total() > 0).collect();
        let admirers: Vec<_> = snapshot.holdings.about(Hold::Prefers, &pod.info, snapshot.namespaces()).collect();
        if liked.is_empty() && admirers.is_empty() {
            return None;
        }
        Some(Box::new(move |node| {
            let own: i64 = liked.iter().map(|(weight, count)| weight * count.near(node.slot).unwrap_or(0)).sum();
            own + admirers.iter().map(|weight| weight(node.slot)).sum::<i64>()
        }))
    }

    fn normalise(&self, ratings: &mut [i64]) {
        let least = ratings.iter().copied().min().unwrap_or(0);
        let range = ratings.iter().copied().max().unwrap_or(0) - least;
        for rating in ratings {
            *rating = if range > 0 { MAX_SCORE * (*rating - least) / range } else { 0 };
        }
    }
}
