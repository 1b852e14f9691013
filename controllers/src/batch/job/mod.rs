//! Runs a Job's pods until enough of them have succeeded, or too many have failed (API concepts: Jobs).
//!
//! Each plan says in the status what has ended, lets go of the pods that are told there, and moves the number of running
//! pods one step towards what is wanted. A Job that is to end gets an interim condition first; the terminal one follows
//! when all of its pods have ended and are counted.

mod backoff;
mod failure_policy;
mod indexes;
pub mod orphans;
mod scale;
mod success_policy;
mod template;
#[cfg(test)]
mod tests;
mod tracking;
mod verdict;
mod view;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::api::core::v1::Pod;

use self::scale::Moves;
use self::verdict::{End, Verdict};
use self::view::View;
use crate::claim::{Claimed, claim_tracked};
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Regarding, Step, Target, without_finalizer};
use crate::pods;
use crate::resource::{JOBS, Key, PODS};
use crate::selector;
use crate::time::stamp;
use crate::world::{Delta, Object, World, controller_of};

/// Keeps a pod that has ended until it is counted.
const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const INDEX_IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// The value of `spec.managedBy` that means this controller (KEP-4368).
const MANAGER: &str = "kubernetes.io/job-controller";
/// Pods created or deleted by one plan.
const MAX_PODS_PER_PLAN: usize = 500;
const COMPONENT: &str = "job-controller";

pub struct Jobs;

impl Controller for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }

    fn observe(&mut self, delta: &Delta, world: &World, wake: &mut Wake) {
        match &delta.object {
            Object::Job(job) => wake.now(Key::of(&job.metadata)),
            Object::Pod(pod) => {
                pods::wake_owners(&JOBS, delta, wake);
                if controller_of(&pod.metadata).is_none() && !delta.gone {
                    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                    for job in world.jobs.in_namespace(namespace).filter(|job| selects(job, pod)) {
                        wake.now(Key::of(&job.metadata));
                    }
                }
            }
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.jobs.by_key(key) {
            Some(job) => reconcile(job, world, turn.now),
            None => Plan::none(),
        }
    }
}

fn selects(job: &Job, pod: &Pod) -> bool {
    let wanted = job.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    wanted.is_some_and(|wanted| selector::matches(wanted, pod.metadata.labels.as_ref()))
}

/// Complete or Failed: nothing will be done for it again.
pub fn is_finished(job: &Job) -> bool {
    finished(job).is_some()
}

/// The condition a Job has ended with.
pub fn finished(job: &Job) -> Option<&JobCondition> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_terminal = |type_: &str| [End::Success, End::Failure].iter().any(|end| end.terminal() == type_);
    conditions.iter().find(|c| is_terminal(&c.type_) && c.status == "True")
}

fn is_managed_elsewhere(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != MANAGER)
}

pub fn reconcile(job: &Job, world: &World, now: Timestamp) -> Plan {
    let mut plan = Plan::none();
    let Some(spec) = job.spec.as_ref().filter(|_| !is_finished(job) && !is_managed_elsewhere(job)) else { return plan };
    let Some(wanted) = &spec.selector else { return plan };
    let Claimed { mine, steps } = claim_tracked(&JOBS, &job.metadata, wanted, &world.pods, TRACKING_FINALIZER);
    if !steps.is_empty() {
        plan.steps = steps;
        return plan;
    }
    let view = View::new(job, spec, mine, now);
    let verdict = verdict::of(&view);
    let may_move = verdict.is_none() && !pods::is_deleting(&job.metadata);
    let moves = if may_move { scale::moves(&view) } else { Moves::default() };
    let tracked = tracking::track(&view, verdict.as_ref());
    let mut status = tracked.status;
    let note = conclude(&view, verdict.as_ref(), &mut status);
    if job.status.as_ref() != Some(&status) {
        if status.completion_time.is_some() && spec.completions.is_some_and(|wanted| view.succeeded() > wanted) {
            let message = "Too many succeeded pods running after completion count reached";
            plan.note(self::note(job, NoteType::Warning, "TooManySucceededPods", message.into()));
        }
        let updated = Job { status: Some(status), ..job.clone() };
        plan.step(plan::update(&JOBS, &updated, "status", note));
    }
    let let_go = |pod: &std::sync::Arc<Pod>| without_finalizer(&PODS, &pod.metadata, TRACKING_FINALIZER);
    plan.together(tracked.let_go.iter().map(let_go));
    if verdict.is_some() {
        plan.together(view.active().chain(view.given_up()).take(MAX_PODS_PER_PLAN).map(|pod| delete(job, pod)));
    }
    // Pods that are given up must not count, whatever becomes of them.
    plan.together(moves.delete.iter().filter(|pod| view::is_tracked(pod)).map(let_go));
    plan.together(moves.delete.iter().map(|pod| delete(job, pod)));
    plan.together(moves.create.iter().map(|index| create(&view, *index)));
    moves.wait.into_iter().chain(verdict::deadline_in(&view).filter(|_| may_move)).for_each(|wait| plan.requeue(wait));
    plan
}

/// Completes the status: counts of what runs, when it started, and conditions; and what there is to tell about it.
fn conclude(view: &View, verdict: Option<&Verdict>, status: &mut JobStatus) -> Option<Note> {
    let active = pods::count(view.active().count());
    let terminating = pods::count(view.terminating().count());
    status.active = pods::positive(active);
    status.ready = Some(pods::count(view.active().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(terminating);
    if status.start_time.is_none() && !view.is_suspended() {
        status.start_time = Some(stamp(view.now));
    }
    let Some(Verdict { end, reason, message }) = verdict else {
        return if pods::is_deleting(&view.job.metadata) { None } else { suspend_or_resume(view, status) };
    };
    set(view, status, end.interim(), "True", reason, message);
    let uncounted = status.uncounted_terminated_pods.as_ref();
    let is_counted = uncounted.is_none_or(|u| u.succeeded.is_none() && u.failed.is_none());
    let is_over = is_counted && active == 0 && terminating == 0 && view.tracked().next().is_none();
    // The interim condition is stored before the last finalizer goes, so that a restart decides nothing anew.
    if !is_over || view.condition(end.interim()).is_none() {
        return None;
    }
    set(view, status, end.terminal(), "True", reason, message);
    // One that was suspended to its end has begun with it.
    status.start_time.get_or_insert_with(|| stamp(view.now));
    Some(match end {
        End::Success => {
            status.completion_time = Some(stamp(view.now));
            note(view.job, NoteType::Normal, "Completed", "Job completed".into())
        }
        End::Failure => Note { reason: told(reason), ..note(view.job, NoteType::Warning, "", message.clone()) },
    })
}

/// The reasons of failures, as events name them.
fn told(reason: &str) -> &'static str {
    const REASONS: [&str; 5] =
        ["PodFailurePolicy", "BackoffLimitExceeded", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];
    REASONS.into_iter().find(|known| *known == reason).unwrap_or("Failed")
}

fn suspend_or_resume(view: &View, status: &mut JobStatus) -> Option<Note> {
    if view.is_suspended() {
        status.start_time = None;
        set(view, status, "Suspended", "True", "JobSuspended", "Job suspended")
            .then(|| note(view.job, NoteType::Normal, "Suspended", "Job suspended".into()))
    } else if view.condition("Suspended").is_some() {
        set(view, status, "Suspended", "False", "JobResumed", "Job resumed");
        // The deadline counts from when the Job became active.
        status.start_time = Some(stamp(view.now));
        Some(note(view.job, NoteType::Normal, "Resumed", "Job resumed".into()))
    } else {
        None
    }
}

/// Sets a condition, and says whether that changed it.
fn set(view: &View, status: &mut JobStatus, type_: &str, value: &str, reason: &str, message: &str) -> bool {
    let conditions = status.conditions.get_or_insert_default();
    let is_same = |c: &JobCondition| {
        c.status == value && c.reason.as_deref() == Some(reason) && c.message.as_deref() == Some(message)
    };
    let found = conditions.iter().position(|c| c.type_ == type_);
    if found.is_some_and(|at| is_same(&conditions[at])) {
        return false;
    }
    let condition = JobCondition {
        type_: type_.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(stamp(view.now)),
        last_transition_time: Some(stamp(view.now)),
    };
    match found {
        Some(at) => conditions[at] = condition,
        None => conditions.push(condition),
    }
    true
}

fn create(view: &View, index: Option<i32>) -> Step {
    let namespace = view.job.metadata.namespace.as_deref().unwrap_or_default();
    let mut step = plan::create(&PODS, namespace, &template::pod(view, index));
    if let Step::Create { then, or_else, .. } = &mut step {
        *then = Some(note(view.job, NoteType::Normal, "SuccessfulCreate", "Created pod: {name}".into()));
        *or_else = Some(note(view.job, NoteType::Warning, "FailedCreate", "Error creating: {error}".into()));
    }
    step
}

fn delete(job: &Job, pod: &Pod) -> Step {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    Step::Delete {
        target: Target::new(&PODS, &pod.metadata),
        propagation: None,
        grace_seconds: None,
        then: Some(note(job, NoteType::Normal, "SuccessfulDelete", format!("Deleted pod: {name}"))),
        or_else: Some(note(job, NoteType::Warning, "FailedDelete", "Error deleting: {error}".into())),
    }
}

fn note(job: &Job, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&JOBS, &job.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}
