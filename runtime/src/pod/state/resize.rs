//! Resources that change under a container (KEP-1287).
//!
//! An attempt has what the plan gave its container when it was launched. Once it runs it is given what the plan says by
//! then: one change after the other, so that the newest is the last that the engine hears of.

use std::time::Duration;

use jiff::Timestamp;

use super::record::emit;
use super::{Action, Container, Life, PodState, StopCause};
use crate::pod::backoff;
use crate::pod::plan::Resources;

/// Wait before limits that a container could not be given are tried again.
const RETRY: Duration = Duration::from_secs(10);

impl PodState {
    /// What runs with other resources than it should is given those.
    pub(super) fn resize_changed(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        for index in 0..self.containers.len() {
            let container = &mut self.containers[index];
            let is_right = container.resources == container.plan.resources;
            if is_right || container.resizing.is_some() || !matches!(container.life, Life::Running(_)) {
                continue;
            }
            let name = container.plan.name.clone();
            if container.plan.restarts_for_resources(&container.resources) {
                let text = format!("Container {name} resize requires restart");
                self.stop(index, StopCause::Changed, self.plan.grace, text, out);
            } else if container.resize_failed.as_ref().is_none_or(|(_, retry_at)| now >= *retry_at) {
                container.resize_failed = None;
                container.resizing = Some(container.plan.resources.clone());
                out.push(Action::Resize { container: name, attempt: container.attempt });
            }
        }
    }

    pub(super) fn resized(&mut self, index: usize, result: Result<(), String>, now: Timestamp, out: &mut Vec<Action>) {
        let container = &mut self.containers[index];
        let Some(given) = container.resizing.take() else { return };
        let is_newest = given == container.plan.resources;
        match result {
            Ok(()) => {
                container.resources = given;
                if is_newest {
                    let text = "Container resize completed".to_owned();
                    out.push(emit(false, "ResizeCompleted", text, &container.plan.name));
                }
            }
            Err(why) => {
                out.push(emit(true, "ResizeError", why.clone(), &container.plan.name));
                container.resize_failed = is_newest.then(|| (why, backoff::after(now, RETRY)));
            }
        }
    }
}

impl Container {
    /// The current attempt is launched with these.
    pub(super) fn begin_with(&mut self, resources: Resources) {
        self.resources = resources;
        self.resizing = None;
        self.resize_failed = None;
    }
}
