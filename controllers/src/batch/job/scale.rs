//! How many pods a Job should run next, and which.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::indexes::Indexes;
use super::view::{View, failures};
use super::{MAX_PODS_PER_PLAN, backoff};
use crate::pods;
use crate::ranking::Rank;

#[derive(Default)]
pub struct Moves {
    pub delete: Vec<Arc<Pod>>,
    /// A pod each, with its index if the Job is Indexed.
    pub create: Vec<Option<i32>>,
    /// When more may be created.
    pub wait: Option<Duration>,
}

pub fn moves(view: &View) -> Moves {
    let active: Vec<&Arc<Pod>> = view.active().collect();
    let have = pods::count(active.len());
    let wanted = wanted(view, have);
    let mut delete: Vec<Arc<Pod>> = view.given_up().cloned().collect();
    delete.extend(excess(view, active, usize::try_from(have - wanted).unwrap_or(0)));
    delete.truncate(MAX_PODS_PER_PLAN);
    if !delete.is_empty() {
        return Moves { delete, ..Moves::default() };
    }
    let leaving = if view.replaces_failed_only() { pods::count(view.terminating().count()) } else { 0 };
    let missing = usize::try_from(wanted - leaving - have).unwrap_or(0).min(MAX_PODS_PER_PLAN);
    if missing == 0 { Moves::default() } else { create(view, missing) }
}

fn wanted(view: &View, active: i32) -> i32 {
    match view.spec.completions {
        _ if view.is_suspended() => 0,
        // The first success tells all pods that the work is done: those that run may finish.
        None if view.succeeded() > 0 => active,
        None => view.parallelism(),
        Some(completions) => (completions - view.succeeded()).clamp(0, view.parallelism().max(0)),
    }
}

/// At least `least` pods, the least useful ones; before them, pods without an index that is wanted, and all but one of
/// each index.
fn excess(view: &View, active: Vec<&Arc<Pod>>, least: usize) -> Vec<Arc<Pod>> {
    let mut ranked = active;
    ranked.sort_by_cached_key(|pod| Rank::of(pod, 0, view.now));
    let mut kept = BTreeSet::new();
    let (mut doomed, mut rest) = (Vec::new(), Vec::new());
    // From the most useful down, so that of each index the most useful stays.
    for pod in ranked.into_iter().rev() {
        let is_needed = view.indexed().is_none() || view.index(pod).is_some_and(|index| kept.insert(index));
        if is_needed { rest.push(pod.clone()) } else { doomed.push(pod.clone()) }
    }
    let more = least.saturating_sub(doomed.len());
    doomed.extend(rest.into_iter().rev().take(more));
    doomed
}

fn create(view: &View, missing: usize) -> Moves {
    let Some(completions) = view.indexed() else {
        return match wait_for_all(view) {
            Duration::ZERO => Moves { create: vec![None; missing], ..Moves::default() },
            wait => Moves { wait: Some(wait), ..Moves::default() },
        };
    };
    let pending: Vec<i32> = taken(view).missing(completions).take(missing).collect();
    if view.spec.backoff_limit_per_index.is_none() {
        return match wait_for_all(view) {
            Duration::ZERO => Moves { create: pending.into_iter().map(Some).collect(), ..Moves::default() },
            wait => Moves { wait: Some(wait), ..Moves::default() },
        };
    }
    let wait = |index: &i32| match view.to_replace.get(index) {
        Some(last) => {
            let failures = u32::try_from(failures(last)).unwrap_or(0).saturating_add(1);
            backoff::remaining(failures, backoff::finished_at(last), view.now)
        }
        None => Duration::ZERO,
    };
    let (now, later): (Vec<i32>, Vec<i32>) = pending.into_iter().partition(|index| wait(index).is_zero());
    Moves { create: now.into_iter().map(Some).collect(), wait: later.iter().map(wait).min(), ..Moves::default() }
}

fn wait_for_all(view: &View) -> Duration {
    let succeeded: Vec<&Pod> =
        view.pods.iter().filter(|pod| pods::phase(pod) == "Succeeded").map(|pod| &**pod).collect();
    let failed = view.pods.iter().filter(|pod| pods::phase(pod) == "Failed" || view.newly_failed().any(|p| p == *pod));
    backoff::of_pods(&succeeded, failed.map(|pod| &**pod), view.now)
}

/// Indexes that need no pod now.
fn taken(view: &View) -> Indexes {
    let leaving = view.terminating().filter(|_| view.replaces_failed_only());
    let running: Indexes = view.active().chain(leaving).filter_map(|pod| view.index(pod)).collect();
    let settled = view.succeeded_indexes.union(&running);
    view.failed_indexes.as_ref().map_or(settled.clone(), |failed| settled.union(failed))
}
