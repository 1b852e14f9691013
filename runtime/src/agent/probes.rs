//! The tasks that live as long as a container runs: its postStart hook, then its probes.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, Pod, Probe, TCPSocketAction};
use k8w_networking::{Body, Network};
use kube::ResourceExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::command::{self, Ended};
use super::shared::Shared;
use super::{grpc, hooks, jobs};
use crate::engine::{AskError, ContainerId, Question};
use crate::pod::containers;
use crate::pod::probe::{self, Timing, Tracker};
use crate::pod::state::{Event, ProbeKind};

/// Of an answer to a probe, this much is read; the rest is not waited for.
const MAX_ANSWER_BYTES: usize = 10 << 10;

/// How probes name themselves to who is asked.
pub(super) const USER_AGENT: &str = "kube-probe/1.36";

/// Starts the tasks of one attempt. They end when their handles are dropped. A component that `answers` for itself is asked
/// where the manifest has no probe.
pub(super) fn spawn(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    address: IpAddr,
    container: &str,
    attempt: u32,
    answers: bool,
) -> Vec<AbortOnDropHandle<()>> {
    let Some(spec) = containers::find(pod, container).map(Cow::into_owned) else { return Vec::new() };
    let id = ContainerId { pod_uid: pod.uid().unwrap_or_default(), container: container.to_owned(), attempt };
    let mut tasks = Vec::new();
    if spec.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some()) {
        tasks.push(AbortOnDropHandle::new(tokio::spawn(post_start(shared.clone(), pod.clone(), address, id.clone()))));
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
        tasks.push(AbortOnDropHandle::new(tokio::spawn(worker.run(has_started.clone()))));
    }
    tasks
}

async fn post_start(shared: Arc<Shared>, pod: Arc<Pod>, address: IpAddr, id: ContainerId) {
    if let Err(error) = hooks::post_start(&shared, &pod, address, &id).await {
        jobs::hook_failed(&shared, id, error).await;
    }
}

/// Why a probe found nothing good.
enum Problem {
    /// It was answered badly, or not in time.
    Failed(String),
    /// It could not be tried: nothing is known of the container.
    Errored(String),
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
    async fn run(self, mut has_started: watch::Receiver<bool>) {
        let begun = Instant::now();
        if self.kind != ProbeKind::Startup && has_started.wait_for(|started| *started).await.is_err() {
            return;
        }
        tokio::time::sleep_until(begun + self.timing.initial_delay).await;
        let mut ticks = tokio::time::interval(self.timing.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tracker = Tracker::new(self.kind, &self.timing);
        loop {
            ticks.tick().await;
            let result = self.check().await;
            if let Err(problem) = &result {
                self.complain(problem);
            }
            // What could not be tried counts neither way.
            let healthy = match result {
                Err(Problem::Errored(_)) => continue,
                result => result.is_ok(),
            };
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

    fn complain(&self, problem: &Problem) {
        let kind = kind_name(self.kind);
        let text = match problem {
            Problem::Failed(message) => format!("{kind} probe failed: {message}"),
            Problem::Errored(message) => format!("{kind} probe errored and resulted in unknown state: {message}"),
        };
        self.shared.recorder.pod(&self.pod, Some(&self.container.name), true, "Unhealthy", text);
    }

    async fn check(&self) -> Result<(), Problem> {
        match &self.probe {
            Probe { exec: Some(action), .. } => self.execute(action).await,
            Probe { grpc: Some(action), .. } => self.call(action).await.map_err(Problem::Failed),
            Probe { http_get: Some(action), .. } => {
                self.in_time(http_get(&self.shared.network, self.address, &self.container, action)).await
            }
            Probe { tcp_socket: Some(action), .. } => self.in_time(self.dial(action)).await,
            _ => self.ask_component().await,
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
        match answer.map_err(|_| Problem::Failed(timeout_message(self.timing.timeout)))? {
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
        let argv = probe::command(action, &self.container);
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

    async fn dial(&self, action: &TCPSocketAction) -> Result<(), String> {
        let port = probe::port(&action.port, &self.container)?;
        let host = action.host.as_deref().filter(|host| !host.is_empty());
        let ip = host.map_or(Ok(self.address), str::parse).map_err(|_| "host is not an address".to_owned())?;
        let address = SocketAddr::new(ip, port);
        let dialled = self.shared.network.connect(None, address).await;
        dialled.map(drop).map_err(|error| format!("dial tcp {address}: {error}"))
    }

    async fn in_time(&self, check: impl Future<Output = Result<(), String>>) -> Result<(), Problem> {
        let answer = tokio::time::timeout(self.timing.timeout, check).await;
        answer.unwrap_or_else(|_| Err(timeout_message(self.timing.timeout))).map_err(Problem::Failed)
    }
}

fn timeout_message(timeout: Duration) -> String {
    format!("no answer within {}s (Client.Timeout exceeded while awaiting headers)", timeout.as_secs())
}

fn kind_name(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Startup => "Startup",
        ProbeKind::Readiness => "Readiness",
        ProbeKind::Liveness => "Liveness",
    }
}

/// Asks a container over HTTP: through the network's tables, so that a component of this node is called in process.
///
/// # Errors
/// When it cannot be asked, or answers with a status outside 200..400, in the kubelet's words.
pub(super) async fn http_get(
    network: &Network,
    address: IpAddr,
    container: &Container,
    action: &HTTPGetAction,
) -> Result<(), String> {
    let port = probe::port(&action.port, container)?;
    let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
    let host = action.host.as_deref().filter(|host| !host.is_empty());
    let host = host.map_or_else(|| SocketAddr::new(address, port).to_string(), |host| format!("{host}:{port}"));
    let path = action.path.as_deref().unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let uri = format!("{scheme}://{host}{slash}{path}");
    let mut request = http::Request::get(&uri).header(http::header::USER_AGENT, USER_AGENT);
    request = request.header(http::header::ACCEPT, "*/*");
    let mut has_host = false;
    for header in action.http_headers.iter().flatten() {
        has_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(&header.name, &header.value);
    }
    if !has_host {
        request = request.header(http::header::HOST, &host);
    }
    let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request: http::Request<Body> = request.body(empty).map_err(|error| error.to_string())?;
    let answer = network.send(None, request).await.map_err(|error| format!("Get \"{uri}\": {error}"))?;
    let status = answer.status();
    drain(answer.into_body()).await;
    if (200..400).contains(&status.as_u16()) {
        Ok(())
    } else {
        Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
    }
}

/// Reads a bounded part of the answer, so that a connection can be used again and a component ends well.
async fn drain(mut body: Body) {
    let mut left = MAX_ANSWER_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
