//! The tasks that live as long as a container runs: its postStart hook, then its probes.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, Pod, Probe, TCPSocketAction};
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::command::{self, Ended};
use super::http_get::{Answer, HttpGet, NoAnswer};
use super::shared::Shared;
use super::{grpc, hooks, unreached};
use crate::engine::{AskError, ContainerId, Question};
use crate::pod::containers;
use crate::pod::probe::{self, Timing, Tracker};
use crate::pod::state::{Event, ProbeKind};

/// How probes name themselves to who is asked.
pub(super) const USER_AGENT: &str = "kube-probe/1.36";

/// The tasks of one attempt. They end when this is dropped.
#[derive(Default)]
pub(super) struct Tasks {
    readiness: Option<AbortOnDropHandle<()>>,
    others: Vec<AbortOnDropHandle<()>>,
}

impl Tasks {
    /// The attempt is told to stop: whether it is ready is asked until it has ended, as the kubelet does, so that whoever
    /// serves by what ends (an EndpointSlice's `serving`) knows; whether it has started and is alive is nobody's matter any
    /// more.
    pub fn stopping(&mut self) {
        self.others.clear();
    }
}

/// Starts the tasks of one attempt. A component that `answers` for itself is asked where the manifest has no probe.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    address: IpAddr,
    container: &str,
    attempt: u32,
    answers: bool,
) -> Tasks {
    let Some(spec) = containers::find(pod, container).map(Cow::into_owned) else { return Tasks::default() };
    let id = ContainerId { pod_uid: pod.uid().unwrap_or_default(), container: container.to_owned(), attempt };
    let mut tasks = Tasks::default();
    // A container is not probed before its postStart hook has returned, if there is one.
    let has_hook = spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some());
    let (hooked, has_hooked) = watch::channel(!has_hook);
    if has_hook {
        let hook = post_start(shared.clone(), pod.clone(), address, id.clone(), hooked);
        tasks.others.push(AbortOnDropHandle::new(tokio::spawn(hook)));
    }
    // Liveness and readiness wait for the startup probe, if there is one.
    let (started, has_started) = watch::channel(spec.startup_probe.is_none() && !answers);
    let started = Arc::new(started);
    let probes = [
        (ProbeKind::Startup, &spec.startup_probe),
        (ProbeKind::Readiness, &spec.readiness_probe),
        (ProbeKind::Liveness, &spec.liveness_probe),
    ];
    for (kind, probe) in probes {
        let Some(probe) = probe.clone().or_else(|| answers.then(Probe::default)) else { continue };
        let worker = Worker {
            shared: shared.clone(),
            pod: pod.clone(),
            address,
            container: spec.clone(),
            id: id.clone(),
            kind,
            timing: Timing::of(&probe),
            probe,
            started: started.clone(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(worker.run(has_hooked.clone(), has_started.clone())));
        match kind {
            ProbeKind::Readiness => tasks.readiness = Some(task),
            ProbeKind::Startup | ProbeKind::Liveness => tasks.others.push(task),
        }
    }
    tasks
}

async fn post_start(shared: Arc<Shared>, pod: Arc<Pod>, address: IpAddr, id: ContainerId, hooked: watch::Sender<bool>) {
    let done = hooks::post_start(&shared, &pod, address, &id).await;
    if let Err(error) = &done {
        tracing::warn!(pod = pod.name_any(), container = id.container, error, "a postStart hook failed");
    }
    let event = Event::Hooked { container: id.container, attempt: id.attempt, succeeded: done.is_ok() };
    shared.tell_pod(&id.pod_uid, event).await;
    hooked.send_replace(done.is_ok());
}

/// That a probe found something good, with what is to be said all the same.
struct Passed {
    warning: Option<String>,
}

const PASSED: Passed = Passed { warning: None };

/// Why a probe found nothing good.
enum Problem {
    /// It was answered badly, or not in time.
    Failed(String),
    /// It could not be tried: nothing is known of the container.
    Errored(String),
    /// It was answered, but not to the end, which says no more.
    BrokenOff(String),
}

struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    address: IpAddr,
    container: Container,
    id: ContainerId,
    kind: ProbeKind,
    timing: Timing,
    probe: Probe,
    started: Arc<watch::Sender<bool>>,
}

impl Worker {
    async fn run(self, mut has_hooked: watch::Receiver<bool>, mut has_started: watch::Receiver<bool>) {
        let begun = Instant::now();
        if has_hooked.wait_for(|hooked| *hooked).await.is_err() {
            return;
        }
        if self.kind != ProbeKind::Startup && has_started.wait_for(|started| *started).await.is_err() {
            return;
        }
        tokio::time::sleep_until(begun + self.timing.initial_delay).await;
        let mut ticks = tokio::time::interval(self.timing.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tracker = Tracker::new(self.kind, &self.timing);
        loop {
            ticks.tick().await;
            let asked = Instant::now();
            let result = self.check().await;
            self.comment(&result);
            // What could not be tried counts neither way.
            let healthy = match result {
                Err(Problem::Errored(_) | Problem::BrokenOff(_)) => continue,
                result => result.is_ok(),
            };
            self.count(healthy, asked.elapsed());
            let Some(healthy) = tracker.observe(healthy) else { continue };
            let ContainerId { pod_uid, container, attempt } = self.id.clone();
            let event = Event::Probed { container, attempt, probe: self.kind, healthy };
            self.shared.tell_pod(&pod_uid, event).await;
            if self.kind == ProbeKind::Startup {
                // It has said what it had to: started, or to be stopped.
                self.started.send_replace(healthy);
                return;
            }
        }
    }

    fn count(&self, healthy: bool, took: Duration) {
        let Shared { probe_counts, pods, .. } = &*self.shared;
        probe_counts.count(pods, &self.pod, &self.container.name, self.kind, healthy, took);
    }

    /// Says in an event what is to be said of a result.
    fn comment(&self, result: &Result<Passed, Problem>) {
        let kind = kind_name(self.kind);
        let errored = "probe errored and resulted in";
        let (reason, text) = match result {
            Ok(Passed { warning: None }) => return,
            Ok(Passed { warning: Some(message) }) => ("ProbeWarning", format!("{kind} probe warning: {message}")),
            Err(Problem::Failed(message)) => ("Unhealthy", format!("{kind} probe failed: {message}")),
            Err(Problem::Errored(message)) => ("Unhealthy", format!("{kind} {errored} unknown state: {message}")),
            Err(Problem::BrokenOff(message)) => ("Unhealthy", format!("{kind} {errored} failure state: {message}")),
        };
        self.shared.recorder.pod(&self.pod, Some(&self.container.name), true, reason, text);
    }

    async fn check(&self) -> Result<Passed, Problem> {
        let passed = |()| PASSED;
        match &self.probe {
            Probe { exec: Some(action), .. } => self.execute(action).await.map(passed),
            Probe { grpc: Some(action), .. } => self.call(action).await.map(passed).map_err(Problem::Failed),
            Probe { http_get: Some(action), .. } => self.get(action).await,
            Probe { tcp_socket: Some(action), .. } => self.dial(action).await.map(passed),
            _ => self.ask_component().await.map(passed),
        }
    }

    async fn ask_component(&self) -> Result<(), Problem> {
        let question = match self.kind {
            ProbeKind::Startup => Question::Started,
            ProbeKind::Readiness => Question::Ready,
            ProbeKind::Liveness => Question::Live,
        };
        let asked = self.shared.engine.ask(&self.id, question);
        let answer = tokio::time::timeout(self.timing.timeout, asked).await;
        match answer.map_err(|_| Problem::Failed(late(self.timing.timeout)))? {
            Ok(()) => Ok(()),
            Err(AskError::No(why)) => Err(Problem::Failed(why)),
            Err(AskError::Unanswered(why)) => Err(Problem::Errored(why)),
        }
    }

    async fn call(&self, action: &GRPCAction) -> Result<(), String> {
        let port = u16::try_from(action.port).map_err(|_| format!("invalid port number: {}", action.port))?;
        let service = action.service.as_deref().unwrap_or_default();
        let address = SocketAddr::new(self.address, port);
        grpc::check(&self.shared.network, address, service, self.timing.timeout).await
    }

    async fn execute(&self, action: &ExecAction) -> Result<(), Problem> {
        let argv = probe::command(action, &self.container).map_err(|error| Problem::Errored(error.to_string()))?;
        let line = argv.join(" ");
        let timeout = self.timing.timeout;
        match tokio::time::timeout(timeout, command::run(&self.shared, &self.id, argv)).await {
            Ok(Ok(Ended { code: 0, .. })) => Ok(()),
            Ok(Ok(Ended { output, .. })) => Err(Problem::Failed(output)),
            Ok(Err(error)) => Err(Problem::Errored(error.to_string())),
            Err(_) => {
                let message = format!("command timed out: {line:?} timed out after {}s", timeout.as_secs());
                Err(Problem::Failed(message))
            }
        }
    }

    async fn dial(&self, action: &TCPSocketAction) -> Result<(), Problem> {
        let port = probe::port(&action.port, &self.container).map_err(Problem::Errored)?;
        let host = action.host.as_deref().filter(|host| !host.is_empty());
        let named = host.map_or_else(|| SocketAddr::new(self.address, port).to_string(), |host| joined(host, port));
        let dialled = async {
            let mut refused = unreached::lookup(host.unwrap_or_default());
            for address in tokio::net::lookup_host(&named).await.into_iter().flatten() {
                match self.shared.network.connect(None, address).await {
                    Ok(_) => return Ok(()),
                    Err(error) => refused = unreached::dial(address, &error),
                }
            }
            Err(refused)
        };
        let late = |_| Err(unreached::dial(&named, &ErrorKind::TimedOut.into()));
        tokio::time::timeout(self.timing.timeout, dialled).await.unwrap_or_else(late).map_err(Problem::Failed)
    }

    async fn get(&self, action: &HTTPGetAction) -> Result<Passed, Problem> {
        let request = HttpGet::of(action, &self.container, self.address, USER_AGENT).map_err(Problem::Errored)?;
        let sent = request.send(&self.shared.network, Some(self.timing.timeout)).await;
        let Answer { status, body } = sent.map_err(|error| match error {
            NoAnswer::BrokenOff(_) => Problem::BrokenOff(error.to_string()),
            NoAnswer::None { .. } | NoAnswer::InClear { .. } => Problem::Failed(error.to_string()),
        })?;
        match status.as_u16() {
            200..300 => Ok(PASSED),
            300..400 => Ok(Passed { warning: Some(format!("Probe terminated redirects, Response body: {body}")) }),
            code => Err(Problem::Failed(format!("HTTP probe failed with statuscode: {code}"))),
        }
    }
}

fn late(timeout: Duration) -> String {
    format!("no answer within {}s", timeout.as_secs())
}

/// A host and its port, as one word.
fn joined(host: &str, port: u16) -> String {
    host.parse().map_or_else(|_| format!("{host}:{port}"), |ip| SocketAddr::new(ip, port).to_string())
}

pub(super) fn kind_name(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "Startup",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Liveness => "Liveness",
    }
}
