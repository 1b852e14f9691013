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
