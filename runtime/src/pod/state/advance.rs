//! Looks at the whole pod and decides what to do next.

use std::time::Duration;

use jiff::Timestamp;

use super::record::emit;
use super::{
    Action, Component, Container, Ending, Life, Outcome, PULL_ERROR_SHOWN, PodState, Refusal, RefusalReason, Setup,
    StopCause,
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
            self.sequence(now, out);
            if self.ending.is_none() {
                self.replace_changed(out);
            }
        }
        if self.ending.is_some() || self.outcome.is_some() {
            self.wind_down(out);
        }
    }

    fn notice_ending(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.plan.deletion_grace.is_some() && !matches!(self.ending, Some(Ending::Removed | Ending::Deleted)) {
            self.ending = Some(Ending::Deleted);
        }
        let Some(limit) = self.plan.active_deadline else { return };
        if self.ending.is_none() && self.outcome.is_none() && now >= backoff::after(self.start_time, limit) {
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
        let begun = self.main_has_begun();
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

    /// Stops what runs, main containers first, then sidecars in reverse; closes the pod when nothing does.
    fn wind_down(&mut self, out: &mut Vec<Action>) {
        let grace = self.ending_grace();
        let mut waits = false;
        for index in 0..self.containers.len() {
            if self.containers[index].plan.role != Role::Sidecar {
                waits |= self.end(index, grace, out);
            }
        }
        for index in (0..self.containers.len()).rev() {
            if !waits && self.containers[index].plan.role == Role::Sidecar {
                waits = self.end(index, grace, out);
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

    /// Ends one container; true while something of it is live.
    fn end(&mut self, index: usize, grace: Duration, out: &mut Vec<Action>) -> bool {
        let container = &mut self.containers[index];
        let name = container.plan.name.clone();
        let attempt = container.attempt;
        match &mut container.life {
            Life::Launching { cancelled, .. } => {
                if !std::mem::replace(cancelled, true) {
                    out.push(Action::Cancel { container: name, attempt });
                }
            }
            Life::Running(_) => {
                self.stop(index, StopCause::PodEnds, grace, format!("Stopping container {name}"), out);
            }
            Life::Stopping { grace: given, cause, .. } => {
                *cause = StopCause::PodEnds;
                if grace < *given {
                    *given = grace;
                    out.push(Action::Stop { container: name, attempt, grace });
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
            out.push(Action::Stop { container: name, attempt: retiring.attempt, grace });
        }
        container.is_busy()
    }

    fn ending_grace(&self) -> Duration {
        match self.ending {
            Some(Ending::Removed) => REMOVED_GRACE,
            _ => self.plan.deletion_grace.unwrap_or(self.plan.grace),
        }
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
                let text = format!("Back-off pulling image \"{}\"", self.plan.image);
                out.push(emit(false, "BackOff", text.clone(), &self.plan.name));
                out.push(emit(true, "Failed", "Error: ImagePullBackOff".to_owned(), &self.plan.name));
                *refusal = Refusal {
                    reason: RefusalReason::ImagePullBackOff,
                    message: format!("{text}: ErrImagePull: {}", refusal.message),
                };
            }
            Life::Running(_) if self.resize_failed.take_if(|(_, retry_at)| now >= *retry_at).is_some() => {
                out.push(Action::Resize { container: self.plan.name.clone(), attempt: self.attempt });
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
        self.life = Life::Launching { showing, compiling: false, cancelled: false };
        out.push(Action::Launch { container: self.plan.name.clone(), attempt: self.attempt, beside: false });
    }
}
