//! Makes a Job each time a CronJob's schedule says (API concepts: CronJob).
//!
//! A Job is named after the minute it is for, so that it is made once, and carries that time in an annotation, so that the
//! status can be told of it although whoever made it did not live to do so.

mod due;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8w_kinds::batch::schedule::{self, Schedule};

use super::job::finished;
use crate::engine::{Controller, Turn, Wake};
use crate::plan::{self, Note, NoteType, Plan, Propagation, Regarding, Step, Target};
use crate::pods;
use crate::resource::{CRON_JOBS, JOBS, Key};
use crate::time;
use crate::world::{Delta, Object, World};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
const COMPONENT: &str = "cronjob-controller";

pub struct CronJobs;

impl Controller for CronJobs {
    fn name(&self) -> &'static str {
        "cronjob"
    }

    fn observe(&mut self, delta: &Delta, _: &World, wake: &mut Wake) {
        match &delta.object {
            Object::CronJob(cron_job) => wake.now(Key::of(&cron_job.metadata)),
            Object::Job(_) => pods::wake_owners(&CRON_JOBS, delta, wake),
            _ => {}
        }
    }

    fn reconcile(&mut self, key: &Key, world: &World, turn: &mut Turn<'_>) -> Plan {
        match world.cron_jobs.by_key(key) {
            Some(cron_job) => reconcile(cron_job, world, turn.now),
            None => Plan::none(),
        }
    }
}

pub fn reconcile(cron_job: &CronJob, world: &World, now: Timestamp) -> Plan {
    let spec = &cron_job.spec;
    let uid = cron_job.metadata.uid.as_deref().unwrap_or_default();
    let jobs = world.jobs.controlled_by(uid).cloned().collect();
    let mut run =
        Run { cron_job, spec, jobs, status: cron_job.status.clone().unwrap_or_default(), plan: Plan::none(), now };
    run.account();
    run.clean_up();
    let made = if pods::is_deleting(&cron_job.metadata) { None } else { run.start(world) };
    if cron_job.status.clone().unwrap_or_default() != run.status {
        let updated = CronJob { status: Some(run.status), ..cron_job.clone() };
        run.plan.update_status(&CRON_JOBS, &updated);
    }
    run.plan.steps.extend(made);
    run.plan
}

/// A reconciliation under way: the status it will leave, and the plan so far.
struct Run<'a> {
    cron_job: &'a CronJob,
    spec: &'a CronJobSpec,
    jobs: Vec<Arc<Job>>,
    status: CronJobStatus,
    plan: Plan,
    now: Timestamp,
}

impl Run<'_> {
    /// Brings the status in step with the Jobs that exist.
    fn account(&mut self) {
        let mut active = self.status.active.take().unwrap_or_default();
        for job in &self.jobs {
            let (name, uid) = (name_of(job), job.metadata.uid.as_deref());
            let listed = active.iter().position(|reference| reference.uid.as_deref() == uid);
            let scheduled = scheduled_at(job);
            let last = self.status.last_schedule_time.as_ref().map(|t| t.0);
            let is_untold = scheduled.is_some() && scheduled > last;
            if is_untold {
                self.status.last_schedule_time = scheduled.map(Time);
            }
            match (finished(job), listed) {
                (Some(condition), Some(at)) => {
                    active.remove(at);
                    let message = format!("Saw completed job: {name}, condition: {}", condition.type_);
                    self.plan.note(note(self.cron_job, NoteType::Normal, "SawCompletedJob", message));
                }
                (None, None) if is_untold => active.push(JOBS.reference(&job.metadata)),
                (None, None) => {
                    let message = format!("Saw a job that the controller did not create or forgot: {name}");
                    self.plan.note(note(self.cron_job, NoteType::Warning, "UnexpectedJob", message));
                }
                _ => {}
            }
            let succeeded = finished(job).filter(|c| c.type_ == "Complete");
            let ended = succeeded.and_then(|_| job.status.as_ref()?.completion_time.clone());
            if ended.as_ref().map(|t| t.0) > self.status.last_successful_time.as_ref().map(|t| t.0) {
                self.status.last_successful_time = ended;
            }
        }
        active.retain(|reference| {
            let exists = self.jobs.iter().any(|job| job.metadata.uid == reference.uid);
            if !exists {
                let message = format!("Active job went missing: {}", reference.name.as_deref().unwrap_or_default());
                self.plan.notes.push(note(self.cron_job, NoteType::Normal, "MissingJob", message));
            }
            exists
        });
        self.status.active = Some(active).filter(|active| !active.is_empty());
    }

    /// Deletes finished Jobs beyond the history limits, the oldest first.
    fn clean_up(&mut self) {
        let limits =
            [("Complete", self.spec.successful_jobs_history_limit), ("Failed", self.spec.failed_jobs_history_limit)];
        for (type_, limit) in limits {
            let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { continue };
            let is_over = |job: &&Arc<Job>| finished(job).is_some_and(|c| c.type_ == type_);
            let mut over: Vec<Arc<Job>> =
                self.jobs.iter().filter(is_over).filter(|job| !pods::is_deleting(&job.metadata)).cloned().collect();
            over.sort_by_key(|job| {
                let started = job.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0);
                (started.is_none(), started, job.metadata.name.clone())
            });
            over.truncate(over.len().saturating_sub(limit));
            over.iter().for_each(|job| self.plan.step(delete(self.cron_job, job)));
        }
    }

    /// Starts the run that is due, unless something speaks against it; the Job is made last of all.
    fn start(&mut self, world: &World) -> Option<Step> {
        let zone = self.zone()?;
        if self.spec.suspend == Some(true) {
            return None;
        }
        let schedule = match Schedule::parse(&self.spec.schedule) {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", self.spec.schedule);
                self.plan.note(note(self.cron_job, NoteType::Warning, "UnparseableSchedule", message));
                return None;
            }
        };
        let Some(next) = schedule.next(self.now, &zone) else {
            // Such as the 31st of February. The words are the user's, whatever the reason is called here.
            let why = "time difference between two schedules is less than 1 second";
            let message = format!("invalid schedule: {} : {why}", self.spec.schedule);
            self.plan.note(note(self.cron_job, NoteType::Warning, "InvalidSchedule", message));
            return None;
        };
        self.plan.requeue(time::until(next, self.now));
        let at = self.due(&schedule, &zone)?;
        let name = format!("{}-{}", self.cron_job.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60);
        let namespace = self.cron_job.metadata.namespace.as_deref().unwrap_or_default();
        // Made by us, and accounted for already; or somebody else's, who has taken the name.
        if world.jobs.get(namespace, &name).is_some() {
            return None;
        }
        let active = self.status.active.clone().unwrap_or_default();
        match self.spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.plan.note(note(self.cron_job, NoteType::Normal, "JobAlreadyActive", message.into()));
                return None;
            }
            Some("Replace") => {
                let is_active = |job: &&Arc<Job>| active.iter().any(|r| r.uid == job.metadata.uid);
                let replaced: Vec<Step> =
                    self.jobs.iter().filter(is_active).map(|job| delete(self.cron_job, job)).collect();
                self.plan.steps.extend(replaced);
                self.status.active = None;
            }
            _ => {}
        }
        Some(self.create(name, at, zone))
    }

    fn zone(&mut self) -> Option<TimeZone> {
        let Some(name) = &self.spec.time_zone else { return Some(TimeZone::UTC) };
        let zone = schedule::time_zone(name);
        if zone.is_none() {
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            self.plan.note(note(self.cron_job, NoteType::Warning, "UnknownTimeZone", message));
        }
        zone
    }

    /// The time of the run that should start now.
    fn due(&mut self, schedule: &Schedule, zone: &TimeZone) -> Option<Timestamp> {
        let created = self.cron_job.metadata.creation_timestamp.as_ref();
        let last = self.status.last_schedule_time.as_ref();
        let mut since = last.or(created)?.0;
        let deadline = self.spec.starting_deadline_seconds.map(time::seconds);
        if let Some(too_late) = deadline.and_then(|deadline| self.now.checked_sub(deadline).ok()) {
            since = since.max(too_late);
        }
        let due = due::due(schedule, zone, since, self.now)?;
        if due.too_many_missed {
            let message =
                "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.plan.note(note(self.cron_job, NoteType::Warning, "TooManyMissedTimes", message.into()));
        }
        if deadline.is_some_and(|deadline| time::after(due.at, deadline) < self.now) {
            let at = due.at.strftime("%a, %d %b %Y %H:%M:%S +0000");
            let message = format!("Missed scheduled time to start a job: {at}");
            self.plan.note(note(self.cron_job, NoteType::Warning, "MissSchedule", message));
            return None;
        }
        Some(due.at)
    }

    fn create(&self, name: String, at: Timestamp, zone: TimeZone) -> Step {
        let template = self.spec.job_template.metadata.clone().unwrap_or_default();
        let mut annotations = template.annotations.unwrap_or_default();
        let local = at.to_zoned(zone);
        let written = if local.offset().is_zero() { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
        annotations.insert(SCHEDULED_AT.into(), local.strftime(written).to_string());
        let job = Job {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: self.cron_job.metadata.namespace.clone(),
                labels: template.labels,
                annotations: Some(annotations),
                owner_references: Some(vec![pods::controller_ref(&CRON_JOBS, &self.cron_job.metadata)]),
                ..ObjectMeta::default()
            },
            spec: self.spec.job_template.spec.clone(),
            status: None,
        };
        let namespace = self.cron_job.metadata.namespace.as_deref().unwrap_or_default();
        let mut step = plan::create(&JOBS, namespace, &job);
        if let Step::Create { then, or_else, .. } = &mut step {
            let message = format!("Created job {name}");
            *then = Some(note(self.cron_job, NoteType::Normal, "SuccessfulCreate", message));
            let message = "Error creating job: {error}".into();
            *or_else = Some(note(self.cron_job, NoteType::Warning, "FailedCreate", message));
        }
        step
    }
}

/// The time a Job was made for, if it was made by its CronJob's schedule.
fn scheduled_at(job: &Job) -> Option<Timestamp> {
    job.metadata.annotations.as_ref()?.get(SCHEDULED_AT)?.parse().ok()
}

fn name_of(job: &Job) -> &str {
    job.metadata.name.as_deref().unwrap_or_default()
}

fn delete(cron_job: &CronJob, job: &Job) -> Step {
    Step::Delete {
        target: Target::new(&JOBS, &job.metadata),
        propagation: Some(Propagation::Background),
        grace_seconds: None,
        then: Some(note(cron_job, NoteType::Normal, "SuccessfulDelete", format!("Deleted job {}", name_of(job)))),
        or_else: Some(note(cron_job, NoteType::Warning, "FailedDelete", "Deleted job: {error}".into())),
    }
}

fn note(cron_job: &CronJob, note_type: NoteType, reason: &'static str, message: String) -> Note {
    let regarding = Regarding::new(&CRON_JOBS, &cron_job.metadata);
    Note { component: COMPONENT, regarding, note_type, reason, action: "", message }
}
