//! Whole lives of pods as event lists and the actions they lead to.

mod ending;
mod properties;
mod resize;
mod restart_all;
mod restore;
mod succession;

use std::time::Duration;

use expect_test::{Expect, expect};
use jiff::Timestamp;
use k8s_openapi::api::core::v1 as core;
use serde_json::{Value, json};

use super::*;

fn at(second: f64) -> Timestamp {
    Timestamp::from_millisecond(1_700_000_000_000 + (second * 1_000.0) as i64).unwrap()
}

fn plan(spec: Value) -> PodPlan {
    let pod: core::Pod = serde_json::from_value(json!({
        "metadata": { "name": "p", "namespace": "ns", "uid": "u" }, "spec": spec
    }))
    .unwrap();
    PodPlan::of(&pod)
}

fn one(policy: &str) -> PodPlan {
    plan(json!({ "restartPolicy": policy, "containers": [{ "name": "c", "image": "i" }] }))
}

/// A pod under test, with everything that happened to it written down.
struct Life {
    state: PodState,
    story: String,
}

impl Life {
    fn new(plan: PodPlan) -> Life {
        Life { state: PodState::new(plan, at(0.0)), story: String::new() }
    }

    /// A pod whose volumes are there. Its story begins afterwards.
    fn set_up(plan: PodPlan) -> Life {
        let mut life = Life::new(plan);
        life.then(0.0, Event::Tick).then(0.0, Event::SetUp(Ok(()))).begin();
        life
    }

    /// A pod whose container `c` runs since the first second. Its story begins afterwards.
    fn running(plan: PodPlan) -> Life {
        let mut life = Life::set_up(plan);
        life.started(1.0, "c").begin();
        life
    }

    fn begin(&mut self) {
        self.story.clear();
    }

    fn then(&mut self, second: f64, event: Event) -> &mut Life {
        let actions = step(&mut self.state, event.clone(), at(second));
        self.story += &format!("{second}s {}\n", told(&event));
        for action in &actions {
            self.story += &format!("  {}\n", shown(action));
        }
        let lives: Vec<String> = self.state.containers().iter().map(lived).collect();
        self.story += &format!("  => {} {}\n", self.state.phase().as_str(), lives.join(" "));
        self
    }

    fn started(&mut self, second: f64, container: &str) -> &mut Life {
        let attempt = self.state.container(container).unwrap().attempt;
        self.then(second, Event::Started { container: container.to_owned(), attempt })
    }

    fn exited(&mut self, second: f64, container: &str, exit_code: i32) -> &mut Life {
        let attempt = self.state.container(container).unwrap().attempt;
        let reason = if exit_code == 0 { "Completed" } else { "Error" }.to_owned();
        let container = container.to_owned();
        self.then(second, Event::Exited { container, attempt, exit_code, reason, message: String::new() })
    }

    fn refused(&mut self, second: f64, container: &str, reason: RefusalReason) -> &mut Life {
        let attempt = self.state.container(container).unwrap().attempt;
        let refusal = Refusal::new(reason, "why");
        self.then(second, Event::Refused { container: container.to_owned(), attempt, refusal })
    }

    fn deleted(&mut self, second: f64, grace: u64) -> &mut Life {
        let plan = PodPlan { deletion_grace: Some(Duration::from_secs(grace)), ..self.state.plan().clone() };
        self.then(second, Event::Plan(plan))
    }

    fn check(&self, expected: Expect) {
        expected.assert_eq(&self.story);
    }
}

fn told(event: &Event) -> String {
    match event {
        Event::Plan(plan) => format!("plan (deletion grace {:?})", plan.deletion_grace),
        Event::Refused { container, refusal, .. } => format!("{container} refused: {}", refusal.reason.as_str()),
        Event::Started { container, attempt } => format!("{container}/{attempt} started"),
        Event::Exited { container, attempt, exit_code, .. } => format!("{container}/{attempt} exited {exit_code}"),
        Event::Probed { container, probe, healthy, .. } => format!("{container} {probe:?} {healthy}"),
        other => format!("{other:?}"),
    }
}

fn shown(action: &Action) -> String {
    match action {
        Action::Emit { reason, message, .. } => format!("event {reason}: {message}"),
        Action::Launch { container, attempt, beside: false } => format!("launch {container}/{attempt}"),
        Action::Launch { container, attempt, beside: true } => format!("launch {container}/{attempt} beside"),
        Action::Cancel { container, attempt } => format!("cancel {container}/{attempt}"),
        Action::Stop { container, attempt, grace } => format!("stop {container}/{attempt} within {grace:?}"),
        Action::PreStop { container, attempt, grace } => format!("pre-stop {container}/{attempt} within {grace:?}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn lived(container: &Container) -> String {
    let life = match &container.life {
        super::Life::Pending => "pending".to_owned(),
        super::Life::Launching { .. } => "launching".to_owned(),
        super::Life::Refused { refusal, .. } => refusal.reason.as_str().to_owned(),
        super::Life::Running(run) if run.ready => "ready".to_owned(),
        super::Life::Running(_) => "running".to_owned(),
        super::Life::Stopping { is_held: true, .. } => "held".to_owned(),
        super::Life::Stopping { .. } => "stopping".to_owned(),
        super::Life::Exited { exit, restart_at: None } => format!("exited({})", exit.exit_code),
        super::Life::Exited { .. } => "crash-loop".to_owned(),
    };
    format!("{}/{}={life}", container.plan.name, container.attempt)
}

fn hooked(life: &mut Life, second: f64, succeeded: bool) {
    life.then(second, Event::Hooked { container: "a".to_owned(), attempt: 0, succeeded });
}

#[test]
fn a_start_ends_with_its_hook() {
    let hook = json!({ "postStart": { "exec": { "command": ["x"] } } });
    let containers = json!([{ "name": "a", "image": "i", "lifecycle": hook }, { "name": "b", "image": "i" }]);
    let mut life = Life::set_up(plan(json!({ "containers": containers })));
    life.started(1.0, "a");
    hooked(&mut life, 2.0, true);
    life.started(3.0, "b");
    life.check(expect![[r#"
        1s a/0 started
          event Created: Container created
          event Started: Container started
          => Pending a/0=running b/0=pending
        2s Hooked { container: "a", attempt: 0, succeeded: true }
          launch b/0
          => Pending a/0=ready b/0=launching
        3s b/0 started
          event Created: Container created
          event Started: Container started
          => Running a/0=ready b/0=ready
    "#]]);
    let mut life = Life::set_up(plan(json!({ "containers": containers })));
    life.started(1.0, "a");
    hooked(&mut life, 2.0, false);
    life.check(expect![[r#"
        1s a/0 started
          event Created: Container created
          event Started: Container started
          => Pending a/0=running b/0=pending
        2s Hooked { container: "a", attempt: 0, succeeded: false }
          event FailedPostStartHook: PostStartHook failed
          event Killing: FailedPostStartHook
          stop a/0 within 30s
          launch b/0
          => Pending a/0=stopping b/0=launching
    "#]]);
}

#[test]
fn a_container_whose_image_is_missing_holds_nobody_back() {
    let hook = json!({ "postStart": { "exec": { "command": ["x"] } } });
    let containers = json!([{ "name": "a", "image": "i", "lifecycle": hook }, { "name": "b", "image": "i" }]);
    let mut life = Life::set_up(plan(json!({ "containers": containers })));
    life.refused(1.0, "a", RefusalReason::ErrImagePull).started(2.0, "b");
    life.check(expect![[r#"
        1s a refused: ErrImagePull
          event Failed: Failed to pull image "i": why
          event Failed: Error: ErrImagePull
          launch b/0
          => Pending a/0=ErrImagePull b/0=launching
        2s b/0 started
          event Created: Container created
          event Started: Container started
          => Pending a/0=ErrImagePull b/0=ready
    "#]]);
}

#[test]
fn a_probe_may_have_a_grace_of_its_own() {
    let probe = |grace: Value| json!({ "tcpSocket": { "port": 1 }, "terminationGracePeriodSeconds": grace });
    let spec = json!({ "containers": [{ "name": "c", "image": "i",
        "startupProbe": probe(json!(2)), "livenessProbe": probe(json!(3)) }] });
    let stopped = |spec: &Value, probe| {
        let mut life = Life::running(plan(spec.clone()));
        life.then(2.0, Event::Probed { container: "c".to_owned(), attempt: 0, probe, healthy: false });
        life.story.lines().find_map(|line| line.trim().strip_prefix("stop c/0 within ").map(str::to_owned)).unwrap()
    };
    assert_eq!([ProbeKind::Startup, ProbeKind::Liveness].map(|probe| stopped(&spec, probe)), ["2s", "3s"]);
    let without = json!({ "containers": [{ "name": "c", "image": "i", "livenessProbe": probe(Value::Null) }] });
    assert_eq!(stopped(&without, ProbeKind::Liveness), "30s");
}

#[test]
fn a_server_starts_and_is_deleted() {
    let mut life = Life::new(one("Always"));
    life.then(0.0, Event::Tick).then(0.1, Event::SetUp(Ok(()))).started(0.2, "c").deleted(5.0, 30).deleted(6.0, 2);
    life.exited(7.0, "c", 137);
    life.then(7.1, Event::Removed);
    life.check(expect![[r#"
        0s Tick
          setup
          => Pending c/0=pending
        0.1s SetUp(Ok(()))
          launch c/0
          => Pending c/0=launching
        0.2s c/0 started
          event Created: Container created
          event Started: Container started
          => Running c/0=ready
        5s plan (deletion grace Some(30s))
          event Killing: Stopping container c
          stop c/0 within 30s
          => Running c/0=stopping
        6s plan (deletion grace Some(2s))
          stop c/0 within 2s
          => Running c/0=stopping
        7s c/0 exited 137
          close
          delete
          => Failed c/0=exited(137)
        7.1s Removed
          forget
          => Failed c/0=exited(137)
    "#]]);
}

#[test]
fn a_crashing_container_backs_off() {
    let mut life = Life::running(one("Always"));
    life.exited(2.0, "c", 1).started(2.1, "c").exited(3.0, "c", 1);
    assert_eq!(life.state.next_wake(), Some(at(13.0)));
    life.then(12.9, Event::Tick).then(13.0, Event::Tick);
    life.check(expect![[r#"
        2s c/0 exited 1
          launch c/1
          => Running c/1=launching
        2.1s c/1 started
          event Created: Container created
          event Started: Container started
          => Running c/1=ready
        3s c/1 exited 1
          event BackOff: Back-off restarting failed container c in pod p_ns(u)
          => Running c/1=crash-loop
        12.9s Tick
          => Running c/1=crash-loop
        13s Tick
          launch c/2
          => Running c/2=launching
    "#]]);
}

#[test]
fn policies_decide_what_an_exit_means() {
    let outcome = |policy: &str, exit_code: i32| {
        let mut life = Life::running(one(policy));
        life.exited(2.0, "c", exit_code);
        life.state.phase()
    };
    assert_eq!(outcome("Never", 0), Phase::Succeeded);
    assert_eq!(outcome("Never", 1), Phase::Failed);
    assert_eq!(outcome("OnFailure", 0), Phase::Succeeded);
    assert_eq!(outcome("OnFailure", 1), Phase::Running);
    assert_eq!(outcome("Always", 0), Phase::Running);
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let mut life = Life::set_up(plan(json!({
        "restartPolicy": "Never",
        "initContainers": [
            { "name": "i", "image": "i" }, { "name": "s", "image": "s", "restartPolicy": "Always",
              "startupProbe": { "httpGet": { "port": 80 } } }
        ],
        "containers": [{ "name": "c", "image": "i" }]
    })));
    life.started(1.0, "i").exited(2.0, "i", 0).started(3.0, "s");
    let container = "s".to_owned();
    life.then(4.0, Event::Probed { container, attempt: 0, probe: ProbeKind::Startup, healthy: true });
    life.started(5.0, "c").exited(6.0, "c", 0).exited(7.0, "s", 143);
    life.check(expect![[r#"
        1s i/0 started
          event Created: Container created
          event Started: Container started
          => Pending i/0=ready s/0=pending c/0=pending
        2s i/0 exited 0
          launch s/0
          => Pending i/0=exited(0) s/0=launching c/0=pending
        3s s/0 started
          event Created: Container created
          event Started: Container started
          => Pending i/0=exited(0) s/0=running c/0=pending
        4s s Startup true
          launch c/0
          => Pending i/0=exited(0) s/0=ready c/0=launching
        5s c/0 started
          event Created: Container created
          event Started: Container started
          => Running i/0=exited(0) s/0=ready c/0=ready
        6s c/0 exited 0
          event Killing: Stopping container s
          stop s/0 within 30s
          => Running i/0=exited(0) s/0=stopping c/0=exited(0)
        7s s/0 exited 143
          close
          => Succeeded i/0=exited(0) s/0=exited(143) c/0=exited(0)
    "#]]);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let mut life = Life::set_up(plan(json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "i", "image": "i" }], "containers": [{ "name": "c", "image": "i" }]
    })));
    life.started(1.0, "i").exited(2.0, "i", 3);
    assert_eq!(life.state.phase(), Phase::Failed);
}

#[test]
fn a_missing_image_is_tried_again_and_can_be_deleted() {
    let mut life = Life::set_up(one("Always"));
    life.refused(1.0, "c", RefusalReason::ErrImagePull).then(3.0, Event::Tick).then(11.0, Event::Tick);
    life.refused(12.0, "c", RefusalReason::ErrImagePull).deleted(13.0, 30);
    life.check(expect![[r#"
        1s c refused: ErrImagePull
          event Failed: Failed to pull image "i": why
          event Failed: Error: ErrImagePull
          => Pending c/0=ErrImagePull
        3s Tick
          event BackOff: Back-off pulling image "i"
          event Failed: Error: ImagePullBackOff
          => Pending c/0=ImagePullBackOff
        11s Tick
          launch c/0
          => Pending c/0=launching
        12s c refused: ErrImagePull
          event Failed: Failed to pull image "i": why
          event Failed: Error: ErrImagePull
          => Pending c/0=ErrImagePull
        13s plan (deletion grace Some(30s))
          close
          delete
          => Failed c/0=ErrImagePull
    "#]]);
}

#[test]
fn a_missing_image_of_a_volume_is_named() {
    let mut life = Life::set_up(one("Always"));
    let refusal = Refusal { volume_image: Some("v".to_owned()), ..Refusal::new(RefusalReason::ErrImagePull, "why") };
    life.then(1.0, Event::Refused { container: "c".to_owned(), attempt: 0, refusal }).then(3.0, Event::Tick);
    life.check(expect![[r#"
        1s c refused: ErrImagePull
          event Failed: Failed to pull image "v": why
          event Failed: Error: ErrImagePull
          => Pending c/0=ErrImagePull
        3s Tick
          event BackOff: Back-off pulling image "v"
          event Failed: Error: ImagePullBackOff
          => Pending c/0=ImagePullBackOff
    "#]]);
}

#[test]
fn a_launch_is_called_off_when_the_pod_goes() {
    let mut life = Life::set_up(one("Always"));
    life.deleted(1.0, 30).deleted(1.5, 30).refused(2.0, "c", RefusalReason::Cancelled);
    life.check(expect![[r#"
        1s plan (deletion grace Some(30s))
          cancel c/0
          => Pending c/0=launching
        1.5s plan (deletion grace Some(30s))
          => Pending c/0=launching
        2s c refused: ContainerCreating
          close
          delete
          => Failed c/0=pending
    "#]]);
}

#[test]
fn a_launch_that_was_too_far_to_be_called_off_is_stopped() {
    let mut life = Life::set_up(one("Always"));
    life.deleted(1.0, 30).started(2.0, "c").exited(3.0, "c", 0);
    life.check(expect![[r#"
        1s plan (deletion grace Some(30s))
          cancel c/0
          => Pending c/0=launching
        2s c/0 started
          event Created: Container created
          event Started: Container started
          event Killing: Stopping container c
          stop c/0 within 29s
          => Running c/0=stopping
        3s c/0 exited 0
          close
          delete
          => Succeeded c/0=exited(0)
    "#]]);
}

#[test]
fn configuration_errors_wait_for_what_they_miss() {
    let mut life = Life::set_up(one("Always"));
    life.refused(1.0, "c", RefusalReason::CreateContainerConfigError).then(2.0, Event::Nudge);
    life.check(expect![[r#"
        1s c refused: CreateContainerConfigError
          event Failed: Error: why
          => Pending c/0=CreateContainerConfigError
        2s Nudge
          launch c/0
          => Pending c/0=launching
    "#]]);
}

#[test]
fn volumes_are_tried_again() {
    let mut life = Life::new(one("Always"));
    let missing = |name: &str| SetupError { reason: "FailedMount", message: format!("configmap \"{name}\" not found") };
    life.then(0.0, Event::Tick).then(0.1, Event::SetUp(Err(vec![missing("x"), missing("y")])));
    assert_eq!(life.state.next_wake(), Some(at(0.6)));
    life.then(0.6, Event::Tick);
    life.check(expect![[r#"
        0s Tick
          setup
          => Pending c/0=pending
        0.1s SetUp(Err([SetupError { reason: "FailedMount", message: "configmap \"x\" not found" }, SetupError { reason: "FailedMount", message: "configmap \"y\" not found" }]))
          event FailedMount: configmap "x" not found
          event FailedMount: configmap "y" not found
          => Pending c/0=pending
        0.6s Tick
          setup
          => Pending c/0=pending
    "#]]);
}

#[test]
fn volumes_that_fail_while_a_pod_runs_are_told() {
    let mut life = Life::running(one("Always"));
    let missing = SetupError { reason: "FailedMount", message: "configmap \"x\" not found".to_owned() };
    life.then(2.0, Event::SetUp(Err(vec![missing]))).then(3.0, Event::SetUp(Ok(())));
    life.check(expect![[r#"
        2s SetUp(Err([SetupError { reason: "FailedMount", message: "configmap \"x\" not found" }]))
          event FailedMount: configmap "x" not found
          => Running c/0=ready
        3s SetUp(Ok(()))
          => Running c/0=ready
    "#]]);
}

#[test]
fn a_deadline_ends_a_pod() {
    let mut life = Life::running(plan(json!({
        "restartPolicy": "OnFailure", "activeDeadlineSeconds": 10, "containers": [{ "name": "c", "image": "i" }]
    })));
    assert_eq!(life.state.next_wake(), Some(at(10.0)));
    life.then(10.0, Event::Tick).exited(10.5, "c", 143).then(11.0, Event::Tick);
    life.check(expect![[r#"
        10s Tick
          event DeadlineExceeded: Pod was active on the node longer than the specified deadline
          event Killing: Stopping container c
          stop c/0 within 30s
          => Running c/0=stopping
        10.5s c/0 exited 143
          close
          => Failed c/0=exited(143)
        11s Tick
          => Failed c/0=exited(143)
    "#]]);
}

#[test]
fn an_unhealthy_container_is_restarted() {
    let mut life = Life::running(one("Always"));
    let container = "c".to_owned();
    life.then(2.0, Event::Probed { container, attempt: 0, probe: ProbeKind::Liveness, healthy: false });
    life.exited(3.0, "c", 143).started(3.1, "c");
    life.check(expect![[r#"
        2s c Liveness false
          event Killing: Container c failed liveness probe, will be restarted
          stop c/0 within 30s
          => Running c/0=stopping
        3s c/0 exited 143
          launch c/1
          => Running c/1=launching
        3.1s c/1 started
          event Created: Container created
          event Started: Container started
          => Running c/1=ready
    "#]]);
}

#[test]
fn a_server_that_fails_its_probe_is_restarted_although_it_ends_well() {
    let ended = |policy: &str| {
        let mut life = Life::running(one(policy));
        let container = "c".to_owned();
        life.then(2.0, Event::Probed { container, attempt: 0, probe: ProbeKind::Liveness, healthy: false });
        life.exited(3.0, "c", 0);
        (life.state.phase(), life.story)
    };
    let (phase, story) = ended("OnFailure");
    assert_eq!(phase, Phase::Running);
    assert!(story.contains("failed liveness probe, will be restarted\n") && story.contains("launch c/1"), "{story}");
    let (phase, story) = ended("Never");
    assert_eq!(phase, Phase::Succeeded);
    assert!(story.contains("failed liveness probe\n"), "{story}");
}

#[test]
fn an_ephemeral_container_is_run_once_beside_the_others() {
    let spec = json!({ "restartPolicy": "Always", "containers": [{ "name": "c", "image": "i" }],
        "ephemeralContainers": [{ "name": "look", "image": "j" }] });
    let mut life = Life::running(one("Always"));
    life.then(2.0, Event::Plan(plan(spec))).started(3.0, "look").exited(4.0, "look", 1).deleted(5.0, 30);
    life.check(expect![[r#"
        2s plan (deletion grace None)
          launch look/0
          => Running c/0=ready look/0=launching
        3s look/0 started
          event Created: Container created
          event Started: Container started
          => Running c/0=ready look/0=ready
        4s look/0 exited 1
          => Running c/0=ready look/0=exited(1)
        5s plan (deletion grace Some(30s))
          event Killing: Stopping container c
          stop c/0 within 30s
          => Running c/0=stopping look/0=exited(1)
    "#]]);
}

#[test]
fn a_new_image_restarts_even_what_never_restarts() {
    let mut life = Life::running(one("Never"));
    let mut changed = one("Never");
    changed.containers[0].image = "j".to_owned();
    life.then(2.0, Event::Plan(changed)).exited(3.0, "c", 143);
    life.check(expect![[r#"
        2s plan (deletion grace None)
          event Killing: Container c definition changed, will be restarted
          stop c/0 within 30s
          => Running c/0=stopping
        3s c/0 exited 143
          launch c/1
          => Running c/1=launching
    "#]]);
}

#[test]
fn restart_rules_speak_before_the_policy() {
    let mut life = Life::set_up(plan(json!({ "restartPolicy": "Never", "containers": [{ "name": "c", "image": "i",
        "restartPolicyRules": [{ "action": "Restart", "exitCodes": { "operator": "In", "values": [42] } }] }] })));
    life.started(1.0, "c").exited(2.0, "c", 42).started(3.0, "c").exited(4.0, "c", 1);
    assert_eq!((life.state.phase(), life.state.containers()[0].attempt), (Phase::Failed, 1));
}
