//! Statuses of pods in the states that matter.

use std::net::Ipv4Addr;

use expect_test::expect;

use super::*;
use crate::pod::plan::PodPlan;
use crate::pod::state::{Event, Refusal, RefusalReason, step};

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
            },
            {
              "lastTransitionTime": "2023-11-14T22:14:20Z",
              "observedGeneration": 2,
              "status": "True",
              "type": "PodScheduled"
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
    let state = |message: &str| {
        let refusal = Refusal::new(RefusalReason::CreateContainerConfigError, message);
        let refused = Event::Refused { container: "c".to_owned(), attempt: 0, refusal };
        let status = built(vec![Event::Tick, Event::SetUp(Ok(())), refused], &core::PodStatus::default());
        serde_json::to_string(&status.container_statuses.unwrap()[0].state).unwrap()
    };
    expect![[r#"{"waiting":{"message":"m","reason":"CreateContainerConfigError"}}"#]].assert_eq(&state("m"));
    // An image may have names of any length.
    assert!(state(&"ä".repeat(MAX_POD_MESSAGE_BYTES)).len() < MAX_POD_MESSAGE_BYTES + 100);
}

#[test]
fn patches_name_only_what_changed_and_only_what_is_ours() {
    let beginning = built(vec![Event::Tick], &core::PodStatus::default());
    let mut live = beginning.clone();
    live.qos_class = Some("BestEffort".to_owned());
    let gate =
        core::PodCondition { type_: "example.com/gate".to_owned(), status: "True".to_owned(), ..Default::default() };
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
    assert_eq!((&ready["status"], &ready["reason"], &ready["message"]), (&json!("True"), &Value::Null, &Value::Null));
    let mut written = running;
    written.conditions.as_mut().unwrap().push(gate);
    assert_eq!(super::patch("u", &written, &built(started(), &written)), None);
}

#[test]
fn container_ids_differ_by_attempt() {
    assert_eq!(container_id("u", "c", 0).len(), 64);
    assert_ne!(container_id("u", "c", 0), container_id("u", "c", 1));
}

#[test]
fn an_init_container_that_runs_again_is_shown_as_the_api_allows() {
    let shown = |policy: &str| {
        let container = |name: &str| json!([{ "name": name, "image": "i" }]);
        let pod: core::Pod =
            serde_json::from_value(json!({ "metadata": { "name": "p", "namespace": "ns", "uid": "u" },
            "spec": { "restartPolicy": policy, "initContainers": container("i"), "containers": container("c") } }))
            .unwrap();
        let of = |name: &str, state: Value| json!([{ "name": name, "image": "i", "imageID": "x", "ready": true, "restartCount": 0, "state": state }]);
        let live: core::PodStatus = serde_json::from_value(json!({ "phase": "Running",
            "initContainerStatuses": of("i", json!({ "terminated": { "exitCode": 0 } })),
            "containerStatuses": of("c", json!({ "running": {} })) }))
        .unwrap();
        let mut state = PodState::restore(PodPlan::of(&pod), &live, at(0));
        step(&mut state, Event::Tick, at(0));
        step(&mut state, Event::SetUp(Ok(())), at(0));
        let facts = HostFacts { host_ip: Ipv4Addr::new(10, 0, 0, 1).into(), pod_ip: None };
        let status = build(&state, &pod, &live, facts, at(60));
        let init = status.init_container_statuses.unwrap().remove(0);
        (init.restart_count, init.state.unwrap().terminated.is_some(), status.phase.unwrap())
    };
    assert_eq!(shown("Always"), (1, false, "Pending".to_owned()));
    // It may not be transitioned to non-terminated state.
    assert_eq!(shown("OnFailure"), (0, true, "Pending".to_owned()));
}
