//! Containers whose end restarts all of their pod (KEP-5532).

use super::*;

fn watched() -> PodPlan {
    plan(json!({
        "restartPolicy": "Never",
        "initContainers": [
            { "name": "i", "image": "i" },
            { "name": "s", "image": "i", "restartPolicy": "Always", "restartPolicyRules": [
                { "action": "Restart", "exitCodes": { "operator": "In", "values": [7] } },
                { "action": "RestartAllContainers", "exitCodes": { "operator": "In", "values": [7, 88] } }] }
        ],
        "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }]
    }))
}

/// A pod of which `i` has succeeded, `a` has failed, and the others run.
fn running() -> Life {
    let mut life = Life::set_up(watched());
    life.started(1.0, "i").exited(2.0, "i", 0).started(3.0, "s").started(4.0, "a").started(4.0, "b");
    life.exited(5.0, "a", 1).begin();
    life
}

#[test]
fn all_containers_begin_again_in_order_when_all_have_ended() {
    let mut life = running();
    life.exited(6.0, "s", 88);
    assert!(life.state.restarts_all());
    life.exited(7.0, "b", 137);
    assert!(!life.state.restarts_all());
    life.started(8.0, "i").exited(9.0, "i", 0).started(10.0, "s").started(11.0, "a");
    life.check(expect![[r#"
        6s s/0 exited 88
          event Killing: Stopping container b
          stop b/0 within 0ns
          => Running i/0=exited(0) s/0=exited(88) a/0=exited(1) b/0=stopping
        7s b/0 exited 137
          launch i/1
          => Pending i/1=launching s/1=pending a/1=pending b/1=pending
        8s i/1 started
          event Created: Container created
          event Started: Container started
          => Pending i/1=ready s/1=pending a/1=pending b/1=pending
        9s i/1 exited 0
          launch s/1
          => Pending i/1=exited(0) s/1=launching a/1=pending b/1=pending
        10s s/1 started
          event Created: Container created
          event Started: Container started
          launch a/1
          launch b/1
          => Running i/1=exited(0) s/1=ready a/1=launching b/1=launching
        11s a/1 started
          event Created: Container created
          event Started: Container started
          => Running i/1=exited(0) s/1=ready a/1=ready b/1=launching
    "#]]);
}

#[test]
fn who_does_so_again_and_again_waits() {
    let mut life = running();
    life.exited(6.0, "s", 88).exited(7.0, "b", 137).started(8.0, "i").exited(9.0, "i", 0).started(10.0, "s");
    life.exited(11.0, "s", 88).refused(12.0, "a", RefusalReason::Cancelled).started(12.0, "b").begin();
    life.exited(13.0, "b", 137);
    assert_eq!(life.state.next_wake(), Some(at(21.0)));
    life.then(21.0, Event::Tick);
    life.check(expect![[r#"
        13s b/1 exited 137
          => Running i/1=exited(0) s/1=exited(88) a/1=pending b/1=exited(137)
        21s Tick
          launch i/2
          => Pending i/2=launching s/2=pending a/1=pending b/2=pending
    "#]]);
}

#[test]
fn the_first_rule_that_speaks_of_a_code_counts() {
    let mut life = running();
    life.exited(6.0, "s", 7);
    life.check(expect![[r#"
        6s s/0 exited 7
          launch s/1
          => Running i/0=exited(0) s/1=launching a/0=exited(1) b/0=ready
    "#]]);
}

#[test]
fn a_pod_that_ends_does_not_begin_again() {
    let mut life = running();
    life.exited(6.0, "s", 88).deleted(7.0, 30).exited(8.0, "b", 137);
    assert!(life.state.is_closed() && life.state.next_wake().is_none());
    let mut life = running();
    life.deleted(6.0, 30).exited(7.0, "s", 88).exited(8.0, "b", 0);
    assert!(life.state.is_closed() && !life.state.restarts_all());
}

#[test]
fn an_agent_that_was_away_goes_on_with_it() {
    let ended = |name: &str| {
        json!({ "name": name, "image": "i", "imageID": "x", "ready": false, "restartCount": 0,
        "state": { "terminated": { "exitCode": 1 } } })
    };
    let status = |restarting: &str| -> core::PodStatus {
        serde_json::from_value(json!({ "phase": "Running",
            "conditions": [{ "type": RESTARTING, "status": restarting }],
            "initContainerStatuses": [ended("s")], "containerStatuses": [ended("a"), ended("b")] }))
        .unwrap()
    };
    let restored = |restarting: &str| {
        let mut state = PodState::restore(watched(), &status(restarting), at(100.0));
        step(&mut state, Event::Tick, at(100.0));
        state.containers().iter().map(lived).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(restored("True"), "i/0=pending s/1=pending a/1=pending b/1=pending");
    assert_eq!(restored("False"), "i/0=pending s/0=exited(1) a/0=exited(1) b/0=exited(1)");
}
