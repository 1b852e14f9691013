//! What a pod's status says, built from its state, and the smallest patch that says it.
//!
//! Conditions of other owners (`PodScheduled`, readiness gates, `DisruptionTarget`) are never written here.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::plan::Role;
use super::state::{Container, Ending, Exit, Life, Phase, PodState};

/// The conditions that this node writes, in the kubelet's order.
const OWN_CONDITIONS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady"];

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
    let builder = Statuses { state, uid: &state.plan().uid };
    let spec = pod.spec.as_ref();
    let init = spec.and_then(|spec| spec.init_containers.as_deref()).unwrap_or_default();
    let main = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let condemned = match state.ending() {
        Some(Ending::Condemned { reason, message }) => Some((*reason, message)),
        _ => None,
    };
    let live = live.conditions.as_deref().unwrap_or_default();
    let mut conditions = own_conditions(state, spec, live, phase);
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
        host_ip: Some(facts.host_ip.to_string()),
        host_ips: Some(vec![core::HostIP { ip: facts.host_ip.to_string() }]),
        pod_ip: facts.pod_ip.map(|ip| ip.to_string()),
        pod_ips: facts.pod_ip.map(|ip| vec![core::PodIP { ip: ip.to_string() }]),
        start_time: Some(seconds(state.start_time())),
        observed_generation: pod.metadata.generation,
        conditions: Some(conditions),
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
    uid: &'a str,
}

impl Statuses<'_> {
    fn of(&self, specs: &[core::Container]) -> Vec<core::ContainerStatus> {
        specs.iter().filter_map(|spec| Some(self.one(spec, self.state.container(&spec.name)?))).collect()
    }

    fn one(&self, spec: &core::Container, container: &Container) -> core::ContainerStatus {
        let (state, last) = self.states(container);
        let requests = spec.resources.as_ref().and_then(|resources| resources.requests.clone());
        core::ContainerStatus {
            name: spec.name.clone(),
            image: container.plan.image.clone(),
            image_id: container.image_id.clone(),
            container_id: self.container_id(container),
            ready: container.is_ready(),
            restart_count: i32::try_from(container.attempt).unwrap_or(i32::MAX),
            started: Some(container.is_started()),
            state: Some(state),
            last_state: Some(last.map(|exit| self.terminated(container, exit)).unwrap_or_default()),
            allocated_resources: requests,
            resources: spec.resources.clone(),
            volume_mounts: spec.volume_mounts.as_ref().map(|mounts| mounts.iter().map(mount_status).collect()),
            ..core::ContainerStatus::default()
        }
    }

    /// The container's state and the attempt that `lastState` shows.
    fn states<'c>(&self, container: &'c Container) -> (core::ContainerState, Option<&'c Exit>) {
        let last = container.last.as_ref();
        match &container.life {
            Life::Pending | Life::Launching { showing: None, .. } => (waiting(self.not_begun(), None), last),
            Life::Launching { showing: Some(refusal), .. } | Life::Refused { refusal, .. } => {
                (waiting(refusal.reason.as_str(), Some(refusal.message.clone())), last)
            }
            Life::Running(run) | Life::Stopping { run, .. } => {
                let running = core::ContainerStateRunning { started_at: Some(seconds(run.since)) };
                (core::ContainerState { running: Some(running), ..Default::default() }, last)
            }
            Life::Exited { exit, restart_at: Some(_) } => {
                let message = format!(
                    "back-off {} restarting failed container={} pod={}",
                    go_duration(container.restart_delay().as_secs()),
                    container.plan.name,
                    self.state.plan().display()
                );
                (waiting("CrashLoopBackOff", Some(message)), Some(exit))
            }
            Life::Exited { exit, restart_at: None } => (self.terminated(container, exit), last),
        }
    }

    fn not_begun(&self) -> &'static str {
        let has_init = self.state.containers().iter().any(|container| container.plan.role != Role::Main);
        if has_init && !self.state.is_initialized() { "PodInitializing" } else { "ContainerCreating" }
    }

    fn terminated(&self, container: &Container, exit: &Exit) -> core::ContainerState {
        let id = exit.started_at.map(|_| self.id(container, exit.attempt));
        let terminated = core::ContainerStateTerminated {
            container_id: id,
            exit_code: exit.exit_code,
            finished_at: Some(seconds(exit.finished_at)),
            message: (!exit.message.is_empty()).then(|| exit.message.clone()),
            reason: (!exit.reason.is_empty()).then(|| exit.reason.clone()),
            signal: None,
            started_at: exit.started_at.map(seconds),
        };
        core::ContainerState { terminated: Some(terminated), ..Default::default() }
    }

    fn container_id(&self, container: &Container) -> Option<String> {
        match (&container.life, &container.last) {
            (Life::Running(_) | Life::Stopping { .. }, _) => Some(self.id(container, container.attempt)),
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

/// `5m0s`, `2m40s`, `10s`: as Go prints a duration.
fn go_duration(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, rest) => format!("{rest}s"),
        (minutes, rest) => format!("{minutes}m{rest}s"),
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
    let verdicts = [sandbox, initialized(state, phase), ready, containers];
    OWN_CONDITIONS.iter().zip(verdicts).map(|(type_, verdict)| condition(type_, verdict)).collect()
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
        Role::Main => false,
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
    match names(state, |container| container.plan.role != Role::Init && !container.is_ready()) {
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use expect_test::expect;

    use super::super::plan::PodPlan;
    use super::super::state::{Event, Refusal, RefusalReason, step};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn pod() -> core::Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "ns", "uid": "u", "generation": 2 },
            "spec": { "restartPolicy": "Always", "readinessGates": [{ "conditionType": "example.com/gate" }],
                "containers": [{ "name": "c", "image": "localhost/hello", "volumeMounts": [
                    { "name": "v", "mountPath": "/v", "readOnly": true }] }] }
        }))
        .unwrap()
    }

    fn built(events: Vec<Event>, live: &core::PodStatus) -> core::PodStatus {
        let pod = pod();
        let mut state = PodState::new(PodPlan::of(&pod), at(0));
        for (index, event) in events.into_iter().enumerate() {
            step(&mut state, event, at(index as i64));
        }
        let host_ip = Ipv4Addr::new(10, 0, 0, 1).into();
        let facts = HostFacts { host_ip, pod_ip: Some(Ipv4Addr::new(10, 64, 0, 2).into()) };
        build(&state, &pod, live, facts, at(60))
    }

    fn started() -> Vec<Event> {
        let (container, attempt) = ("c".to_owned(), 0);
        let image_id = "localhost/hello@sha256:00".to_owned();
        vec![
            Event::Tick,
            Event::SetUp(Ok(())),
            Event::Imaged { container: container.clone(), attempt, image_id },
            Event::Started { container, attempt },
        ]
    }

    fn exited(attempt: u32) -> Event {
        Event::Exited {
            container: "c".to_owned(),
            attempt,
            exit_code: 1,
            reason: "Error".to_owned(),
            message: "trap".to_owned(),
        }
    }

    fn shown(status: &core::PodStatus) -> String {
        serde_json::to_string_pretty(status).unwrap() + "\n"
    }

    #[test]
    fn a_running_pod_with_an_open_gate() {
        expect![[r#"
            {
              "conditions": [
                {
                  "lastTransitionTime": "2023-11-14T22:14:20Z",
                  "observedGeneration": 2,
                  "status": "True",
                  "type": "PodReadyToStartContainers"
                },
                {
                  "lastTransitionTime": "2023-11-14T22:14:20Z",
                  "observedGeneration": 2,
                  "status": "True",
                  "type": "Initialized"
                },
                {
                  "lastTransitionTime": "2023-11-14T22:14:20Z",
                  "message": "corresponding condition of pod readiness gate \"example.com/gate\" does not exist.",
                  "observedGeneration": 2,
                  "reason": "ReadinessGatesNotReady",
                  "status": "False",
                  "type": "Ready"
                },
                {
                  "lastTransitionTime": "2023-11-14T22:14:20Z",
                  "observedGeneration": 2,
                  "status": "True",
                  "type": "ContainersReady"
                }
              ],
              "containerStatuses": [
                {
                  "containerID": "wasmtime://8afcf82a54e64211f258aa52da5e5df27b1b3264a14518f94af948a50bf516b3",
                  "image": "localhost/hello",
                  "imageID": "localhost/hello@sha256:00",
                  "lastState": {},
                  "name": "c",
                  "ready": true,
                  "restartCount": 0,
                  "started": true,
                  "state": {
                    "running": {
                      "startedAt": "2023-11-14T22:13:23Z"
                    }
                  },
                  "volumeMounts": [
                    {
                      "mountPath": "/v",
                      "name": "v",
                      "readOnly": true,
                      "recursiveReadOnly": "Disabled"
                    }
                  ]
                }
              ],
              "hostIP": "10.0.0.1",
              "hostIPs": [
                {
                  "ip": "10.0.0.1"
                }
              ],
              "observedGeneration": 2,
              "phase": "Running",
              "podIP": "10.64.0.2",
              "podIPs": [
                {
                  "ip": "10.64.0.2"
                }
              ],
              "startTime": "2023-11-14T22:13:20Z"
            }
        "#]]
        .assert_eq(&shown(&built(started(), &core::PodStatus::default())));
    }

    #[test]
    fn a_crash_loop_shows_the_last_exit() {
        let mut events = started();
        let attempt = 1;
        events.extend([exited(0), Event::Started { container: "c".to_owned(), attempt }, exited(1)]);
        let status = built(events, &core::PodStatus::default());
        let container = &status.container_statuses.unwrap()[0];
        let shown = json!({ "state": container.state, "lastState": container.last_state,
            "restartCount": container.restart_count, "phase": status.phase });
        expect![[r#"
            {
              "lastState": {
                "terminated": {
                  "containerID": "wasmtime://a50d14a07c376fd3f819f5fe463fde614a2e15ac612aa46d7bea7cacb2533e08",
                  "exitCode": 1,
                  "finishedAt": "2023-11-14T22:13:26Z",
                  "message": "trap",
                  "reason": "Error",
                  "startedAt": "2023-11-14T22:13:25Z"
                }
              },
              "phase": "Running",
              "restartCount": 1,
              "state": {
                "waiting": {
                  "message": "back-off 10s restarting failed container=c pod=p_ns(u)",
                  "reason": "CrashLoopBackOff"
                }
              }
            }
        "#]]
        .assert_eq(&(serde_json::to_string_pretty(&shown).unwrap() + "\n"));
    }

    #[test]
    fn what_waits_says_why() {
        let refusal = Refusal { reason: RefusalReason::CreateContainerConfigError, message: "m".to_owned() };
        let refused = Event::Refused { container: "c".to_owned(), attempt: 0, refusal };
        let status = built(vec![Event::Tick, Event::SetUp(Ok(())), refused], &core::PodStatus::default());
        let state = serde_json::to_string(&status.container_statuses.unwrap()[0].state).unwrap();
        expect![[r#"{"waiting":{"message":"m","reason":"CreateContainerConfigError"}}"#]].assert_eq(&state);
    }

    #[test]
    fn patches_name_only_what_changed_and_only_what_is_ours() {
        let beginning = built(vec![Event::Tick], &core::PodStatus::default());
        let mut live = beginning.clone();
        live.qos_class = Some("BestEffort".to_owned());
        let gate = core::PodCondition {
            type_: "example.com/gate".to_owned(),
            status: "True".to_owned(),
            ..Default::default()
        };
        live.conditions.as_mut().unwrap().push(gate.clone());
        let running = built(started(), &live);
        let patch = patch("u", &live, &running).unwrap();
        let status = patch["status"].as_object().unwrap();
        let conditions: Vec<&str> =
            status["conditions"].as_array().unwrap().iter().map(|c| c["type"].as_str().unwrap()).collect();
        let keys: Vec<&String> = status.keys().collect();
        expect![[
            r#"["conditions", "containerStatuses", "phase"] ["PodReadyToStartContainers", "Ready", "ContainersReady"]"#
        ]]
        .assert_eq(&format!("{keys:?} {conditions:?}"));
        let ready = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(
            (&ready["status"], &ready["reason"], &ready["message"]),
            (&json!("True"), &Value::Null, &Value::Null)
        );
        let mut written = running;
        written.conditions.as_mut().unwrap().push(gate);
        assert_eq!(super::patch("u", &written, &built(started(), &written)), None);
    }

    #[test]
    fn container_ids_differ_by_attempt() {
        assert_eq!(container_id("u", "c", 0).len(), 64);
        assert_ne!(container_id("u", "c", 0), container_id("u", "c", 1));
    }
}
