//! The one grace of a pod that ends, and who gets how much of it.

use super::*;

/// A pod of a main container with two sidecars that run.
fn with_sidecars() -> Life {
    let mut life = Life::set_up(plan(json!({
        "initContainers": [{ "name": "s", "image": "i", "restartPolicy": "Always" },
                           { "name": "t", "image": "i", "restartPolicy": "Always" }],
        "containers": [{ "name": "c", "image": "i" }]
    })));
    life.started(1.0, "s").started(1.0, "t").started(1.0, "c").begin();
    life
}

#[test]
fn sidecars_get_what_is_left_of_the_grace() {
    let mut life = with_sidecars();
    life.deleted(10.0, 30).exited(22.0, "c", 0).deleted(23.0, 9).exited(24.0, "t", 0).exited(25.0, "s", 0);
    life.check(expect![[r#"
        10s plan (deletion grace Some(30s))
          event Killing: Stopping container c
          stop c/0 within 30s
          event Killing: Stopping container t
          pre-stop t/0 within 30s
          event Killing: Stopping container s
          pre-stop s/0 within 30s
          => Running s/0=held t/0=held c/0=stopping
        22s c/0 exited 0
          stop t/0 within 18s
          => Running s/0=held t/0=stopping c/0=exited(0)
        23s plan (deletion grace Some(9s))
          stop t/0 within 9s
          => Running s/0=held t/0=stopping c/0=exited(0)
        24s t/0 exited 0
          stop s/0 within 8s
          => Running s/0=stopping t/0=exited(0) c/0=exited(0)
        25s s/0 exited 0
          close
          delete
          => Succeeded s/0=exited(0) t/0=exited(0) c/0=exited(0)
    "#]]);
}

#[test]
fn sidecars_wait_for_nobody_beyond_the_grace() {
    let mut life = with_sidecars();
    life.deleted(10.0, 30).begin();
    assert_eq!(life.state.next_wake(), Some(at(40.0)));
    life.then(40.0, Event::Tick);
    assert_eq!(life.state.next_wake(), None);
    life.check(expect![[r#"
        40s Tick
          stop t/0 within 0ns
          stop s/0 within 0ns
          => Running s/0=stopping t/0=stopping c/0=stopping
    "#]]);
}

#[test]
fn readiness_is_known_until_a_container_has_ended() {
    let mut life = Life::running(plan(json!({ "containers": [{ "name": "c", "image": "i",
        "readinessProbe": { "httpGet": { "port": 1 } }, "livenessProbe": { "httpGet": { "port": 1 } } }] })));
    let probed = |probe, healthy| Event::Probed { container: "c".to_owned(), attempt: 0, probe, healthy };
    life.then(2.0, probed(ProbeKind::Readiness, true)).deleted(3.0, 30).begin();
    let is_ready = |life: &Life| life.state.container("c").unwrap().is_ready();
    assert!(is_ready(&life));
    // Whoever was asked before the end may answer after it.
    life.then(4.0, probed(ProbeKind::Liveness, false));
    assert!(is_ready(&life));
    life.then(5.0, probed(ProbeKind::Readiness, false));
    assert!(!is_ready(&life));
    life.then(6.0, probed(ProbeKind::Readiness, true));
    assert!(is_ready(&life));
    life.exited(7.0, "c", 0).then(8.0, probed(ProbeKind::Readiness, true));
    assert!(!is_ready(&life));
    life.check(expect![[r#"
        4s c Liveness false
          => Running c/0=stopping
        5s c Readiness false
          => Running c/0=stopping
        6s c Readiness true
          => Running c/0=stopping
        7s c/0 exited 0
          close
          delete
          => Succeeded c/0=exited(0)
        8s c Readiness true
          => Succeeded c/0=exited(0)
    "#]]);
}
