//! Writes an event into the state; decides nothing but what the event itself means.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Action, Container, Ending, Event, Exit, Life, PodState, ProbeKind, Refusal, RefusalReason, Run, Setup, SetupError,
    StopCause,
};
use crate::pod::backoff;
use crate::pod::plan::{ContainerPlan, PodPlan};

/// First and longest wait before a failed set-up (a missing ConfigMap volume) is tried again.
const SETUP_RETRY_MIN: Duration = Duration::from_millis(500);
const SETUP_RETRY_MAX: Duration = Duration::from_secs(60);
/// Wait before a container whose configuration is incomplete is tried again, when nothing it refers to changes.
const CONFIG_RETRY: Duration = Duration::from_secs(10);

impl PodState {
    pub(super) fn record(&mut self, event: Event, now: Timestamp, out: &mut Vec<Action>) {
        match event {
            Event::Plan(plan) => self.replan(plan, now),
            Event::Removed => self.ending = Some(Ending::Removed),
            Event::SetUp(result) => self.set_up(result, now, out),
            Event::Imaged { container, attempt, image_id } => {
                if let Some(component) = self.component(&container, attempt) {
                    component.image_id = image_id;
                }
            }
            Event::Answers { container, attempt } => {
                if let Some(component) = self.component(&container, attempt) {
                    component.answers = true;
                }
            }
            Event::Serves { container, attempt } => {
                if let Some(component) = self.component(&container, attempt) {
                    component.serves = true;
                }
            }
            Event::Compiling { container, attempt } => {
                if let Some(index) = self.current(&container, attempt)
                    && let Life::Launching { compiling, .. } = &mut self.containers[index].life
                {
                    *compiling = true;
                }
            }
            Event::Refused { container, attempt, refusal } => {
                if let Some(index) = self.current(&container, attempt) {
                    self.refused(index, refusal, now, out);
                } else if let Some(index) = self.beside(&container, attempt) {
                    self.not_succeeded(index, out);
                }
            }
            Event::StartFailed { container, attempt, message } => {
                if let Some(index) = self.current(&container, attempt)
                    && matches!(self.containers[index].life, Life::Launching { .. })
                {
                    out.push(emit(true, "Failed", format!("Error: {message}"), &container));
                    self.exited(index, 128, "StartError".to_owned(), message, now, out);
                } else if let Some(index) = self.beside(&container, attempt) {
                    self.not_succeeded(index, out);
                }
            }
            Event::Started { container, attempt } => {
                if let Some(index) = self.current(&container, attempt) {
                    self.started(index, now, out);
                } else if let Some(index) = self.beside(&container, attempt) {
                    self.succeeded(index, now, out);
                }
            }
            Event::Exited { container, attempt, exit_code, reason, message } => {
                if let Some(index) = self.current(&container, attempt)
                    && self.containers[index].is_live()
                {
                    self.exited(index, exit_code, reason, message, now, out);
                } else {
                    let exit = Exit { attempt, exit_code, reason, message, started_at: None, finished_at: now };
                    self.retired(&container, exit);
                }
            }
            Event::Trapped { container, attempt, message } => {
                if self.current(&container, attempt).is_some() {
                    out.push(emit(true, "Trapped", message, &container));
                }
            }
            Event::Probed { container, attempt, probe, healthy } => {
                if let Some(index) = self.current(&container, attempt) {
                    self.probed(index, probe, healthy, out);
                }
            }
            Event::Resized { container, attempt, result } => {
                if let Some(index) = self.current(&container, attempt) {
                    self.resized(index, result, now, out);
                }
            }
            Event::Hooked { container, attempt, succeeded: true } => {
                if let Some(index) = self.current(&container, attempt) {
                    self.containers[index].hooked();
                }
            }
            Event::Hooked { container, attempt, succeeded: false } => {
                if let Some(index) = self.current(&container, attempt) {
                    // What it failed with is not told, as the kubelet does not: it may hold secrets of who was asked.
                    out.push(emit(true, "FailedPostStartHook", "PostStartHook failed".to_owned(), &container));
                    self.stop(index, StopCause::Unhealthy, self.plan.grace, "FailedPostStartHook".to_owned(), out);
                }
            }
            Event::Condemned { reason, message } if self.ending.is_none() && self.outcome.is_none() => {
                out.push(Action::Emit { warning: true, reason, message: message.clone(), container: None });
                self.ending = Some(Ending::Condemned { reason, message });
            }
            Event::Condemned { .. } => {}
            Event::Nudge => self.nudge(now),
            Event::Tick => {}
        }
    }

    /// The container by that name, if the event speaks of its current attempt.
    pub(super) fn current(&self, name: &str, attempt: u32) -> Option<usize> {
        self.containers.iter().position(|container| container.plan.name == name && container.attempt == attempt)
    }

    fn replan(&mut self, plan: PodPlan, now: Timestamp) {
        for container in &mut self.containers {
            let Some(new) = plan.containers.iter().find(|new| new.name == container.plan.name) else { continue };
            let changed = new.image != container.plan.image;
            if new.resources != container.plan.resources {
                // Whatever failed was another change.
                container.resize_failed = None;
            }
            container.plan = new.clone();
            if !changed {
                continue;
            }
            // What another image has failed with says nothing of this one: the kubelet's back-offs are those of name and image.
            container.crashes = backoff::Backoff::default();
            container.refusals = backoff::Backoff::default();
            match &mut container.life {
                Life::Refused { retry_at, at, .. } => *retry_at = *at,
                Life::Exited { restart_at: Some(at), .. } => *at = now.min(*at),
                _ => {}
            }
        }
        let known = |new: &&ContainerPlan| self.container(&new.name).is_some();
        let added: Vec<_> = plan.containers.iter().filter(|new| !known(new)).cloned().map(Container::new).collect();
        self.containers.extend(added);
        self.plan = plan;
    }

    fn set_up(&mut self, result: Result<(), Vec<SetupError>>, now: Timestamp, out: &mut Vec<Action>) {
        let is_made = result.is_ok();
        for SetupError { reason, message } in result.err().into_iter().flatten() {
            out.push(Action::Emit { warning: true, reason, message, container: None });
        }
        let Setup::Under = self.setup else { return };
        self.setup = match is_made {
            true => Setup::Ready,
            false => {
                let backoff = self.setup_backoff;
                self.setup_backoff = (backoff * 2).clamp(SETUP_RETRY_MIN, SETUP_RETRY_MAX);
                Setup::Failed { retry_at: backoff::after(now, self.setup_backoff) }
            }
        };
    }

    fn refused(&mut self, index: usize, refusal: Refusal, now: Timestamp, out: &mut Vec<Action>) {
        let container = &mut self.containers[index];
        if !matches!(container.life, Life::Launching { .. }) {
            return;
        }
        let name = container.plan.name.clone();
        let error = |text: String| emit(true, "Failed", text, &name);
        let retry_at = match refusal.reason {
            RefusalReason::Cancelled | RefusalReason::NoServer => {
                container.life = Life::Pending;
                return;
            }
            RefusalReason::CreateContainerConfigError => {
                out.push(error(format!("Error: {}", refusal.message)));
                backoff::after(now, CONFIG_RETRY)
            }
            RefusalReason::CreateContainerError => {
                out.push(error(format!("Error: {}", refusal.message)));
                container.refusals.failed(now)
            }
            RefusalReason::ErrImageNeverPull => {
                out.push(emit(true, "ErrImageNeverPull", refusal.message.clone(), &name));
                out.push(error("Error: ErrImageNeverPull".to_owned()));
                container.refusals.failed(now)
            }
            RefusalReason::InvalidImageName => {
                out.push(emit(true, "InspectFailed", refusal.message.clone(), &name));
                out.push(error("Error: InvalidImageName".to_owned()));
                container.refusals.failed(now)
            }
            RefusalReason::ErrImagePull | RefusalReason::ImagePullBackOff => {
                let image = refusal.volume_image.as_ref().unwrap_or(&container.plan.image);
                out.push(error(format!("Failed to pull image \"{image}\": {}", refusal.message)));
                out.push(error("Error: ErrImagePull".to_owned()));
                container.refusals.failed(now)
            }
        };
        container.life = Life::Refused { refusal, at: now, retry_at };
    }

    fn started(&mut self, index: usize, now: Timestamp, out: &mut Vec<Action>) {
        let container = &mut self.containers[index];
        if !matches!(container.life, Life::Launching { .. }) {
            return;
        }
        container.begin(now, out);
    }

    fn exited(
        &mut self,
        index: usize,
        exit_code: i32,
        reason: String,
        message: String,
        now: Timestamp,
        out: &mut Vec<Action>,
    ) {
        let ends = self.ending.is_some() || self.plan.deletion_grace.is_some();
        let pod = self.plan.display();
        let container = &mut self.containers[index];
        let started_at = container.run().map(|run| run.since);
        let exit = Exit { attempt: container.attempt, exit_code, reason, message, started_at, finished_at: now };
        if !ends && self.restarting.is_none() && container.plan.restarts_all_after(exit_code) {
            self.restarting = Some(container.crashes.crashed(now));
        }
        if let Some(successor) = container.successor.take_if(|_| self.restarting.is_none()) {
            container.last = Some(exit);
            container.life = Life::Launching { showing: None, compiling: false, cancelled: successor.cancelled };
            container.adopt(successor);
            return;
        }
        let restart_at = match container.life {
            _ if ends || self.restarting.is_some() => None,
            Life::Stopping { cause: StopCause::Changed, .. } => Some(now),
            // A server that is drained ends with 0, which says nothing about why it was stopped.
            Life::Stopping { cause: StopCause::Unhealthy, .. } if container.plan.restart.restarts_unhealthy() => {
                Some(container.crashes.crashed(now))
            }
            _ if container.plan.restarts_after(exit_code) => Some(container.crashes.crashed(now)),
            _ => None,
        };
        if restart_at.is_some_and(|at| at > now) {
            let text = format!("Back-off restarting failed container {} in pod {pod}", container.plan.name);
            out.push(emit(true, "BackOff", text, &container.plan.name));
        }
        container.life = Life::Exited { exit, restart_at };
    }

    fn probed(&mut self, index: usize, probe: ProbeKind, healthy: bool, out: &mut Vec<Action>) {
        let container = &mut self.containers[index];
        let name = container.plan.name.clone();
        let waits_for_readiness = container.waits_for_readiness();
        let run = match (&mut container.life, probe) {
            (Life::Running(run), _) | (Life::Stopping { run, .. }, ProbeKind::Readiness) => run,
            _ => return,
        };
        match (probe, healthy) {
            (ProbeKind::Readiness, ready) => run.ready = ready && run.started,
            (ProbeKind::Startup, true) => {
                run.started = true;
                run.ready = !waits_for_readiness;
            }
            (ProbeKind::Liveness, true) => {}
            (ProbeKind::Startup | ProbeKind::Liveness, false) => {
                let kind = if probe == ProbeKind::Startup { "startup" } else { "liveness" };
                let restarts = container.plan.restart.restarts_unhealthy();
                let then = if restarts { ", will be restarted" } else { "" };
                let text = format!("Container {name} failed {kind} probe{then}");
                let own = match probe {
                    ProbeKind::Startup => container.plan.startup_grace,
                    ProbeKind::Liveness | ProbeKind::Readiness => container.plan.liveness_grace,
                };
                self.stop(index, StopCause::Unhealthy, own.unwrap_or(self.plan.grace), text, out);
            }
        }
    }

    fn nudge(&mut self, now: Timestamp) {
        if let Setup::Failed { retry_at } = &mut self.setup {
            *retry_at = now;
        }
        for container in &mut self.containers {
            if let Life::Refused { refusal, retry_at, .. } = &mut container.life
                && refusal.reason == RefusalReason::CreateContainerConfigError
            {
                *retry_at = now;
            }
        }
    }

    /// Tells a running container to stop, and says so in an event.
    pub(super) fn stop(
        &mut self,
        index: usize,
        cause: StopCause,
        grace: Duration,
        text: String,
        out: &mut Vec<Action>,
    ) {
        let container = &mut self.containers[index];
        let Life::Running(run) = container.life else { return };
        let name = container.plan.name.clone();
        out.push(emit(false, "Killing", text, &name));
        out.push(Action::Stop { container: name, attempt: container.attempt, grace });
        container.life = Life::Stopping { run, cause, grace, is_held: false };
    }
}

impl Container {
    /// The current attempt runs from now on.
    pub(super) fn begin(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.life = Life::Running(Run { since: now, in_hook: true, started: false, ready: false });
        if !self.plan.has_post_start_hook {
            self.hooked();
        }
        self.refusals = backoff::Backoff::default();
        out.push(emit(false, "Created", "Container created".to_owned(), &self.plan.name));
        out.push(emit(false, "Started", "Container started".to_owned(), &self.plan.name));
    }

    /// The current attempt's start is complete.
    fn hooked(&mut self) {
        let started = !self.waits_to_start();
        let ready = started && !self.waits_for_readiness();
        if let Life::Running(run @ Run { in_hook: true, .. }) = &mut self.life {
            *run = Run { in_hook: false, started, ready, ..*run };
        }
    }
}

pub(super) fn emit(warning: bool, reason: &'static str, message: String, container: &str) -> Action {
    Action::Emit { warning, reason, message, container: Some(container.to_owned()) }
}
