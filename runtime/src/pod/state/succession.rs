//! A server whose image changes: another attempt is launched beside it and takes its place without a pause.
//!
//! ```text
//! attempt n    Running ──────────────────▶ retiring ─▶ over
//! attempt n+1            launched beside ─▶ Running
//! ```
//!
//! The engine hands the port over when the new attempt starts; the old one is stopped then, and answers what it has. What
//! cannot take another's place (a process, an image that cannot be had) starts after it, as Kubernetes does it.

use std::time::Duration;

use jiff::Timestamp;

use super::record::emit;
use super::{Action, Component, Container, Exit, Life, PodState, Run, StopCause};
use crate::pod::plan::{ContainerPlan, Resources};

/// An attempt that is being launched beside the current one.
#[derive(Clone, Debug, PartialEq)]
pub struct Successor {
    pub component: Component,
    pub resources: Resources,
    pub cancelled: bool,
}

/// An attempt that another has taken the place of.
#[derive(Clone, Debug, PartialEq)]
pub struct Retiring {
    pub attempt: u32,
    pub since: Timestamp,
    pub grace: Duration,
}

impl PodState {
    /// What runs with another image than it should is replaced.
    pub(super) fn replace_changed(&mut self, out: &mut Vec<Action>) {
        for index in 0..self.containers.len() {
            let container = &mut self.containers[index];
            let is_right = container.component.image == container.plan.image;
            if is_right || container.is_replaced() || !matches!(container.life, Life::Running(_)) {
                continue;
            }
            if !container.component.serves {
                self.stop_changed(index, out);
                continue;
            }
            let ContainerPlan { image, resources, .. } = &container.plan;
            let (component, resources) = (Component::of(image), resources.clone());
            container.successor = Some(Successor { component, resources, cancelled: false });
            let (container, attempt) = (container.plan.name.clone(), container.attempt + 1);
            out.push(Action::Launch { container, attempt, beside: true });
        }
    }

    fn stop_changed(&mut self, index: usize, out: &mut Vec<Action>) {
        let text = changed(&self.containers[index].plan.name);
        self.stop(index, StopCause::Changed, self.plan.grace, text, out);
    }

    /// The container by that name, if the event speaks of the attempt beside its current one.
    pub(super) fn beside(&self, name: &str, attempt: u32) -> Option<usize> {
        let beside =
            |container: &Container| container.successor.is_some() && container.attempt.checked_add(1) == Some(attempt);
        self.containers.iter().position(|container| container.plan.name == name && beside(container))
    }

    /// What the attempt runs that an event speaks of, be it the container's current one or the one beside that.
    pub(super) fn component(&mut self, name: &str, attempt: u32) -> Option<&mut Component> {
        if let Some(index) = self.current(name, attempt) {
            return Some(&mut self.containers[index].component);
        }
        let index = self.beside(name, attempt)?;
        self.containers[index].successor.as_mut().map(|successor| &mut successor.component)
    }

    /// The attempt beside could not start, so that it is tried without the current one. One that was called off is not.
    pub(super) fn not_succeeded(&mut self, index: usize, out: &mut Vec<Action>) {
        let called_off = self.containers[index].successor.take().is_some_and(|successor| successor.cancelled);
        if !called_off {
            self.stop_changed(index, out);
        }
    }

    /// The attempt beside has started, and has the port.
    pub(super) fn succeeded(&mut self, index: usize, now: Timestamp, out: &mut Vec<Action>) {
        let grace = self.plan.grace;
        let container = &mut self.containers[index];
        let (since, grace, run) = match container.life {
            Life::Running(run) => {
                let name = container.plan.name.clone();
                out.push(emit(false, "Killing", changed(&name), &name));
                out.push(Action::Stop { container: name, attempt: container.attempt, grace });
                (run.since, grace, Some(run))
            }
            Life::Stopping { run, grace, .. } => (run.since, grace, None),
            _ => return,
        };
        let Some(successor) = container.successor.take() else { return };
        container.retiring = Some(Retiring { attempt: container.attempt, since, grace });
        container.adopt(successor);
        container.begin(now, out);
        // Whether it is ready is found out anew, and until then it is what the one before it was.
        if let Some(before) = run {
            container.life = Life::Running(Run { since: now, ..before });
        }
    }

    /// An attempt that another has taken the place of is over.
    pub(super) fn retired(&mut self, name: &str, exit: Exit) {
        for container in self.containers.iter_mut().filter(|container| container.plan.name == name) {
            let Some(retiring) = container.retiring.take_if(|retiring| retiring.attempt == exit.attempt) else {
                continue;
            };
            if container.last.as_ref().is_none_or(|last| last.attempt < exit.attempt) {
                container.last = Some(Exit { started_at: Some(retiring.since), ..exit.clone() });
            }
        }
    }
}

impl Container {
    /// Another attempt is to take this one's place, or this one has just taken another's.
    fn is_replaced(&self) -> bool {
        self.successor.is_some() || self.retiring.is_some()
    }

    /// Something of it may be running or about to.
    pub(super) fn is_busy(&self) -> bool {
        self.is_live() || self.is_replaced()
    }

    /// Becomes the attempt that was launched beside the current one.
    pub(super) fn adopt(&mut self, successor: Successor) {
        self.attempt += 1;
        self.component = successor.component;
        self.begin_with(successor.resources);
    }

    /// Attempts that run, stopping or not.
    pub fn running_attempts(&self) -> impl Iterator<Item = u32> {
        let current = self.run().map(|_| self.attempt);
        current.into_iter().chain(self.retiring.as_ref().map(|retiring| retiring.attempt))
    }
}

fn changed(name: &str) -> String {
    format!("Container {name} definition changed, will be restarted")
}
