//! A Job and its pods as one reconciliation sees them: which pods count for what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use super::failure_policy::{Judgement, judge};
use super::indexes::Indexes;
use super::{INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, TRACKING_FINALIZER, backoff};
use crate::pods;

pub struct View<'a> {
    pub job: &'a Job,
    pub spec: &'a JobSpec,
    /// As it is stored.
    pub status: JobStatus,
    /// In the order of their indexes, if they have any.
    pub pods: Vec<Arc<Pod>>,
    pub now: Timestamp,
    /// Uids of pods that have ended and are in neither `succeeded` nor `failed` yet.
    pub uncounted_succeeded: BTreeSet<String>,
    pub uncounted_failed: BTreeSet<String>,
    /// What the status says, and with what has succeeded since.
    pub succeeded_before: Indexes,
    pub succeeded_indexes: Indexes,
    /// For Jobs with a back-off limit per index.
    pub failed_indexes: Option<Indexes>,
    /// The last failed pod of each index that waits for another: it keeps its finalizer, and so its count of failures,
    /// until its replacement carries that on.
    pub to_replace: BTreeMap<i32, Arc<Pod>>,
}

impl<'a> View<'a> {
    pub fn new(job: &'a Job, spec: &'a JobSpec, mut pods: Vec<Arc<Pod>>, now: Timestamp) -> Self {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.clone().unwrap_or_default();
        pods.sort_by_cached_key(|pod| (annotated_index(pod), pod.metadata.name.clone()));
        let mut view = Self {
            job,
            spec,
            pods,
            now,
            uncounted_succeeded: uncounted.succeeded.into_iter().flatten().collect(),
            uncounted_failed: uncounted.failed.into_iter().flatten().collect(),
            succeeded_before: Indexes::default(),
            succeeded_indexes: Indexes::default(),
            failed_indexes: None,
            to_replace: BTreeMap::new(),
            status,
        };
        view.read_indexes();
        view
    }

    fn read_indexes(&mut self) {
        let Some(completions) = self.indexed() else { return };
        let parse = |text: &Option<String>| Indexes::parse(text.as_deref().unwrap_or_default(), completions);
        self.succeeded_before = parse(&self.status.completed_indexes);
        let succeeded = self.tracked().filter(|pod| pods::phase(pod) == "Succeeded");
        let succeeded: Indexes = succeeded.filter_map(|pod| self.index(pod)).collect();
        self.succeeded_indexes = self.succeeded_before.union(&succeeded);
        if let Some(limit) = self.spec.backoff_limit_per_index {
            let failed = self.tracked().filter(|pod| self.fails_index(pod, limit));
            let failed: Indexes = failed.filter_map(|pod| self.index(pod)).collect();
            self.failed_indexes = Some(parse(&self.status.failed_indexes).union(&failed));
            self.to_replace = self.last_failures();
        }
    }

    fn fails_index(&self, pod: &Pod, limit: i32) -> bool {
        self.has_failed(pod)
            && match judge(self.spec.pod_failure_policy.as_ref(), pod) {
                Judgement::FailIndex => true,
                Judgement::Ignore => false,
                Judgement::Count | Judgement::FailJob(_) => number(pod, INDEX_FAILURES) >= limit,
            }
    }

    fn last_failures(&self) -> BTreeMap<i32, Arc<Pod>> {
        let active: BTreeSet<i32> = self.active().filter_map(|pod| self.index(pod)).collect();
        let mut last: BTreeMap<i32, Arc<Pod>> = BTreeMap::new();
        for pod in self.tracked().filter(|pod| self.has_failed(pod)) {
            let Some(index) = self.index(pod) else { continue };
            let is_settled = self.succeeded_indexes.contains(index)
                || self.failed_indexes.as_ref().is_some_and(|failed| failed.contains(index));
            if is_settled || active.contains(&index) {
                continue;
            }
            let rank = |pod: &Pod| (failures(pod), backoff::finished_at(pod));
            if last.get(&index).is_none_or(|other| rank(other) <= rank(pod)) {
                last.insert(index, pod.clone());
            }
        }
        last
    }

    /// The number of completions, for an Indexed Job.
    pub fn indexed(&self) -> Option<i32> {
        let is_indexed = self.spec.completion_mode.as_deref() == Some("Indexed");
        self.spec.completions.filter(|_| is_indexed)
    }

    pub fn is_suspended(&self) -> bool {
        self.spec.suspend == Some(true)
    }

    pub fn parallelism(&self) -> i32 {
        self.spec.parallelism.unwrap_or(1)
    }

    /// Terminating pods are replaced only once they have failed (KEP-3939); a failure policy has to see how they end.
    pub fn replaces_failed_only(&self) -> bool {
        match self.spec.pod_replacement_policy.as_deref() {
            Some(policy) => policy == "Failed",
            None => self.spec.pod_failure_policy.is_some(),
        }
    }

    /// The pod's index, if it is one the Job asks for.
    pub fn index(&self, pod: &Pod) -> Option<i32> {
        let completions = self.indexed()?;
        annotated_index(pod).filter(|index| *index < completions)
    }

    /// Whether the pod is of use to the Job at all.
    pub fn is_valid(&self, pod: &Pod) -> bool {
        self.indexed().is_none() || self.index(pod).is_some()
    }

    /// Pods that are not accounted for yet.
    pub fn tracked(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| is_tracked(pod))
    }

    /// Pods that run or will run. Those without the finalizer have been given up: nothing they do will count.
    pub fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.tracked().filter(|pod| pods::is_active(pod))
    }

    pub fn given_up(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pods::is_active(pod) && !is_tracked(pod))
    }

    pub fn terminating(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| pods::is_deleting(&pod.metadata) && !pods::is_terminal(pod))
    }

    /// A pod that is being deleted may never get to say that it failed, so it counts as failed, unless the Job waits.
    pub fn has_failed(&self, pod: &Pod) -> bool {
        let is_lost = pods::is_deleting(&pod.metadata) && pods::phase(pod) != "Succeeded";
        pods::phase(pod) == "Failed" || (is_lost && !self.replaces_failed_only())
    }

    /// Pods that have succeeded and are not in the status yet.
    pub fn newly_succeeded(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let is_known =
            |pod: &Pod| self.uncounted_succeeded.contains(uid(pod)) || self.uncounted_failed.contains(uid(pod));
        let is_new = move |pod: &&Arc<Pod>| !is_known(pod) && self.is_valid(pod);
        self.tracked().filter(is_new).filter(|pod| pods::phase(pod) == "Succeeded")
    }

    pub fn newly_failed(&self) -> impl Iterator<Item = &Arc<Pod>> {
        let is_new = |pod: &&Arc<Pod>| !self.uncounted_failed.contains(uid(pod)) && self.is_valid(pod);
        self.tracked().filter(is_new).filter(|pod| self.has_failed(pod))
    }

    pub fn counts(&self, failed: &Pod) -> bool {
        judge(self.spec.pod_failure_policy.as_ref(), failed) != Judgement::Ignore
    }

    pub fn succeeded(&self) -> i32 {
        match self.indexed() {
            Some(_) => self.succeeded_indexes.len(),
            None => {
                let uncounted = self.newly_succeeded().count() + self.uncounted_succeeded.len();
                self.status.succeeded.unwrap_or(0).saturating_add(pods::count(uncounted))
            }
        }
    }

    pub fn failed(&self) -> i32 {
        let uncounted = self.newly_failed().filter(|pod| self.counts(pod)).count() + self.uncounted_failed.len();
        self.status.failed.unwrap_or(0).saturating_add(pods::count(uncounted))
    }

    /// Enough has succeeded, and nothing runs any more.
    pub fn is_complete(&self) -> bool {
        let enough = self.spec.completions.unwrap_or(1);
        let some = self.spec.completions.is_some() || self.succeeded() > 0;
        some && self.succeeded() >= enough && self.active().next().is_none()
    }

    pub fn condition(&self, type_: &str) -> Option<&JobCondition> {
        self.status.conditions.as_ref()?.iter().find(|c| c.type_ == type_ && c.status == "True")
    }
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn is_tracked(pod: &Pod) -> bool {
    pods::has_finalizer(&pod.metadata, TRACKING_FINALIZER)
}

/// How often the pod's index had failed when the pod was made, ignored failures included.
pub fn failures(pod: &Pod) -> i32 {
    number(pod, INDEX_FAILURES).saturating_add(number(pod, INDEX_IGNORED_FAILURES))
}

fn annotated_index(pod: &Pod) -> Option<i32> {
    let index: i32 = pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()?;
    (index >= 0).then_some(index)
}

/// A count from an annotation; 0 if it isn't one.
pub fn number(pod: &Pod, annotation: &str) -> i32 {
    let value = pod.metadata.annotations.as_ref().and_then(|a| a.get(annotation)?.parse().ok());
    value.filter(|count: &i32| *count >= 0).unwrap_or(0)
}
