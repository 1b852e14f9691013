//! Looks at the whole pod and decides what to do next.

use std::time::Duration;

use jiff::Timestamp;

use super::record::emit;
use super::{
    Action, Component, Container, Ending, Grace, Life, Outcome, PULL_ERROR_SHOWN, PodState, Refusal, RefusalReason,
    Setup, StopCause,
};
use crate::pod::backoff;
use crate::pod::plan::Role;

/// `status.message` of a pod over its `activeDeadlineSeconds`, as the kubelet words it.
const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";
/// What a container gets when its pod was removed by force.
const REMOVED_GRACE: Duration = Duration::from_secs(1);

impl PodState {
    pub(super) fn advance(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.notice_ending(now, out);
        if self.ending.is_none() && self.outcome.is_none() && self.prepared(now, out) {
            if let Some(at) = self.restarting {
                self.restart_all(at, now, out);
            }
            if self.restarting.is_none() {
                self.sequence(now, out);
            }
            if self.ending.is_none() && self.restarting.is_none() {
                self.replace_changed(out);
                self.resize_changed(now, out);
            }
        }
        if self.ending.is_some() || self.outcome.is_some() {
            self.wind_down(now, out);
        }
    }

    fn notice_ending(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.plan.deletion_grace.is_some() && !matches!(self.ending, Some(Ending::Removed | Ending::Deleted)) {
            self.ending = Some(Ending::Deleted);
        }
        if self.ending.is_none() && self.outcome.is_none() && self.is_past_deadline(now) {
            let (reason, message) = ("DeadlineExceeded", DEADLINE_MESSAGE.to_owned());
            out.push(Action::Emit { warning: false, reason, message: message.clone(), container: None });
            self.ending = Some(Ending::Condemned { reason, message });
        }
    }

    /// Asks for volumes and address when it is time to; true when they are there.
    fn prepared(&mut self, now: Timestamp, out: &mut Vec<Action>) -> bool {
        let due = match self.setup {
            Setup::NotBegun => true,
            Setup::Failed { retry_at } => now >= retry_at,
            Setup::Under | Setup::Ready => false,
        };
        if due {
            self.setup = Setup::Under;
            out.push(Action::SetUp);
        }
        self.setup == Setup::Ready
    }

    /// Init containers in order, then the main ones, each kept as its policy says.
    fn sequence(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let pod = self.plan.display();
        let begun = self.begun;
        let mut main_over = true;
        for container in self.containers.iter_mut().filter(|container| container.plan.role == Role::Ephemeral) {
            container.keep(now, &pod, out);
        }
        for container in &mut self.containers {
            match container.plan.role {
                Role::Ephemeral => {}
                Role::Init if container.succeeded() => {}
                Role::Init if container.is_over() => {
                    self.ending = Some(Ending::InitFailed);
                    return;
                }
                Role::Init => {
                    container.keep(now, &pod, out);
                    return;
                }
                Role::Sidecar => {
                    container.keep(now, &pod, out);
                    if !container.is_started() && !begun {
                        return;
                    }
                }
                Role::Main => {
                    self.begun = true;
                    container.keep(now, &pod, out);
                    if container.holds_others_back() {
                        return;
                    }
                    main_over &= container.is_over();
                }
            }
        }
        if main_over {
            self.ending = Some(Ending::Completed);
        }
    }

    /// Ends all containers, without grace and hooks, and lets them begin again from `at` on (KEP-5532).
    fn restart_all(&mut self, at: Timestamp, now: Timestamp, out: &mut Vec<Action>) {
        let mut waits = false;
        for index in 0..self.containers.len() {
            waits |= self.end(index, Duration::ZERO, Duration::ZERO, true, out);
        }
        if waits || now < at {
            return;
        }
        self.restarting = None;
        self.begun = false;
        for container in self.containers.iter_mut().filter(|container| container.plan.role != Role::Ephemeral) {
            container.start_over();
        }
    }

    /// Stops what runs, main containers first, then sidecars in reverse, all within one grace; closes the pod when nothing
    /// does.
    fn wind_down(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.restarting = None;
        let Grace { given: grace, until } = self.ending_grace(now);
        let left = Duration::try_from(until.duration_since(now)).unwrap_or_default();
        let mut waits = false;
        for index in 0..self.containers.len() {
            if self.containers[index].plan.role != Role::Sidecar {
                waits |= self.end(index, grace, left, true, out);
            }
        }
        for index in (0..self.containers.len()).rev() {
            if self.containers[index].plan.role == Role::Sidecar {
                let is_its_turn = !waits || left.is_zero();
                waits |= self.end(index, grace, left, is_its_turn, out);
            }
        }
        if waits {
            return;
        }
        if self.outcome.is_none() {
            self.outcome = Some(self.judge());
        }
        if !self.closed {
            self.closed = true;
            out.push(Action::Close);
        }
        let last = match self.ending {
            Some(Ending::Deleted) => Action::Delete,
            Some(Ending::Removed) => Action::Forget,
            _ => return,
        };
        if self.last_sent.as_ref() != Some(&last) {
            self.last_sent = Some(last.clone());
            out.push(last);
        }
    }

    /// Ends one container, if it is its turn; true while something of it is live. `left` is what is left of the `grace`.
    fn end(&mut self, index: usize, grace: Duration, left: Duration, is_its_turn: bool, out: &mut Vec<Action>) -> bool {
        let container = &mut self.containers[index];
        let name = container.plan.name.clone();
        let attempt = container.attempt;
        match &mut container.life {
            Life::Launching { cancelled, .. } => {
                if !std::mem::replace(cancelled, true) {
                    out.push(Action::Cancel { container: name, attempt });
                }
            }
            Life::Running(run) => {
                let (run, cause) = (*run, StopCause::PodEnds);
                container.life = Life::Stopping { run, cause, grace, is_held: !is_its_turn };
                out.push(emit(false, "Killing", format!("Stopping container {name}"), &name));
                out.push(match is_its_turn {
                    true => Action::Stop { container: name, attempt, grace: left },
                    false => Action::PreStop { container: name, attempt, grace: left },
                });
            }
            Life::Stopping { grace: given, cause, is_held, .. } => {
                *cause = StopCause::PodEnds;
                let is_shorter = grace < *given;
                *given = grace.min(*given);
                let was_held = *is_held;
                *is_held &= !is_its_turn;
                if !*is_held && (was_held || is_shorter) {
                    out.push(Action::Stop { container: name, attempt, grace: left });
                }
            }
            Life::Exited { restart_at, .. } => *restart_at = None,
            Life::Pending | Life::Refused { .. } => {}
        }
        let container = &mut self.containers[index];
        let name = container.plan.name.clone();
        if let Some(successor) = &mut container.successor
            && !std::mem::replace(&mut successor.cancelled, true)
        {
            out.push(Action::Cancel { container: name.clone(), attempt: attempt + 1 });
        }
        if let Some(retiring) = &mut container.retiring
            && grace < retiring.grace
        {
            retiring.grace = grace;
            out.push(Action::Stop { container: name, attempt: retiring.attempt, grace: left });
        }
        container.is_busy()
    }

    /// The grace of the pod, from when it began to end. A shorter one counts from when it was given.
    fn ending_grace(&mut self, now: Timestamp) -> Grace {
        let given = match self.ending {
            Some(Ending::Removed) => REMOVED_GRACE,
            _ => self.plan.deletion_grace.unwrap_or(self.plan.grace),
        };
        let grace = match self.grace {
            Some(before) if before.given <= given => before,
            before => {
                let until = backoff::after(now, given);
                Grace { given, until: before.map_or(until, |before| before.until.min(until)) }
            }
        };
        self.grace = Some(grace);
        grace
    }

    fn judge(&self) -> Outcome {
        let condemned = matches!(self.ending, Some(Ending::Condemned { .. } | Ending::InitFailed));
        let mut main = self.containers.iter().filter(|container| container.plan.role == Role::Main);
        if !condemned && main.all(Container::succeeded) { Outcome::Succeeded } else { Outcome::Failed }
    }
}

impl Container {
    /// Starts the container, or starts it again, when it is time to.
    fn keep(&mut self, now: Timestamp, pod: &str, out: &mut Vec<Action>) {
        match &mut self.life {
            Life::Pending => self.launch(None, out),
            Life::Refused { refusal, retry_at, .. } if now >= *retry_at => {
                let showing = refusal.clone();
                self.launch(Some(showing), out);
            }
            Life::Refused { refusal, at, .. }
                if refusal.reason == RefusalReason::ErrImagePull && now >= backoff::after(*at, PULL_ERROR_SHOWN) =>
            {
                let image = refusal.volume_image.as_ref().unwrap_or(&self.plan.image);
                let text = format!("Back-off pulling image \"{image}\"");
                out.push(emit(false, "BackOff", text.clone(), &self.plan.name));
                out.push(emit(true, "Failed", "Error: ImagePullBackOff".to_owned(), &self.plan.name));
                refusal.reason = RefusalReason::ImagePullBackOff;
                refusal.message = format!("{text}: ErrImagePull: {}", refusal.message);
            }
            Life::Exited { exit, restart_at: Some(at) } if now >= *at => {
                tracing::debug!(pod, container = self.plan.name, attempt = self.attempt + 1, "restarting");
                self.last = Some(exit.clone());
                self.attempt += 1;
                self.launch(None, out);
            }
            _ => {}
        }
    }

    fn launch(&mut self, showing: Option<Refusal>, out: &mut Vec<Action>) {
        let image_id = std::mem::take(&mut self.component.image_id);
        self.component = Component { image_id, ..Component::of(&self.plan.image) };
        self.begin_with(self.plan.resources.clone());
        self.life = Life::Launching { showing, compiling: false, cancelled: false };
        out.push(Action::Launch { container: self.plan.name.clone(), attempt: self.attempt, beside: false });
    }
}
