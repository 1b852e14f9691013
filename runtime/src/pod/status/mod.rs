//! What a pod's status says, built from its state, and the smallest patch that says it.
//!
//! Conditions of other owners (readiness gates, `DisruptionTarget`) are never written here. That a pod which is here was
//! scheduled, its node says, too: of a static pod nobody else would.

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::pod::plan::{RestartPolicy, Role};
use crate::pod::state::{Container, Ending, Exit, Life, Phase, PodState, RESTARTING};
use crate::pod::{containers, duration};

/// The conditions that this node writes, in the kubelet's order.
const OWN_CONDITIONS: [&str; 5] =
    ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Termination messages of all containers of a pod together (the kubelet's limit).
const MAX_POD_MESSAGE_BYTES: usize = 12 << 10;

const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";

/// What a status needs to know beside the pod itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostFacts {
    pub host_ip: IpAddr,
    /// The pod's address, once it has one.
    pub pod_ip: Option<IpAddr>,
}

/// Builds the part of the status that this node writes. `live` is what the API shows: transition times are kept from
/// it, and readiness gates are looked up in it.
pub fn build(
    state: &PodState,
    pod: &core::Pod,
    live: &core::PodStatus,
    facts: HostFacts,
    now: Timestamp,
) -> core::PodStatus {
    let phase = state.phase();
    if let Some(rejection) = state.rejection() {
        return core::PodStatus {
            phase: Some(phase.as_str().to_owned()),
            reason: Some(rejection.reason.clone()),
            message: Some(rejection.shown()),
            start_time: Some(seconds(state.start_time())),
            observed_generation: pod.metadata.generation,
            ..Default::default()
        };
    }
    let builder = Statuses { state, live, uid: &state.plan().uid };
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let added = spec.into_iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let added: Vec<_> = added.map(containers::ordinary).collect();
    let condemned = match state.ending() {
        Some(Ending::Condemned { reason, message }) => Some((*reason, message)),
        _ => None,
    };
    // What the pod as a whole has: until every container that runs was told of a change, what it had before.
    let whole = spec.and_then(|spec| spec.resources.as_ref());
    let had = state.containers().iter().find(|container| lags(container)).map(|container| &container.resources.pod);
    let live = live.conditions.as_deref().unwrap_or_default();
    let mut conditions = own_conditions(state, spec, live, phase);
    conditions.extend(resize_conditions(state));
    conditions.extend(restart_condition(state, phase));
    for condition in &mut conditions {
        condition.observed_generation = pod.metadata.generation;
        let before = live.iter().find(|before| before.type_ == condition.type_ && before.status == condition.status);
        let since = before.and_then(|before| before.last_transition_time.clone());
        condition.last_transition_time = since.or_else(|| Some(seconds(now)));
    }
    core::PodStatus {
        phase: Some(phase.as_str().to_owned()),
        reason: condemned.map(|(reason, _)| reason.to_owned()),
        message: condemned.map(|(_, message)| message.clone()),
        init_container_statuses: (!init.is_empty()).then(|| builder.of(init)),
        container_statuses: Some(builder.of(main)),
        ephemeral_container_statuses: (!added.is_empty()).then(|| builder.of(&added)),
        host_ip: Some(facts.host_ip.to_string()),
        host_ips: Some(vec![core::HostIP { ip: facts.host_ip.to_string() }]),
        pod_ip: facts.pod_ip.map(|ip| ip.to_string()),
        pod_ips: facts.pod_ip.map(|ip| vec![core::PodIP { ip: ip.to_string() }]),
        start_time: Some(seconds(state.start_time())),
        observed_generation: pod.metadata.generation,
        conditions: Some(conditions),
        allocated_resources: whole.and_then(|whole| whole.requests.clone()),
        resources: whole.map(|wanted| had.unwrap_or(wanted).clone()),
        ..Default::default()
    }
}

/// The `containerID` of one attempt, without the scheme.
pub fn container_id(pod_uid: &str, container: &str, attempt: u32) -> String {
    let digest = Sha256::digest(format!("{pod_uid}/{container}/{attempt}"));
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The strategic merge patch that makes a live status say what `own` says; `None` when it does already. Fields that
/// `own` does not have are not touched, and of the conditions only those that differ are named.
pub fn patch(uid: &str, live: &core::PodStatus, own: &core::PodStatus) -> Option<Value> {
    let (live, own) = (to_map(live), to_map(own));
    let mut changes = Map::new();
    for (key, value) in own {
        let before = live.get(&key);
        let change = match key.as_str() {
            "conditions" => changed_conditions(before, &value),
            _ if before == Some(&value) => None,
            _ => Some(value),
        };
        changes.extend(change.map(|change| (key, change)));
    }
    (!changes.is_empty()).then(|| json!({ "metadata": { "uid": uid }, "status": changes }))
}

fn changed_conditions(before: Option<&Value>, after: &Value) -> Option<Value> {
    let empty = Vec::new();
    let before = before.and_then(Value::as_array).unwrap_or(&empty);
    let mut changed = Vec::new();
    for condition in after.as_array().unwrap_or(&empty) {
        let old = before.iter().find(|old| old["type"] == condition["type"]);
        if old == Some(condition) {
            continue;
        }
        let mut condition = condition.clone();
        if let (Some(Value::Object(old)), Value::Object(new)) = (old, &mut condition) {
            for key in old.keys() {
                new.entry(key.clone()).or_insert(Value::Null);
            }
        }
        changed.push(condition);
    }
    for old in before.iter().filter(|old| [RESIZE_PENDING, RESIZE_IN_PROGRESS].iter().any(|own| old["type"] == *own)) {
        if !after.as_array().unwrap_or(&empty).iter().any(|new| new["type"] == old["type"]) {
            changed.push(json!({ "$patch": "delete", "type": old["type"] }));
        }
    }
    (!changed.is_empty()).then_some(Value::Array(changed))
}

fn to_map(status: &core::PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

struct Statuses<'a> {
    state: &'a PodState,
    live: &'a core::PodStatus,
    uid: &'a str,
}

impl Statuses<'_> {
    fn of(&self, specs: &[core::Container]) -> Vec<core::ContainerStatus> {
        specs.iter().filter_map(|spec| Some(self.one(spec, self.state.container(&spec.name)?))).collect()
    }

    fn one(&self, spec: &core::Container, container: &Container) -> core::ContainerStatus {
        if let Some(before) = self.ended_before(spec, container) {
            return before.clone();
        }
        let (state, last) = self.states(container);
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
        // What it has, while it runs; what it is to have, otherwise.
        let resources = spec.resources.clone();
        let resources = resources.map(|wanted| container.run().map_or(wanted, |_| container.resources.own.clone()));
        core::ContainerStatus {
            name: spec.name.clone(),
            image: container.component.image.clone(),
            image_id: container.component.image_id.clone(),
            container_id: self.container_id(container),
            ready: container.is_ready(),
            restart_count: i32::try_from(container.attempt).unwrap_or(i32::MAX),
            started: Some(container.is_started()),
            state: Some(state),
            last_state: Some(last.map(|exit| self.terminated(container, exit)).unwrap_or_default()),
            allocated_resources: requests,
            resources,
            volume_mounts: spec.volume_mounts.as_ref().map(|mounts| mounts.iter().map(mount_status).collect()),
            ..core::ContainerStatus::default()
        }
    }

    /// What the API has of an init container that ended well and runs again, as on a node that was started anew. Where that
    /// is not started again by its policy, the API keeps to it (`may not be transitioned to non-terminated state`) until it
    /// has ended again.
    fn ended_before(&self, spec: &core::Container, container: &Container) -> Option<&core::ContainerStatus> {
        let plan = self.state.plan();
        let may_leave =
            plan.may_restart_all() || (plan.restart == RestartPolicy::Always && spec.restart_policy.is_none());
        if container.plan.role != Role::Init || may_leave || matches!(container.life, Life::Exited { .. }) {
            return None;
        }
        let mut shown = self.live.init_container_statuses.iter().flatten();
        let before = shown.find(|status| status.name == spec.name)?;
        before.state.as_ref()?.terminated.as_ref().filter(|ended| ended.exit_code == 0).map(|_| before)
    }

    /// The container's state and the attempt that `lastState` shows.
    fn states<'c>(&self, container: &'c Container) -> (core::ContainerState, Option<&'c Exit>) {
        let last = container.last.as_ref();
        match &container.life {
            Life::Launching { compiling: true, .. } => {
                let message = format!("the component of image \"{}\" is being compiled", container.plan.image);
                (waiting("Compiling", Some(message)), last)
            }
            Life::Pending | Life::Launching { showing: None, .. } => (waiting(self.not_begun(), None), last),
            Life::Launching { showing: Some(refusal), .. } | Life::Refused { refusal, .. } => {
                (waiting(refusal.reason.as_str(), Some(self.bounded(&refusal.message))), last)
            }
            Life::Running(run) | Life::Stopping { run, .. } if run.in_hook => (waiting(self.not_begun(), None), last),
            Life::Running(run) | Life::Stopping { run, .. } => {
                let running = core::ContainerStateRunning { started_at: Some(seconds(run.since)) };
                (core::ContainerState { running: Some(running), ..Default::default() }, last)
            }
            Life::Exited { exit, restart_at: Some(_) } => {
                let message = format!(
                    "back-off {} restarting failed container={} pod={}",
                    duration::seconds(container.restart_delay().as_secs()),
                    container.plan.name,
                    self.state.plan().display()
                );
                (waiting("CrashLoopBackOff", Some(message)), Some(exit))
            }
            Life::Exited { exit, restart_at: None } => (self.terminated(container, exit), last),
        }
    }

    fn not_begun(&self) -> &'static str {
        let is_init = |container: &Container| matches!(container.plan.role, Role::Init | Role::Sidecar);
        let has_init = self.state.containers().iter().any(is_init);
        if has_init && !self.state.is_initialized() { "PodInitializing" } else { "ContainerCreating" }
    }

    fn terminated(&self, container: &Container, exit: &Exit) -> core::ContainerState {
        let id = exit.started_at.map(|_| self.id(container, exit.attempt));
        let terminated = core::ContainerStateTerminated {
            container_id: id,
            exit_code: exit.exit_code,
            finished_at: Some(seconds(exit.finished_at)),
            message: (!exit.message.is_empty()).then(|| self.bounded(&exit.message)),
            reason: (!exit.reason.is_empty()).then(|| exit.reason.clone()),
            signal: None,
            started_at: exit.started_at.map(seconds),
        };
        core::ContainerState { terminated: Some(terminated), ..Default::default() }
    }

    /// The containers of a pod share the room that there is for messages.
    fn bounded(&self, message: &str) -> String {
        let room = MAX_POD_MESSAGE_BYTES / self.state.containers().len().max(1);
        message[..message.floor_char_boundary(room)].to_owned()
    }

    fn container_id(&self, container: &Container) -> Option<String> {
        match (&container.life, &container.last) {
            (Life::Running(run) | Life::Stopping { run, .. }, _) if !run.in_hook => {
                Some(self.id(container, container.attempt))
            }
            (Life::Exited { exit, .. }, _) | (_, Some(exit)) => {
                exit.started_at.map(|_| self.id(container, exit.attempt))
            }
            _ => None,
        }
    }

    fn id(&self, container: &Container, attempt: u32) -> String {
        format!("wasmtime://{}", container_id(self.uid, &container.plan.name, attempt))
    }
}

fn waiting(reason: &str, message: Option<String>) -> core::ContainerState {
    let waiting = core::ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    core::ContainerState { waiting: Some(waiting), ..Default::default() }
}

fn mount_status(mount: &core::VolumeMount) -> core::VolumeMountStatus {
    let read_only = mount.read_only.unwrap_or(false);
    core::VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: read_only.then_some(true),
        recursive_read_only: read_only.then(|| "Disabled".to_owned()),
        ..Default::default()
    }
}

/// A condition's status, reason and message; the latter two may be empty.
type Verdict = (bool, &'static str, String);

const TRUE: Verdict = (true, "", String::new());
const POD_COMPLETED: &str = "PodCompleted";

fn own_conditions(
    state: &PodState,
    spec: Option<&core::PodSpec>,
    live: &[core::PodCondition],
    phase: Phase,
) -> Vec<core::PodCondition> {
    let sandbox = (state.is_set_up() && !state.is_closed(), "", String::new());
    let containers = containers_ready(state, phase);
    let ready = if containers.0 { gates(spec, live) } else { containers.clone() };
    let verdicts = [sandbox, initialized(state, phase), ready, containers, TRUE];
    OWN_CONDITIONS.iter().zip(verdicts).map(|(type_, verdict)| condition(type_, verdict)).collect()
}

/// Whether a running container has not the resources that it should.
fn lags(container: &Container) -> bool {
    matches!(container.life, Life::Running(_)) && container.resources != container.plan.resources
}

/// Those that are there only while a resize waits or is under way.
fn resize_conditions(state: &PodState) -> Vec<core::PodCondition> {
    let pending = state.plan().resize_pending.as_ref();
    let pending = pending.map(|pending| condition(RESIZE_PENDING, (true, pending.reason, pending.message.clone())));
    let lagging = state.containers().iter().find(|container| lags(container));
    let in_progress = lagging.map(|container| match &container.resize_failed {
        Some((why, _)) => condition(RESIZE_IN_PROGRESS, (true, "Error", why.clone())),
        None => condition(RESIZE_IN_PROGRESS, TRUE),
    });
    pending.into_iter().chain(in_progress).collect()
}

/// There only where some container's end may restart all of them.
fn restart_condition(state: &PodState, phase: Phase) -> Option<core::PodCondition> {
    let verdict = match phase {
        Phase::Succeeded => (false, POD_COMPLETED, String::new()),
        Phase::Failed => (false, "PodFailed", String::new()),
        _ if state.restarts_all() => {
            (true, "RestartAllContainersStarted", "container exited with restart policy rule".to_owned())
        }
        _ => (false, "", String::new()),
    };
    state.plan().may_restart_all().then(|| condition(RESTARTING, verdict))
}

fn condition(type_: &str, (status, reason, message): Verdict) -> core::PodCondition {
    core::PodCondition {
        type_: type_.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        ..Default::default()
    }
}

fn initialized(state: &PodState, phase: Phase) -> Verdict {
    if phase == Phase::Succeeded {
        return (true, POD_COMPLETED, String::new());
    }
    let missing = |container: &&Container| match container.plan.role {
        Role::Init => !container.succeeded(),
        Role::Sidecar => !container.is_started() && !state.is_initialized(),
        Role::Main | Role::Ephemeral => false,
    };
    match names(state, missing) {
        None => TRUE,
        Some(names) => (false, "ContainersNotInitialized", format!("containers with incomplete status: [{names}]")),
    }
}

fn containers_ready(state: &PodState, phase: Phase) -> Verdict {
    match phase {
        Phase::Succeeded => return (false, POD_COMPLETED, String::new()),
        Phase::Failed => return (false, "PodFailed", String::new()),
        Phase::Pending | Phase::Running => {}
    }
    let counts = |container: &Container| matches!(container.plan.role, Role::Sidecar | Role::Main);
    match names(state, |container| counts(container) && !container.is_ready()) {
        None => TRUE,
        Some(names) => (false, "ContainersNotReady", format!("containers with unready status: [{names}]")),
    }
}

/// The names of some containers, separated by spaces; `None` when there are none.
fn names(state: &PodState, which: impl Fn(&&Container) -> bool) -> Option<String> {
    let names: Vec<&str> = state.containers().iter().filter(which).map(|c| c.plan.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

fn gates(spec: Option<&core::PodSpec>, conditions: &[core::PodCondition]) -> Verdict {
    let mut unmet = Vec::new();
    for gate in spec.into_iter().flat_map(|spec| spec.readiness_gates.iter().flatten()) {
        let name = &gate.condition_type;
        match conditions.iter().find(|condition| &condition.type_ == name) {
            None => unmet.push(format!("corresponding condition of pod readiness gate \"{name}\" does not exist.")),
            Some(condition) if condition.status != "True" => {
                let status = &condition.status;
                unmet.push(format!("the status of pod readiness gate \"{name}\" is not \"True\", but {status}"));
            }
            Some(_) => {}
        }
    }
    if unmet.is_empty() { TRUE } else { (false, "ReadinessGatesNotReady", unmet.join(", ")) }
}
