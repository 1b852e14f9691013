//! Whether a Job is to end, and why.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::failure_policy::{Judgement, judge};
use super::success_policy;
use super::view::View;
use crate::pods;
use crate::time;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Success,
    Failure,
}

/// The condition a Job gets first, while its last pods end; and the one it ends with.
impl End {
    pub fn interim(self) -> &'static str {
        match self {
            End::Success => "SuccessCriteriaMet",
            End::Failure => "FailureTarget",
        }
    }

    pub fn terminal(self) -> &'static str {
        match self {
            End::Success => "Complete",
            End::Failure => "Failed",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub end: End,
    pub reason: String,
    pub message: String,
}

impl Verdict {
    fn new(end: End, reason: &str, message: impl Into<String>) -> Option<Self> {
        Some(Self { end, reason: reason.into(), message: message.into() })
    }
}

/// What was decided stays so; after that the first cause wins.
pub fn of(view: &View) -> Option<Verdict> {
    decided(view)
        .or_else(|| by_failure_policy(view))
        .or_else(|| by_limits(view))
        .or_else(|| by_indexes(view))
        .or_else(|| by_completions(view))
}

fn decided(view: &View) -> Option<Verdict> {
    [End::Success, End::Failure].into_iter().find_map(|end| {
        let condition = view.condition(end.interim())?;
        let (reason, message) = (condition.reason.as_deref(), condition.message.clone());
        Verdict::new(end, reason.unwrap_or_default(), message.unwrap_or_default())
    })
}

fn by_failure_policy(view: &View) -> Option<Verdict> {
    let policy = view.spec.pod_failure_policy.as_ref()?;
    let failed = view.pods.iter().filter(|pod| view.has_failed(pod));
    let message = failed.map(|pod| judge(Some(policy), pod)).find_map(|judgement| match judgement {
        Judgement::FailJob(message) => Some(message),
        _ => None,
    });
    Verdict::new(End::Failure, "PodFailurePolicy", message?)
}

fn by_limits(view: &View) -> Option<Verdict> {
    let limit = view.spec.backoff_limit.unwrap_or(6);
    if view.failed() > limit || restarted_too_often(view, limit) {
        return Verdict::new(End::Failure, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    if deadline_in(view).is_some_and(|left| left.is_zero()) {
        return Verdict::new(End::Failure, "DeadlineExceeded", "Job was active longer than specified deadline");
    }
    None
}

/// How long the Job may still be active; `None` if it has no deadline or its clock does not run.
pub fn deadline_in(view: &View) -> Option<std::time::Duration> {
    let (seconds, since) = (view.spec.active_deadline_seconds?, view.status.start_time.as_ref()?);
    (!view.is_suspended()).then(|| time::until(time::after(since.0, time::seconds(seconds)), view.now))
}

/// Where containers are restarted in their pod, each restart is a failure.
fn restarted_too_often(view: &View, limit: i32) -> bool {
    let policy = view.spec.template.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    if policy != Some("OnFailure") {
        return false;
    }
    let restarts = |pod: &Pod| -> i32 {
        let status = pod.status.iter();
        let all = status.flat_map(|s| s.init_container_statuses.iter().chain(&s.container_statuses).flatten());
        all.map(|c: &ContainerStatus| c.restart_count).sum()
    };
    let unfinished = view.pods.iter().filter(|pod| matches!(pods::phase(pod), "Pending" | "Running"));
    let total: i32 = unfinished.map(|pod| restarts(pod)).sum();
    if limit == 0 { total > 0 } else { total >= limit }
}

fn by_indexes(view: &View) -> Option<Verdict> {
    let completions = view.indexed()?;
    if let Some(failed) = &view.failed_indexes {
        if view.spec.max_failed_indexes.is_some_and(|max| failed.len() > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Verdict::new(End::Failure, "MaxFailedIndexesExceeded", message);
        }
        if !failed.is_empty() && failed.len() + view.succeeded_indexes.len() >= completions {
            return Verdict::new(End::Failure, "FailedIndexes", "Job has failed indexes");
        }
    }
    let rule = success_policy::met(view.spec.success_policy.as_ref(), completions, &view.succeeded_indexes)?;
    Verdict::new(End::Success, "SuccessPolicy", format!("Matched rules at index {rule}"))
}

fn by_completions(view: &View) -> Option<Verdict> {
    let message = "Reached expected number of succeeded pods";
    view.is_complete().then(|| Verdict::new(End::Success, "CompletionsReached", message)).flatten()
}
