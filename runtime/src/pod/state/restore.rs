//! Finds a pod's life again in its status, after the agent was restarted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;

use super::{Container, Ending, Exit, Life, Outcome, PodState, RESTARTING};
use crate::pod::admission::Rejection;
use crate::pod::containers;
use crate::pod::plan::{PodPlan, Role};

/// What a container is said to have ended with when the node stopped under it, as the kubelet words it.
const LOST_REASON: &str = "ContainerStatusUnknown";
const LOST_MESSAGE: &str = "The container could not be located when the pod was synced";
const LOST_EXIT_CODE: i32 = 137;

impl PodState {
    /// Instances do not outlive the agent, nor do volumes in memory: what ran has ended, and its restart policy decides
    /// what follows. A pod that goes on does so from its beginning, as on a kubelet that finds its sandbox gone: its init
    /// containers run again. Restart counts and final phases are kept.
    pub fn restore(plan: PodPlan, status: &core::PodStatus, now: Timestamp) -> PodState {
        let mut state = PodState::new(plan, now);
        if let Some(start) = &status.start_time {
            state.start_time = start.0;
        }
        for status in containers::statuses(status) {
            if let Some(container) = state.containers.iter_mut().find(|found| found.plan.name == status.name) {
                container.restore(status, now);
            }
        }
        state.outcome = match status.phase.as_deref() {
            Some("Succeeded") => Some(Outcome::Succeeded),
            Some("Failed") => Some(Outcome::Failed),
            _ => None,
        };
        state.rejection = Rejection::of_status(status);
        // All were being restarted, also those that are over for good.
        let mut conditions = status.conditions.iter().flatten();
        let restarts_all = conditions.any(|condition| condition.type_ == RESTARTING && condition.status == "True");
        if state.outcome.is_none() && !restarts_all {
            state.ending = state.has_ended();
        }
        let ends = state.ending.is_some() || state.outcome.is_some() || state.plan.deletion_grace.is_some();
        let ends = ends || state.is_past_deadline(now);
        for container in &mut state.containers {
            let goes_on = match container.plan.role {
                Role::Init => true,
                Role::Ephemeral => false,
                Role::Sidecar | Role::Main => restarts_all || !container.is_over(),
            };
            if !ends && goes_on {
                container.start_over();
            } else if ends && let Life::Exited { restart_at, .. } = &mut container.life {
                *restart_at = None;
            }
        }
        state
    }

    /// Why nothing of a pod is to run any more whose containers have all ended.
    fn has_ended(&self) -> Option<Ending> {
        let all = |role: Role| self.containers.iter().filter(move |container| container.plan.role == role);
        if all(Role::Init).any(|container| container.is_over() && !container.succeeded()) {
            return Some(Ending::InitFailed);
        }
        all(Role::Main).all(Container::is_over).then_some(Ending::Completed)
    }
}

impl Container {
    /// What has ended is to run again as if it never had, but for its restart count.
    pub(super) fn start_over(&mut self) {
        match &self.life {
            Life::Exited { exit, .. } => {
                self.last = Some(exit.clone());
                self.attempt += 1;
            }
            Life::Refused { .. } => {}
            _ => return,
        }
        self.life = Life::Pending;
    }

    fn restore(&mut self, status: &core::ContainerStatus, now: Timestamp) {
        self.attempt = u32::try_from(status.restart_count).unwrap_or(0);
        self.component.image_id = status.image_id.clone();
        let last = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        self.last = last.map(|ended| exit(self.attempt.saturating_sub(1), ended, now));
        let Some(state) = &status.state else { return };
        let over = if let Some(ended) = &state.terminated {
            exit(self.attempt, ended, now)
        } else if let Some(running) = &state.running {
            Exit {
                attempt: self.attempt,
                exit_code: LOST_EXIT_CODE,
                reason: LOST_REASON.to_owned(),
                message: LOST_MESSAGE.to_owned(),
                started_at: running.started_at.as_ref().map(|time| time.0),
                finished_at: now,
            }
        } else if let Some(last) = self.last.take_if(|_| is_crash_loop(state)) {
            Exit { attempt: self.attempt, ..last }
        } else {
            return;
        };
        let restart_at = self.plan.restarts_after(over.exit_code).then_some(now);
        self.life = Life::Exited { exit: over, restart_at };
    }
}

/// While it backs off, the attempt that just ended shows as `lastState`.
fn is_crash_loop(state: &core::ContainerState) -> bool {
    state.waiting.as_ref().is_some_and(|waiting| waiting.reason.as_deref() == Some("CrashLoopBackOff"))
}

fn exit(attempt: u32, ended: &core::ContainerStateTerminated, now: Timestamp) -> Exit {
    Exit {
        attempt,
        exit_code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone().unwrap_or_default(),
        started_at: ended.started_at.as_ref().map(|time| time.0),
        finished_at: ended.finished_at.as_ref().map_or(now, |time| time.0),
    }
}
