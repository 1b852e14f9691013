//! One attempt to place one pod: what filters and scores look at.

use super::pending::{Pending, Spread};
use super::snapshot::Snapshot;
use super::topology::{PodTerms, Terrain, Who};

#[derive(Clone, Copy)]
pub struct Cycle<'a> {
    pub pod: &'a Pending,
    pub snapshot: &'a Snapshot,
    pub asked: &'a Asked,
}

/// Tallies of the snapshot that answer the pod's questions about others, in the order of its constraints and terms.
#[derive(Default)]
pub struct Asked {
    pub spread: Vec<usize>,
    pub required: Vec<usize>,
    pub refused: Vec<usize>,
    pub soft_spread: Vec<usize>,
    pub preferred: Vec<usize>,
}

impl Asked {
    /// What filters ask.
    pub fn by_filters(pod: &Pending, snapshot: &mut Snapshot) -> Self {
        let mut asked = Self { spread: spread(&pod.spread, snapshot), ..Self::default() };
        if let Some(terms) = pod.info.terms.as_deref() {
            // One pod must satisfy all of the required terms.
            let all: Vec<Who> = terms.required.iter().map(|term| term.who.clone()).collect();
            let required = terms.required.iter().map(|term| snapshot.tally(all.clone(), Terrain::whole(&term.key)));
            asked.required = required.collect();
            let refused = terms.refused.iter();
            asked.refused =
                refused.map(|term| snapshot.tally(vec![term.who.clone()], Terrain::whole(&term.key))).collect();
        }
        asked
    }

    /// What scores ask besides.
    pub fn by_scores(&mut self, pod: &Pending, snapshot: &mut Snapshot) {
        self.soft_spread = spread(&pod.soft_spread, snapshot);
        let preferred = pod.info.terms.as_deref().map(|terms: &PodTerms| &terms.preferred).into_iter().flatten();
        self.preferred =
            preferred.map(|(_, term)| snapshot.tally(vec![term.who.clone()], Terrain::whole(&term.key))).collect();
    }
}

fn spread(constraints: &[Spread], snapshot: &mut Snapshot) -> Vec<usize> {
    constraints.iter().map(|spread| snapshot.tally(vec![spread.who.clone()], spread.terrain.clone())).collect()
}
