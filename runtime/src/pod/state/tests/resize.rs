//! Resources that change while a container is launched, runs, or is given others.

use super::*;

/// A container that may use so much memory.
fn with_memory(memory: &str) -> PodPlan {
    let policy = json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
    plan(json!({ "containers": [{ "name": "c", "image": "i", "resizePolicy": policy,
        "resources": { "limits": { "memory": memory } } }] }))
}

fn with_cpu(cpu: &str) -> PodPlan {
    let mut plan = with_memory("1Mi");
    let limits = json!({ "limits": { "memory": "1Mi", "cpu": cpu } });
    plan.containers[0].resources.own = serde_json::from_value(limits).unwrap();
    plan
}

fn resized(life: &mut Life, second: f64, result: Result<(), &str>) {
    let result = result.map_err(str::to_owned);
    life.then(second, Event::Resized { container: "c".to_owned(), attempt: 0, result });
}

/// The memory that the container is said to have.
fn memory(life: &Life) -> String {
    life.state.containers()[0].resources.own.limits.as_ref().unwrap()["memory"].0.clone()
}

#[test]
fn what_changes_during_a_launch_is_given_when_it_runs() {
    let mut life = Life::set_up(with_memory("1Mi"));
    life.then(1.0, Event::Plan(with_memory("2Mi")));
    life.started(2.0, "c");
    assert_eq!(memory(&life), "1Mi", "it was launched with that");
    resized(&mut life, 3.0, Ok(()));
    assert_eq!(memory(&life), "2Mi");
    life.check(expect![[r#"
        1s plan (deletion grace None)
          => Pending c/0=launching
        2s c/0 started
          event Created: Container created
          event Started: Container started
          resize { container: "c", attempt: 0 }
          => Running c/0=ready
        3s Resized { container: "c", attempt: 0, result: Ok(()) }
          event ResizeCompleted: Container resize completed
          => Running c/0=ready
    "#]]);
}

#[test]
fn what_a_container_does_not_live_through_restarts_it_after_its_launch_too() {
    let mut life = Life::set_up(with_cpu("1"));
    life.then(1.0, Event::Plan(with_cpu("2"))).started(2.0, "c").exited(3.0, "c", 143).started(4.0, "c");
    life.check(expect![[r#"
        1s plan (deletion grace None)
          => Pending c/0=launching
        2s c/0 started
          event Created: Container created
          event Started: Container started
          event Killing: Container c resize requires restart
          stop c/0 within 30s
          => Running c/0=stopping
        3s c/0 exited 143
          launch c/1
          => Running c/1=launching
        4s c/1 started
          event Created: Container created
          event Started: Container started
          => Running c/1=ready
    "#]]);
}

#[test]
fn one_change_follows_the_other() {
    let mut life = Life::running(with_memory("1Mi"));
    life.then(2.0, Event::Plan(with_memory("2Mi"))).then(3.0, Event::Plan(with_memory("3Mi")));
    resized(&mut life, 4.0, Ok(()));
    assert_eq!(memory(&life), "2Mi");
    resized(&mut life, 5.0, Ok(()));
    assert_eq!(memory(&life), "3Mi");
    life.check(expect![[r#"
        2s plan (deletion grace None)
          resize { container: "c", attempt: 0 }
          => Running c/0=ready
        3s plan (deletion grace None)
          => Running c/0=ready
        4s Resized { container: "c", attempt: 0, result: Ok(()) }
          resize { container: "c", attempt: 0 }
          => Running c/0=ready
        5s Resized { container: "c", attempt: 0, result: Ok(()) }
          event ResizeCompleted: Container resize completed
          => Running c/0=ready
    "#]]);
}

#[test]
fn what_fails_is_tried_again_unless_it_changes() {
    let mut life = Life::running(with_memory("2Mi"));
    life.then(2.0, Event::Plan(with_memory("1Mi")));
    resized(&mut life, 3.0, Err("too little"));
    assert_eq!(life.state.next_wake(), Some(at(13.0)));
    life.then(13.0, Event::Tick);
    resized(&mut life, 14.0, Err("too little"));
    life.then(15.0, Event::Plan(with_memory("2Mi")));
    assert_eq!((life.state.next_wake(), memory(&life)), (None, "2Mi".to_owned()));
    life.check(expect![[r#"
        2s plan (deletion grace None)
          resize { container: "c", attempt: 0 }
          => Running c/0=ready
        3s Resized { container: "c", attempt: 0, result: Err("too little") }
          event ResizeError: too little
          => Running c/0=ready
        13s Tick
          resize { container: "c", attempt: 0 }
          => Running c/0=ready
        14s Resized { container: "c", attempt: 0, result: Err("too little") }
          event ResizeError: too little
          => Running c/0=ready
        15s plan (deletion grace None)
          => Running c/0=ready
    "#]]);
}

#[test]
fn what_was_launched_beside_another_has_what_the_plan_said_then() {
    let mut life = Life::running(with_memory("1Mi"));
    life.then(1.5, Event::Serves { container: "c".to_owned(), attempt: 0 });
    let mut changed = with_memory("1Mi");
    changed.containers[0].image = "j".to_owned();
    life.then(2.0, Event::Plan(changed.clone()));
    changed.containers[0].resources = with_memory("2Mi").containers[0].resources.clone();
    life.then(3.0, Event::Plan(changed)).begin();
    life.then(4.0, Event::Started { container: "c".to_owned(), attempt: 1 });
    life.check(expect![[r#"
        4s c/1 started
          event Killing: Container c definition changed, will be restarted
          stop c/0 within 30s
          event Created: Container created
          event Started: Container started
          resize { container: "c", attempt: 1 }
          => Running c/1=ready
    "#]]);
}
