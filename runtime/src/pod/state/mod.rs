//! The life of a pod on its node: `step(state, event, now) -> actions`, without IO or a clock.
//!
//! The state holds what is known about each container; [`step`] first records the event ([`record`]) and then looks
//! at the whole ([`advance`]) and decides what to do next, so that no decision depends on how the state came about.
//!
//! ```text
//! Pending ─▶ Launching ─▶ Running ─▶ Stopping
//!              │  ▲          │           │
//!              ▼  │ retry    ▼           ▼
//!            Refused ◀── (restart) ── Exited ── for good
//! ```
//!
//! A server whose image changes is replaced without a pause ([`succession`]); resources change under what runs ([`resize`]).

mod advance;
mod record;
mod resize;
mod restore;
mod succession;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use super::admission::Rejection;
use super::backoff::{self, Backoff};
use super::plan::{ContainerPlan, PodPlan, Resources, Role};
use succession::{Retiring, Successor};

/// How long `ErrImagePull` shows before it becomes `ImagePullBackOff`.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(2);
/// The condition of a pod all of whose containers are ended, to begin again.
pub const RESTARTING: &str = "AllContainersRestarting";

/// One pod's life so far. Made by [`PodState::new`] or, after a restart of the agent, [`PodState::restore`].
#[derive(Clone, Debug, PartialEq)]
pub struct PodState {
    plan: PodPlan,
    setup: Setup,
    setup_backoff: Duration,
    containers: Vec<Container>,
    /// `status.startTime`: when this node first saw the pod.
    start_time: Timestamp,
    /// The main containers' turn has come: all init containers have done their part.
    begun: bool,
    /// All containers end, to begin again then.
    restarting: Option<Timestamp>,
    /// Why the pod is being wound down.
    ending: Option<Ending>,
    /// How long that may take.
    grace: Option<Grace>,
    outcome: Option<Outcome>,
    /// Why the node did not take the pod, if it did not.
    rejection: Option<Rejection>,
    /// Every container is over and its resources were given back.
    closed: bool,
    /// The last word on the pod that was sent: `Delete` or `Forget`.
    last_sent: Option<Action>,
}

/// Volumes and address of the pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Setup {
    NotBegun,
    Under,
    Failed { retry_at: Timestamp },
    Ready,
}

/// What is known about one container.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    pub plan: ContainerPlan,
    /// Number of the current attempt, which is also the restart count.
    pub attempt: u32,
    pub life: Life,
    /// How the attempt before this one ended.
    pub last: Option<Exit>,
    /// What the current attempt has, or is launched with; what it should have is in the plan.
    pub resources: Resources,
    /// What it is being given just now.
    resizing: Option<Resources>,
    /// Why it does not have what it should, and when that is tried again.
    pub resize_failed: Option<(String, Timestamp)>,
    /// What the current attempt runs; what it should run is in the plan.
    pub component: Component,
    /// What is to take its place.
    successor: Option<Successor>,
    /// What it took the place of, while that answers the requests that it has.
    retiring: Option<Retiring>,
    crashes: Backoff,
    refusals: Backoff,
}

/// What an attempt runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Component {
    pub image: String,
    /// `<repository>@<digest>`; of an attempt that is being launched, that of the one before it until it is known.
    pub image_id: String,
    /// It answers for itself, where the manifest has no probe.
    pub answers: bool,
    /// It is a server, whose place another can take.
    serves: bool,
}

/// Where the current attempt of a container stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Life {
    Pending,
    /// The node is pulling, resolving and instantiating. `showing` is the refusal of the try before.
    Launching {
        showing: Option<Refusal>,
        /// The image's component is being compiled, or waits for its turn.
        compiling: bool,
        cancelled: bool,
    },
    /// The attempt could not start and is tried again.
    Refused {
        refusal: Refusal,
        at: Timestamp,
        retry_at: Timestamp,
    },
    Running(Run),
    Stopping {
        run: Run,
        cause: StopCause,
        grace: Duration,
        /// Of a sidecar: its preStop hook runs, and itself until those that need it have ended.
        is_held: bool,
    },
    /// The attempt is over; `None` means for good.
    Exited {
        exit: Exit,
        restart_at: Option<Timestamp>,
    },
}

/// A running attempt.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    pub since: Timestamp,
    /// Its postStart hook is under way, which is a part of its start: nobody is told yet that it runs.
    pub in_hook: bool,
    /// The startup probe, if any, has succeeded.
    pub started: bool,
    pub ready: bool,
}

/// Why a container was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The pod ends.
    PodEnds,
    /// A probe or hook failed; the restart policy decides what follows.
    Unhealthy,
    /// Its image changed: it is started again whatever the policy.
    Changed,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    pub attempt: u32,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub started_at: Option<Timestamp>,
    pub finished_at: Timestamp,
}

/// Why a pod's sandbox or one of its volumes could not be made, as an Event says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError {
    /// `FailedMount` or `FailedCreatePodSandBox`.
    pub reason: &'static str,
    pub message: String,
}

/// Why an attempt could not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: RefusalReason,
    pub message: String,
    /// The image of a volume that is missing, where it is not the container's own.
    pub volume_image: Option<String>,
}

impl Refusal {
    pub fn new(reason: RefusalReason, message: impl ToString) -> Refusal {
        Refusal { reason, message: message.to_string(), volume_image: None }
    }
}

/// The waiting reasons of the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    ErrImagePull,
    ImagePullBackOff,
    ErrImageNeverPull,
    InvalidImageName,
    CreateContainerConfigError,
    CreateContainerError,
    /// The launch was called off; not an error.
    Cancelled,
    /// It cannot take the place of an attempt that runs; not an error.
    NoServer,
}

/// Why a pod is wound down.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// Its containers have done what they were to do.
    Completed,
    /// An init container failed and is not restarted.
    InitFailed,
    /// The node ended it; shown as `status.reason` and `status.message`.
    Condemned { reason: &'static str, message: String },
    /// The object is being deleted.
    Deleted,
    /// The object is gone already.
    Removed,
}

/// The one grace of a pod that ends, of which each of its containers gets what those before it have left.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grace {
    given: Duration,
    until: Timestamp,
}

/// A phase that never changes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    Failed,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

/// What happens to a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The API object changed.
    Plan(PodPlan),
    /// The API object is gone.
    Removed,
    /// Volumes and address are there, or why not. Of a pod that runs: its volumes show what they should, or why not.
    SetUp(Result<(), Vec<SetupError>>),
    /// The container's image is on this node.
    Imaged {
        container: String,
        attempt: u32,
        image_id: String,
    },
    /// The image's component answers for itself.
    Answers {
        container: String,
        attempt: u32,
    },
    /// The image's component is a server.
    Serves {
        container: String,
        attempt: u32,
    },
    /// The image's component was not compiled before, and is now.
    Compiling {
        container: String,
        attempt: u32,
    },
    /// The attempt could not be started.
    Refused {
        container: String,
        attempt: u32,
        refusal: Refusal,
    },
    /// The engine could not instantiate the attempt.
    StartFailed {
        container: String,
        attempt: u32,
        message: String,
    },
    Started {
        container: String,
        attempt: u32,
    },
    Exited {
        container: String,
        attempt: u32,
        exit_code: i32,
        reason: String,
        message: String,
    },
    /// A request trapped, of those that the attempt serves.
    Trapped {
        container: String,
        attempt: u32,
        message: String,
    },
    /// A probe changed its mind.
    Probed {
        container: String,
        attempt: u32,
        probe: ProbeKind,
        healthy: bool,
    },
    /// A running attempt was given the resources of its plan, or why not.
    Resized {
        container: String,
        attempt: u32,
        result: Result<(), String>,
    },
    /// A postStart hook has returned.
    Hooked {
        container: String,
        attempt: u32,
        succeeded: bool,
    },
    /// The node ends the pod: `Evicted`, and why.
    Condemned {
        reason: &'static str,
        message: String,
    },
    /// Something the pod refers to changed: what was refused for its configuration is tried now.
    Nudge,
    /// Time has passed.
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

/// What the agent is to do. Every action is answered by events, but for `Emit` and `PreStop`.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the pod's volumes and address: `SetUp` follows.
    SetUp,
    /// Start an attempt: `Imaged`, then `Refused`, `StartFailed` or `Started` and `Exited` follow. With `beside` the attempt
    /// before it runs, and it is to take that one's place.
    Launch { container: String, attempt: u32, beside: bool },
    /// Call a launch off: `Refused` with `Cancelled` follows, or `Started` when it was too late.
    Cancel { container: String, attempt: u32 },
    /// Run the preStop hook of an attempt that is told to stop later: `Stop` waits for it.
    PreStop { container: String, attempt: u32, grace: Duration },
    /// Stop a running attempt, after its preStop hook: `Exited` follows. A later one with a shorter grace replaces it.
    Stop { container: String, attempt: u32, grace: Duration },
    /// Give a running attempt the resources of its plan: `Resized` follows.
    Resize { container: String, attempt: u32 },
    /// Record an Event object about the pod or one of its containers.
    Emit { warning: bool, reason: &'static str, message: String, container: Option<String> },
    /// Nothing of the pod runs any more: give its address and volumes back.
    Close,
    /// Delete the object with grace 0, once its last status is written.
    Delete,
    /// The object is gone and nothing runs: forget the pod.
    Forget,
}

/// Records what happened and decides what to do next. Does no IO and has no clock: `now` is the caller's, and never
/// goes backwards between calls for one pod.
pub fn step(state: &mut PodState, event: Event, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    state.record(event, now, &mut actions);
    state.advance(now, &mut actions);
    actions
}

impl PodState {
    /// A pod that this node has not seen before.
    pub fn new(plan: PodPlan, now: Timestamp) -> PodState {
        let containers = plan.containers.iter().cloned().map(Container::new).collect();
        PodState {
            plan,
            setup: Setup::NotBegun,
            setup_backoff: Duration::ZERO,
            containers,
            start_time: now,
            begun: false,
            restarting: None,
            ending: None,
            grace: None,
            outcome: None,
            rejection: None,
            closed: false,
            last_sent: None,
        }
    }

    /// A pod that this node does not take.
    pub fn rejected(plan: PodPlan, rejection: Rejection, now: Timestamp) -> PodState {
        let outcome = Some(Outcome::Failed);
        PodState { outcome, rejection: Some(rejection), ..PodState::new(plan, now) }
    }

    pub fn plan(&self) -> &PodPlan {
        &self.plan
    }

    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|container| container.plan.name == name)
    }

    pub fn start_time(&self) -> Timestamp {
        self.start_time
    }

    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    pub fn rejection(&self) -> Option<&Rejection> {
        self.rejection.as_ref()
    }

    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// All containers are ended, to begin again.
    pub fn restarts_all(&self) -> bool {
        self.restarting.is_some()
    }

    /// Volumes and address are there.
    pub fn is_set_up(&self) -> bool {
        self.setup == Setup::Ready
    }

    /// Nothing runs any more, and nothing will.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// All init containers have done their part.
    pub fn is_initialized(&self) -> bool {
        self.containers.iter().all(|container| match container.plan.role {
            Role::Init => container.succeeded(),
            Role::Sidecar => container.is_started() || self.begun,
            Role::Main | Role::Ephemeral => true,
        })
    }

    /// The phase as the kubelet derives it from the containers.
    pub fn phase(&self) -> Phase {
        match self.outcome {
            Some(Outcome::Succeeded) => return Phase::Succeeded,
            Some(Outcome::Failed) => return Phase::Failed,
            None => {}
        }
        let main = || self.containers.iter().filter(|container| container.plan.role == Role::Main);
        let waits = main().any(|container| !container.has_run() && container.run().is_none_or(|run| run.in_hook));
        if waits || (!self.is_initialized() && !self.begun) { Phase::Pending } else { Phase::Running }
    }

    /// When [`Event::Tick`] is due, if at all.
    pub fn next_wake(&self) -> Option<Timestamp> {
        if self.ending.is_some() || self.outcome.is_some() {
            // Sidecars wait for nobody beyond the grace.
            let holds = self.containers.iter().any(Container::is_held);
            return self.grace.filter(|_| holds).map(|grace| grace.until);
        }
        let deadline = self.plan.active_deadline.map(|limit| backoff::after(self.start_time, limit));
        let rest = match &self.setup {
            Setup::Failed { retry_at, .. } => Some(*retry_at),
            Setup::Ready if self.restarting.is_some() => {
                self.restarting.filter(|_| !self.containers.iter().any(Container::is_busy))
            }
            Setup::Ready => self.containers.iter().filter_map(Container::next_wake).min(),
            Setup::NotBegun | Setup::Under => None,
        };
        deadline.into_iter().chain(rest).min()
    }

    fn is_past_deadline(&self, now: Timestamp) -> bool {
        self.plan.active_deadline.is_some_and(|limit| now >= backoff::after(self.start_time, limit))
    }
}

impl Component {
    /// What an image holds, of which nothing else is known yet.
    fn of(image: &str) -> Component {
        Component { image: image.to_owned(), ..Component::default() }
    }
}

impl Container {
    fn new(plan: ContainerPlan) -> Container {
        Container {
            resources: plan.resources.clone(),
            resizing: None,
            resize_failed: None,
            component: Component::of(&plan.image),
            successor: None,
            retiring: None,
            plan,
            attempt: 0,
            life: Life::Pending,
            last: None,
            crashes: Backoff::default(),
            refusals: Backoff::default(),
        }
    }

    /// The running attempt, stopping or not.
    pub fn run(&self) -> Option<&Run> {
        match &self.life {
            Life::Running(run) | Life::Stopping { run, .. } => Some(run),
            _ => None,
        }
    }

    pub fn is_started(&self) -> bool {
        self.run().is_some_and(|run| run.started)
    }

    pub fn is_ready(&self) -> bool {
        match self.plan.role {
            Role::Init => self.succeeded(),
            Role::Ephemeral => false,
            Role::Sidecar | Role::Main => self.run().is_some_and(|run| run.ready),
        }
    }

    fn waits_to_start(&self) -> bool {
        self.plan.has_startup_probe || self.component.answers
    }

    fn waits_for_readiness(&self) -> bool {
        self.plan.has_readiness_probe || self.component.answers
    }

    /// Its start is under way and has a hook, so that those after it wait: the kubelet starts one after the other, and a
    /// start ends with its hook.
    fn holds_others_back(&self) -> bool {
        let in_start = match &self.life {
            Life::Launching { .. } => true,
            Life::Running(run) => run.in_hook,
            _ => false,
        };
        in_start && self.plan.has_post_start_hook
    }

    /// The back-off that a restart waits for.
    pub fn restart_delay(&self) -> Duration {
        self.crashes.delay()
    }

    fn has_run(&self) -> bool {
        self.last.is_some() || matches!(self.life, Life::Exited { .. })
    }

    /// Over for good, with exit code 0.
    pub fn succeeded(&self) -> bool {
        matches!(&self.life, Life::Exited { exit, restart_at: None } if exit.exit_code == 0)
    }

    /// Something of it may be running or about to.
    fn is_live(&self) -> bool {
        matches!(self.life, Life::Launching { .. } | Life::Running(_) | Life::Stopping { .. })
    }

    fn is_held(&self) -> bool {
        matches!(self.life, Life::Stopping { is_held: true, .. })
    }

    fn is_over(&self) -> bool {
        matches!(self.life, Life::Exited { restart_at: None, .. })
    }

    fn next_wake(&self) -> Option<Timestamp> {
        match &self.life {
            Life::Refused { refusal, at, .. } if refusal.reason == RefusalReason::ErrImagePull => {
                Some(backoff::after(*at, PULL_ERROR_SHOWN))
            }
            Life::Refused { retry_at, .. } => Some(*retry_at),
            Life::Exited { restart_at, .. } => *restart_at,
            Life::Running(_) => self.resize_failed.as_ref().map(|(_, retry_at)| *retry_at),
            _ => None,
        }
    }
}

impl RefusalReason {
    /// The word as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            RefusalReason::ErrImagePull => "ErrImagePull",
            RefusalReason::ImagePullBackOff => "ImagePullBackOff",
            RefusalReason::ErrImageNeverPull => "ErrImageNeverPull",
            RefusalReason::InvalidImageName => "InvalidImageName",
            RefusalReason::CreateContainerConfigError => "CreateContainerConfigError",
            RefusalReason::CreateContainerError => "CreateContainerError",
            RefusalReason::Cancelled | RefusalReason::NoServer => "ContainerCreating",
        }
    }
}

impl Phase {
    /// The word as Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Failed => "Failed",
        }
    }
}
