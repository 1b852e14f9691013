//! Accounts for pods that have ended, each exactly once (KEP-2307): its uid goes into the status, then its finalizer
//! goes, then the count takes the uid's place.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::batch::v1::{JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;

use super::verdict::{End, Verdict};
use super::view::{View, uid};
use crate::pods;

/// Uids in the status at a time, and finalizers removed by one plan.
const MAX_UNCOUNTED_PODS: usize = 500;

/// The status that says what has ended, and the pods whose finalizer may go once it is stored.
pub struct Tracked {
    pub status: JobStatus,
    pub let_go: Vec<Arc<Pod>>,
}

pub fn track(view: &View, verdict: Option<&Verdict>) -> Tracked {
    let with_finalizer: BTreeSet<&str> = view.tracked().map(|pod| uid(pod)).collect();
    let (mut succeeded, counted) = settle(&view.uncounted_succeeded, &with_finalizer);
    let (mut failed, counted_failed) = settle(&view.uncounted_failed, &with_finalizer);
    let mut new_indexes = BTreeSet::new();
    let mut let_go = Vec::new();
    for pod in view.tracked().filter(|pod| can_let_go(view, pod, verdict)) {
        if new_indexes.len() + succeeded.len() + failed.len() >= MAX_UNCOUNTED_PODS {
            break;
        }
        let_go.push(pod.clone());
        if view.uncounted_failed.contains(uid(pod)) {
            continue;
        }
        let is_given_up = verdict.is_some_and(|verdict| verdict.end == End::Failure);
        if pods::phase(pod) == "Succeeded" {
            match view.indexed() {
                // The index itself keeps it from being counted twice.
                Some(_) => new_indexes.extend(view.index(pod).filter(|at| !view.succeeded_before.contains(*at))),
                None if view.uncounted_succeeded.contains(uid(pod)) => {}
                None => succeeded.push(uid(pod).to_owned()),
            }
        } else if (view.has_failed(pod) || is_given_up) && view.is_valid(pod) && view.counts(pod) {
            failed.push(uid(pod).to_owned());
        }
    }
    let mut status = view.status.clone();
    let plus = |count: Option<i32>, more: usize| pods::positive(count.unwrap_or(0).saturating_add(pods::count(more)));
    status.failed = plus(status.failed, counted_failed);
    if view.indexed().is_some() {
        status.succeeded = pods::positive(view.succeeded_indexes.len());
        status.completed_indexes = Some(view.succeeded_indexes.to_string()).filter(|text| !text.is_empty());
        status.failed_indexes = view.failed_indexes.as_ref().map(ToString::to_string);
    } else {
        status.succeeded = plus(status.succeeded, counted);
    }
    let some = |uids: Vec<String>| Some(uids).filter(|uids| !uids.is_empty());
    status.uncounted_terminated_pods =
        Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
    Tracked { status, let_go }
}

/// The uids that are still to be counted, and how many now are.
fn settle(uncounted: &BTreeSet<String>, with_finalizer: &BTreeSet<&str>) -> (Vec<String>, usize) {
    let left: Vec<String> = uncounted.iter().filter(|uid| with_finalizer.contains(uid.as_str())).cloned().collect();
    let counted = uncounted.len() - left.len();
    (left, counted)
}

fn can_let_go(view: &View, pod: &Pod, verdict: Option<&Verdict>) -> bool {
    // A pod that still runs is deleted first; it is let go when it is on its way out.
    let is_ending = verdict.is_some() && !pods::is_active(pod);
    if pods::is_deleting(&view.job.metadata) || is_ending || pods::phase(pod) == "Succeeded" {
        return true;
    }
    let awaits_replacement =
        || view.index(pod).and_then(|index| view.to_replace.get(&index)).is_some_and(|last| uid(last) == uid(pod));
    view.has_failed(pod) && !awaits_replacement()
}
