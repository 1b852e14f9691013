//! One pod as the agent's loop holds it: its object, its state, and the tasks that work for it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8w_networking::HostPortRegistration;
use kube::ResourceExt;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::setup::{self, Made, Pass};
use super::shared::Shared;
use super::tokens::Tokens;
use super::{jobs, launch, probes, quota};
use crate::engine::ContainerId;
use crate::pod::backoff;
use crate::pod::resources;
use crate::pod::room::{Pending, Room};
use crate::pod::state::{Action, Life, PodState};
use crate::pod::status::{self, HostFacts};

/// How long the first status of a new pod waits for its containers: a pod whose image is here is Ready by then, and
/// one write says it all.
const FIRST_STATUS_LINGER: Duration = Duration::from_millis(15);

/// Wait before volumes of a running pod that could not be brought up to date are tried again.
const REFRESH_RETRY: Duration = Duration::from_secs(30);

pub(super) struct Record {
    /// The object without its `managedFields`, which take several times the room of the rest; its status is what the
    /// node's HTTP API shows.
    pub pod: Arc<Pod>,
    pub state: PodState,
    pub wake: Option<Timestamp>,
    /// When the volumes are due to be made anew (a token ends).
    pub refresh_at: Option<Timestamp>,
    /// They are being made now.
    making: bool,
    /// Something changed meanwhile.
    make_again: bool,
    tokens: Arc<Tokens>,
    address: Option<Ipv4Addr>,
    /// The node's ports that it has.
    host_ports: Vec<HostPortRegistration>,
    seen: Timestamp,
    setup: Option<AbortOnDropHandle<()>>,
    /// Whatever makes volumes, to its end.
    makers: TaskTracker,
    /// Removes the volumes.
    removing: Option<JoinHandle<()>>,
    quota: Option<AbortOnDropHandle<()>>,
    launches: HashMap<String, CancellationToken>,
    runs: HashMap<String, Run>,
    /// preStop hooks of the containers' last attempts.
    hooks: HashMap<String, Hook>,
    /// Uid of the object that shows the pod in the API: its own, or, of a static pod, its mirror's while it has one.
    shown_as: Option<String>,
    is_static: bool,
    live: PodStatus,
    live_version: u64,
    patching: bool,
    delete: Delete,
    /// The newest object, where its containers do not get what it gives them.
    wanted: Option<Box<Pod>>,
}

/// The final delete of a pod's object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delete {
    NotYet,
    Wanted,
    Sent,
}

/// A preStop hook that runs or has run.
struct Hook {
    ended: CancellationToken,
    _task: AbortOnDropHandle<()>,
}

/// What lives as long as one attempt runs.
struct Run {
    attempt: u32,
    tasks: probes::Tasks,
    /// It was told to stop.
    is_stopping: bool,
}

impl Record {
    pub fn new(
        mut pod: Pod,
        state: PodState,
        address: Option<Ipv4Addr>,
        host_ports: Vec<HostPortRegistration>,
        is_static: bool,
        now: Timestamp,
    ) -> Record {
        pod.metadata.managed_fields = None;
        let live = pod.status.clone().unwrap_or_default();
        Record {
            live_version: version(&pod),
            shown_as: pod.uid().filter(|_| !is_static),
            is_static,
            pod: Arc::new(pod),
            state,
            wake: None,
            refresh_at: None,
            making: false,
            make_again: false,
            tokens: Arc::default(),
            address,
            host_ports,
            seen: now,
            setup: None,
            makers: TaskTracker::new(),
            removing: None,
            quota: None,
            launches: HashMap::new(),
            runs: HashMap::new(),
            hooks: HashMap::new(),
            live,
            patching: false,
            delete: Delete::NotYet,
            wanted: None,
        }
    }

    /// Gives a newer object the resources that this node has for it, and says why they are not those that it wants.
    pub fn allocate(&mut self, room: &mut Room, pod: &mut Pod) -> Option<Pending> {
        self.wanted = None;
        if self.state.is_closed() || resources::are_same(&self.pod, pod) {
            return None;
        }
        let uid = pod.uid().unwrap_or_default();
        let Err(pending) = room.fits_resized(&uid, pod) else {
            room.take(&uid, pod);
            return None;
        };
        self.wanted = Some(Box::new(pod.clone()));
        resources::copy(&self.pod, pod);
        Some(pending)
    }

    /// The object that waits for resources.
    pub fn waiting(&self) -> Option<Pod> {
        self.wanted.as_deref().cloned()
    }

    /// The watch brought a newer object. Its status counts unless it is older than what was written since. Returns whether
    /// its labels or annotations changed.
    pub fn pod_changed(&mut self, mut pod: Pod) -> bool {
        let newer = version(&pod) > self.live_version;
        let status = std::mem::replace(&mut pod.status, self.pod.status.clone());
        if newer && !self.patching {
            self.live = status.unwrap_or_default();
            self.live_version = version(&pod);
        }
        if !self.is_static {
            self.shown_as = pod.uid();
        }
        pod.metadata.managed_fields = None;
        let (old, new) = (&self.pod.metadata, &pod.metadata);
        let changed = old.labels != new.labels || old.annotations != new.annotations;
        self.pod = Arc::new(pod);
        changed
    }

    /// A static pod has this mirror, whose status counts as [`Record::pod_changed`] says.
    pub fn mirrored(&mut self, mirror: &Pod) {
        let is_new = self.shown_as != mirror.uid();
        if is_new || (version(mirror) > self.live_version && !self.patching) {
            self.live = mirror.status.clone().unwrap_or_default();
            self.live_version = version(mirror);
        }
        self.shown_as = mirror.uid();
    }

    /// A static pod has no mirror that is to stay.
    pub fn unmirrored(&mut self) {
        self.shown_as = None;
    }

    pub fn status_written(&mut self, result: Result<Box<Pod>, kube::Error>) {
        self.patching = false;
        match result {
            // The answer may be about a mirror that is gone by now.
            Ok(pod) if pod.uid() != self.shown_as => {}
            Ok(pod) => {
                self.live_version = version(&pod);
                self.live = pod.status.unwrap_or_default();
            }
            // There is nothing to write to before the watch says otherwise.
            Err(error) if jobs::is_gone(&error) => self.shown_as = None,
            Err(error) => tracing::warn!(pod = self.pod.name_any(), %error, "a pod's status could not be written"),
        }
    }

    pub fn deleted(&mut self, done: bool) {
        if !done {
            self.delete = Delete::Wanted;
        }
    }

    /// Does what the state machine decided; `Close` and `Forget` belong to the loop.
    pub fn execute(&mut self, shared: &Arc<Shared>, action: Action) {
        match action {
            Action::SetUp => self.set_up(shared),
            Action::Launch { container, attempt, beside } => {
                let cancel = CancellationToken::new();
                self.launches.insert(container.clone(), cancel.clone());
                let (shared, pod, makers) = (shared.clone(), self.pod.clone(), self.makers.clone());
                let attempt = launch::Attempt { container, number: attempt, beside };
                tokio::spawn(launch::run(shared, pod, self.address, makers, attempt, cancel));
            }
            Action::Cancel { container, .. } => {
                if let Some(cancel) = self.launches.get(&container) {
                    cancel.cancel();
                }
            }
            Action::PreStop { container, attempt, grace } => self.pre_stop(shared, &self.id(container, attempt), grace),
            Action::Stop { container, attempt, grace } => {
                let id = self.id(container, attempt);
                self.pre_stop(shared, &id, grace);
                let hook = self.hooks.get(&id.container).map(|hook| hook.ended.clone());
                tokio::spawn(jobs::stop(shared.clone(), id, grace, hook));
            }
            Action::Resize { container, attempt } => {
                tokio::spawn(jobs::resize(shared.clone(), self.pod.clone(), container, attempt));
            }
            Action::Emit { warning, reason, message, container } => {
                shared.recorder.pod(&self.pod, container.as_deref(), warning, reason, message);
            }
            Action::Delete => self.delete = Delete::Wanted,
            Action::Close | Action::Forget => {}
        }
    }

    /// Begins with the end of an attempt: nobody asks any more whether it is alive, and its preStop hook runs. Who is stopped
    /// again is so sooner, and its hook runs already: it has what is left of the shorter grace.
    fn pre_stop(&mut self, shared: &Arc<Shared>, id: &ContainerId, grace: Duration) {
        let run = self.runs.get_mut(&id.container).filter(|run| run.attempt == id.attempt && !run.is_stopping);
        let Some(run) = run else { return };
        run.is_stopping = true;
        run.tasks.stopping();
        self.hooks.remove(&id.container);
        if !grace.is_zero() {
            let ended = CancellationToken::new();
            let ends = ended.clone().drop_guard();
            let hook = jobs::pre_stop(shared.clone(), self.pod.clone(), self.address(), id.clone(), grace);
            let task = tokio::spawn(async move {
                let _ends = ends;
                hook.await;
            });
            self.hooks.insert(id.container.clone(), Hook { ended, _task: AbortOnDropHandle::new(task) });
        }
    }

    /// Makes the volumes anew: something that they show changed. One such job runs at a time.
    pub fn refresh(&mut self, shared: &Arc<Shared>) {
        self.refresh_at = None;
        if self.making {
            self.make_again = true;
        } else if self.state.is_set_up() && !self.state.is_closed() {
            self.set_up(shared);
        }
    }

    /// The volumes were made, or some of them were not. What failed for a pod that runs already is tried again later, and
    /// holds up no other volume.
    pub fn volumes_made(&mut self, shared: &Arc<Shared>, made: &Made) {
        let now = Timestamp::now();
        self.making = false;
        let retry = (!made.failed.is_empty()).then(|| backoff::after(now, REFRESH_RETRY));
        let again = std::mem::take(&mut self.make_again).then_some(now);
        self.refresh_at = [made.due, retry, again].into_iter().flatten().min();
        if made.failed.is_empty() && self.quota.is_none() {
            self.quota = quota::watch(shared, &self.pod).map(|watch| AbortOnDropHandle::new(tokio::spawn(watch)));
        }
    }

    fn set_up(&mut self, shared: &Arc<Shared>) {
        self.making = true;
        let pass = if self.state.is_set_up() { Pass::Refresh } else { Pass::First };
        let tokens = self.tokens.clone();
        let job = setup::run(shared.clone(), self.pod.clone(), self.address, tokens, self.makers.clone(), pass);
        self.setup = Some(AbortOnDropHandle::new(self.makers.spawn(job)));
    }

    /// Nothing runs any more: gives everything back. Returns the address that is free now.
    pub fn close(&mut self, shared: &Arc<Shared>) -> Option<Ipv4Addr> {
        let uid = self.pod.uid().unwrap_or_default();
        self.setup = None;
        self.quota = None;
        self.refresh_at = None;
        self.runs.clear();
        self.hooks.clear();
        self.launches.clear();
        self.host_ports.clear();
        self.removing = Some(tokio::spawn(jobs::remove_volumes(shared.clone(), uid, self.makers.clone())));
        self.address.take()
    }

    /// What removes the volumes, if they are to be removed.
    pub fn take_removing(&mut self) -> Option<JoinHandle<()>> {
        self.removing.take()
    }

    /// The agent stops: what runs is to be stopped, and nothing of it is told to the API.
    pub fn abandon(&mut self) -> Vec<ContainerId> {
        self.setup = None;
        self.quota = None;
        for (_, cancel) in self.launches.drain() {
            cancel.cancel();
        }
        self.runs.clear();
        self.hooks.clear();
        let uid = self.pod.uid().unwrap_or_default();
        let mut ids = Vec::new();
        for container in self.state.containers() {
            let id = |attempt| ContainerId { pod_uid: uid.clone(), container: container.plan.name.clone(), attempt };
            ids.extend(container.running_attempts().map(id));
        }
        ids
    }

    /// Brings tasks and status up to date; returns when to look again.
    pub fn settle(&mut self, shared: &Arc<Shared>, now: Timestamp) -> Option<Timestamp> {
        self.settle_runs(shared);
        let status_due = self.settle_status(shared, now);
        [self.state.next_wake(), self.refresh_at, status_due].into_iter().flatten().min()
    }

    /// Every running container has its probes and hooks, what of them there is while it ends, and no other has.
    fn settle_runs(&mut self, shared: &Arc<Shared>) {
        let state = &self.state;
        self.runs.retain(|name, run| {
            let container = state.container(name);
            container.is_some_and(|found| found.attempt == run.attempt && found.run().is_some())
        });
        for container in state.containers() {
            let name = &container.plan.name;
            if !matches!(container.life, Life::Running(_)) || self.runs.contains_key(name) {
                continue;
            }
            let address = self.address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4);
            let tasks = probes::spawn(shared, &self.pod, address, name, container.attempt, container.component.answers);
            self.runs.insert(name.clone(), Run { attempt: container.attempt, tasks, is_stopping: false });
        }
    }

    /// Writes the status if the API does not show it, one write at a time; the delete comes after the last.
    fn settle_status(&mut self, shared: &Arc<Shared>, now: Timestamp) -> Option<Timestamp> {
        let facts = HostFacts { host_ip: shared.config.address, pod_ip: self.address.map(IpAddr::V4) };
        let own = status::build(&self.state, &self.pod, &self.live, facts, now);
        let shown_as = self.shown_as.as_deref();
        let patch = shown_as.and_then(|uid| status::patch(uid, &self.live, &own));
        self.show(shared, own);
        if self.patching {
            return None;
        }
        let Some(patch) = patch else {
            if self.delete == Delete::Wanted {
                self.delete = Delete::Sent;
                tokio::spawn(jobs::delete(shared.clone(), self.pod.clone()));
            }
            return None;
        };
        let linger = backoff::after(self.seen, FIRST_STATUS_LINGER);
        let waits = now < linger && self.state.containers().iter().all(is_beginning);
        if waits {
            return Some(linger);
        }
        self.patching = true;
        tokio::spawn(jobs::write_status(shared.clone(), self.pod.clone(), patch));
        None
    }

    /// Puts the newest status where the node's HTTP API sees it.
    fn show(&mut self, shared: &Shared, own: PodStatus) {
        let status = Some(PodStatus { qos_class: self.live.qos_class.clone(), ..own });
        if self.pod.status != status {
            self.pod = Arc::new(Pod { status, ..Pod::clone(&self.pod) });
        }
        shared.pods.insert(self.pod.clone());
    }

    fn id(&self, container: String, attempt: u32) -> ContainerId {
        ContainerId { pod_uid: self.pod.uid().unwrap_or_default(), container, attempt }
    }

    fn address(&self) -> IpAddr {
        self.address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4)
    }
}

fn is_beginning(container: &crate::pod::state::Container) -> bool {
    matches!(container.life, Life::Pending | Life::Launching { showing: None, compiling: false, .. })
}

fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}
