//! Chooses which pods of lower priority are to leave so that one of higher priority fits (KEP-268, with the order of
//! kube-scheduler's DefaultPreemption).

use std::cmp::Reverse;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8w_kinds::core::selection::Selector;
use rand::{Rng, RngCore};

use super::cycle::Asked;
use super::decide::refusal;
use super::filter::Reasons;
use super::pending::Pending;
use super::pod_info::PodInfo;
use super::snapshot::Snapshot;
use super::unschedulable::{Histogram, Unschedulable};

use crate::pods;

/// How many nodes are tried out: a share of those in question, but not fewer than the minimum.
const MIN_CANDIDATES_PERCENT: usize = 10;
const MIN_CANDIDATES: usize = 100;
/// Of a pod that is evicted for another.
pub const REASON: &str = "PreemptionByScheduler";

#[derive(Debug)]
pub enum Preemption {
    /// The pod fits the node in this slot when these have left.
    Evict { slot: usize, victims: Vec<Arc<PodInfo>> },
    /// Evicting helps nowhere; `false` when it was not even tried, because it is not this pod's turn.
    Useless { message: String, was_tried: bool },
}

struct Candidate {
    slot: usize,
    /// The most important first.
    victims: Vec<Arc<PodInfo>>,
    /// Victims whose disruption budget has nothing left.
    violations: usize,
}

/// The snapshot is as before afterwards.
pub fn preempt(
    pod: &Pending,
    snapshot: &mut Snapshot,
    why: &Unschedulable,
    budgets: &[Arc<PodDisruptionBudget>],
    rng: &mut dyn RngCore,
) -> Preemption {
    if let Some(message) = ineligible(pod, snapshot, why) {
        return Preemption::Useless { message: message.into(), was_tried: false };
    }
    let asked = Asked::by_filters(pod, snapshot);
    let others = snapshot.place_nominated(&pod.info);
    let in_question: Vec<usize> = why.resolvable().collect();
    let wanted = (in_question.len() * MIN_CANDIDATES_PERCENT / 100).max(MIN_CANDIDATES);
    let offset = if in_question.is_empty() { 0 } else { rng.random_range(0..in_question.len()) };
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut refused: Vec<Reasons> = Vec::new();
    for slot in in_question.iter().cycle().skip(offset).take(in_question.len()) {
        match try_out(pod, snapshot, &asked, *slot, budgets) {
            Ok(candidate) => candidates.push(candidate),
            Err(reasons) => refused.push(reasons),
        }
        // A node without violations is worth looking on for.
        if candidates.len() >= wanted && candidates.iter().any(|candidate| candidate.violations == 0) {
            break;
        }
    }
    for (other, _) in &others {
        snapshot.displace(other.uid());
    }
    match candidates.into_iter().min_by_key(Candidate::cost) {
        Some(best) => Preemption::Evict { slot: best.slot, victims: best.victims },
        None => {
            let mut reasons = Histogram::default();
            refused.iter().for_each(|refused| reasons.add(refused));
            let hopeless = why.nodes() - refused.len();
            reasons.add_many(hopeless, "Preemption is not helpful for scheduling".into());
            Preemption::Useless { message: reasons.text(why.nodes()), was_tried: true }
        }
    }
}

/// Why the pod may not evict others now, if so.
fn ineligible(pod: &Pending, snapshot: &Snapshot, why: &Unschedulable) -> Option<&'static str> {
    if pod.pod().spec.as_ref().and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never") {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let slot = snapshot.slot(pod.nominated_node()?)?;
    let is_leaving = |other: &Arc<PodInfo>| {
        let evicted = pods::condition(&other.pod, pods::DISRUPTION_TARGET)
            .is_some_and(|c| c.status == "True" && c.reason.as_deref() == Some(REASON));
        other.priority() < pod.info.priority() && pods::is_deleting(&other.pod.metadata) && evicted
    };
    let waits = !why.is_final(slot) && snapshot.nodes[slot].pods.values().any(is_leaving);
    waits.then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The fewest and least important pods whose leaving makes the node do.
fn try_out(
    pod: &Pending,
    snapshot: &mut Snapshot,
    asked: &Asked,
    slot: usize,
    budgets: &[Arc<PodDisruptionBudget>],
) -> Result<Candidate, Reasons> {
    let node = snapshot.nodes[slot].name().to_owned();
    let lower = snapshot.nodes[slot].pods.values().filter(|other| other.priority() < pod.info.priority());
    let mut lower: Vec<Arc<PodInfo>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(Reasons::One("No preemption victims found for incoming pod"));
    }
    lower.sort_by_cached_key(|other| importance(&other.pod));
    for other in &lower {
        snapshot.displace(other.uid());
    }
    if let Some(refused) = refusal(pod, snapshot, asked, slot) {
        for other in lower {
            snapshot.place(other, &node);
        }
        return Err(refused.refusal.reasons);
    }
    // Those that may stay come back, first those whose budget would be violated, the most important first.
    let (violating, others): (Vec<_>, Vec<_>) =
        mark_violations(&lower, budgets).into_iter().zip(lower).partition(|(violates, _)| *violates);
    let mut victims = Vec::new();
    let mut violations = 0;
    for (violates, other) in violating.into_iter().chain(others) {
        snapshot.place(other.clone(), &node);
        if refusal(pod, snapshot, asked, slot).is_some() {
            snapshot.displace(other.uid());
            violations += usize::from(violates);
            victims.push(other);
        }
    }
    for victim in &victims {
        snapshot.place(victim.clone(), &node);
    }
    victims.sort_by_cached_key(|victim| importance(&victim.pod));
    Ok(Candidate { slot, victims, violations })
}

/// Sorts the most important pods first: those of the highest priority, then those that have run the longest.
fn importance(pod: &Pod) -> (Reverse<i32>, Timestamp, String) {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    (Reverse(priority), started(pod), pod.metadata.uid.clone().unwrap_or_default())
}

fn started(pod: &Pod) -> Timestamp {
    pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(Timestamp::MAX, |time| time.0)
}

/// For each pod, whether a disruption budget would be violated if it and those before it were evicted.
fn mark_violations(pods: &[Arc<PodInfo>], budgets: &[Arc<PodDisruptionBudget>]) -> Vec<bool> {
    struct Budget<'a> {
        budget: &'a PodDisruptionBudget,
        selector: Selector,
        left: i32,
    }
    let mut budgets: Vec<Budget<'_>> = budgets
        .iter()
        .map(|budget| Budget {
            selector: Selector::of(budget.spec.as_ref().and_then(|spec| spec.selector.as_ref())),
            left: budget.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0),
            budget,
        })
        .collect();
    let mut violates = |pod: &Arc<PodInfo>| {
        let mut violated = false;
        for Budget { budget, selector, left } in &mut budgets {
            let covers = budget.metadata.namespace.as_deref() == Some(pod.namespace())
                && !pod.labels().is_empty()
                && !selector.is_empty()
                && selector.selects(pod.labels());
            let disrupted = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
            let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
            if covers && !disrupted.is_some_and(|disrupted| disrupted.contains_key(name)) {
                *left -= 1;
                violated |= *left < 0;
            }
        }
        violated
    };
    pods.iter().map(&mut violates).collect()
}

impl Candidate {
    /// What is lost; the least is best.
    fn cost(&self) -> (usize, i32, i64, usize, Reverse<Timestamp>) {
        let highest = self.victims.first().map_or(i32::MIN, |victim| victim.priority());
        // Made positive, so that many unimportant victims are not better than few.
        let sum = self.victims.iter().map(|victim| i64::from(victim.priority()) + i64::from(i32::MAX) + 1).sum();
        let most_important = self.victims.iter().take_while(|victim| victim.priority() == highest);
        let earliest = most_important.map(|victim| started(&victim.pod)).min().unwrap_or(Timestamp::MAX);
        (self.violations, highest, sum, self.victims.len(), Reverse(earliest))
    }
}
