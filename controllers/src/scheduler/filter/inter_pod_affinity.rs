//! Pods near which a pod must run, those near which it must not, and those that don't want it near them.

use k8s_openapi::api::core::v1::Node;

use super::{Begin, Filter, Refusal};
use crate::scheduler::cycle::Cycle;
use crate::scheduler::event::Event;
use crate::scheduler::pending::Pending;
use crate::scheduler::pod_info::PodInfo;
use crate::scheduler::snapshot::{NodeInfo, Snapshot};
use crate::scheduler::topology::{Count, Hold, Namespaces, PodTerms, Term};

pub struct InterPodAffinity;

impl Filter for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn begin<'a>(&self, cycle: &Cycle<'a>) -> Begin<'a> {
        let Cycle { pod, snapshot, asked } = *cycle;
        let tallies = |ids: &[usize]| -> Vec<Count<'a>> { ids.iter().map(|id| snapshot.tallies.get(*id)).collect() };
        let (near, far) = (tallies(&asked.required), tallies(&asked.refused));
        let unwelcome: Vec<_> = snapshot.holdings.about(Hold::Refuses, &pod.info, snapshot.namespaces()).collect();
        if near.is_empty() && far.is_empty() && unwelcome.is_empty() {
            return Begin::Pass;
        }
        // The first of a group that wants to be together finds nobody yet.
        let terms = pod.info.terms.as_deref();
        let founds_group = near.iter().all(|count| count.total() == 0)
            && terms.is_some_and(|terms| wants(terms, &pod.info, snapshot.namespaces()));
        Begin::check(move |node: &NodeInfo| {
            let has_company = |count: &Count<'_>| match count.near(node.slot) {
                Some(pods) => pods > 0 || founds_group,
                None => false,
            };
            if !near.iter().all(has_company) {
                return Err(Refusal::for_good("node(s) didn't match pod affinity rules"));
            }
            if far.iter().any(|count| count.near(node.slot).is_some_and(|pods| pods > 0)) {
                return Err(Refusal::for_now("node(s) didn't match pod anti-affinity rules"));
            }
            if unwelcome.iter().any(|holders| holders(node.slot) > 0) {
                return Err(Refusal::for_now("node(s) didn't satisfy existing pods anti-affinity rules"));
            }
            Ok(())
        })
    }

    fn may_be_helped_by(&self, pod: &Pending, event: &Event<'_>, snapshot: &Snapshot) -> bool {
        let namespaces = snapshot.namespaces();
        let terms = pod.info.terms.as_deref();
        match event {
            Event::Placed { pod: other } => terms.is_some_and(|terms| wants(terms, other, namespaces)),
            Event::Freed { pod: other, .. } => {
                refuses(terms, other, namespaces) || refuses(other.terms.as_deref(), &pod.info, namespaces)
            }
            Event::Node { node, before } => {
                let requires = terms.is_some_and(|terms| !terms.required.is_empty());
                let own = terms.into_iter().flat_map(|terms| terms.required.iter().chain(&terms.refused));
                let mut own =
                    own.filter(|term| label(&node.node, term) != before.and_then(|before| label(before, term)));
                let mut holders = snapshot.holdings.about(Hold::Refuses, &pod.info, namespaces);
                let mut residents = node.pods.values();
                let mut is_unwelcome = || {
                    holders.next().is_some()
                        || residents.any(|other| refuses(other.terms.as_deref(), &pod.info, namespaces))
                };
                (before.is_none() && !requires) || own.next().is_some() || (event.is_new_ground() && is_unwelcome())
            }
            _ => false,
        }
    }
}

/// Where the node is, as far as the term cares.
fn label<'n>(node: &'n Node, term: &Term) -> Option<&'n String> {
    node.metadata.labels.as_ref()?.get(&term.key)
}

/// Whether the other pod is one that these terms require.
fn wants(terms: &PodTerms, other: &PodInfo, namespaces: &Namespaces) -> bool {
    !terms.required.is_empty() && terms.required.iter().all(|term| term.who.selects(&other.pod, namespaces))
}

fn refuses(terms: Option<&PodTerms>, other: &PodInfo, namespaces: &Namespaces) -> bool {
    terms.is_some_and(|terms| terms.refused.iter().any(|term| term.who.selects(&other.pod, namespaces)))
}
