//! Pods that an agent finds again when it has been started anew.

use super::*;

#[test]
fn a_pod_comes_back_after_a_restart_of_the_agent() {
    let status = |value: Value| serde_json::from_value::<core::PodStatus>(value).unwrap();
    let restored = |policy: &str, value: Value| {
        let mut state = PodState::restore(one(policy), &status(value), at(100.0));
        let mut actions = step(&mut state, Event::Tick, at(100.0));
        actions.extend(step(&mut state, Event::SetUp(Ok(())), at(100.0)));
        let lives: Vec<String> = state.containers().iter().map(lived).collect();
        let actions: Vec<String> = actions.iter().map(shown).collect();
        format!("{} {} {actions:?}", state.phase().as_str(), lives.join(" "))
    };
    let container = |state: Value, last: Value, count: i32| {
        json!({ "phase": "Running", "startTime": "2023-11-14T22:13:20Z", "containerStatuses": [{ "name": "c",
            "image": "i", "imageID": "x", "ready": true, "restartCount": count, "state": state, "lastState": last }] })
    };
    let running = json!({ "running": { "startedAt": "2023-11-14T22:13:20Z" } });
    let looping = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    let ended = json!({ "terminated": { "exitCode": 0 } });
    let mut all = String::new();
    all += &format!("running:  {}\n", restored("Always", container(running.clone(), json!({}), 3)));
    all += &format!("looping:  {}\n", restored("Always", container(looping, ended.clone(), 3)));
    all += &format!("never:    {}\n", restored("Never", container(running, json!({}), 0)));
    let mut finished = container(ended, json!({}), 0);
    finished["phase"] = json!("Succeeded");
    all += &format!("finished: {}\n", restored("Never", finished));
    expect![[r#"
        running:  Running c/4=launching ["setup", "launch c/4"]
        looping:  Running c/4=launching ["setup", "launch c/4"]
        never:    Failed c/0=exited(137) ["close"]
        finished: Succeeded c/0=exited(0) ["close"]
    "#]]
    .assert_eq(&all);
}

/// Volumes in memory are gone, so that init containers have their work to do again, each before those that come after it.
#[test]
fn a_pod_with_init_containers_comes_back_in_order() {
    let spec = |policy: &str| {
        json!({ "restartPolicy": policy,
            "initContainers": [{ "name": "i", "image": "i" }, { "name": "s", "image": "s", "restartPolicy": "Always",
                "startupProbe": { "httpGet": { "port": 80 } } }],
            "containers": [{ "name": "a", "image": "i" }, { "name": "b", "image": "i" }] })
    };
    let of = |name: &str, count: i32, state: &Value| json!({ "name": name, "image": "i", "imageID": "x", "ready": true, "restartCount": count, "state": state });
    let running = json!({ "running": { "startedAt": "2023-11-14T22:13:20Z" } });
    let ended = |code: i32| json!({ "terminated": { "exitCode": code } });
    let status = |init: [&Value; 2], main: [&Value; 2]| -> core::PodStatus {
        serde_json::from_value(json!({ "phase": "Running", "startTime": "2023-11-14T22:13:20Z",
            "initContainerStatuses": [of("i", 0, init[0]), of("s", 2, init[1])],
            "containerStatuses": [of("a", 1, main[0]), of("b", 0, main[1])] }))
        .unwrap()
    };
    let restored = |policy: &str, status: core::PodStatus| {
        let state = PodState::restore(plan(spec(policy)), &status, at(100.0));
        let mut life = Life { state, story: String::new() };
        life.then(100.0, Event::Tick).then(101.0, Event::SetUp(Ok(())));
        life
    };
    let mut life = restored("OnFailure", status([&ended(0), &running], [&running, &ended(0)]));
    let last = life.state.container("i").unwrap().last.as_ref().map(|exit| (exit.attempt, exit.exit_code));
    assert_eq!(last, Some((0, 0)));
    life.started(102.0, "i").exited(103.0, "i", 0).started(104.0, "s");
    let container = "s".to_owned();
    life.then(105.0, Event::Probed { container, attempt: 3, probe: ProbeKind::Startup, healthy: true });
    life.started(106.0, "a");
    life.check(expect![[r#"
        100s Tick
          setup
          => Pending i/1=pending s/3=pending a/2=pending b/0=exited(0)
        101s SetUp(Ok(()))
          launch i/1
          => Pending i/1=launching s/3=pending a/2=pending b/0=exited(0)
        102s i/1 started
          event Created: Container created
          event Started: Container started
          => Pending i/1=ready s/3=pending a/2=pending b/0=exited(0)
        103s i/1 exited 0
          launch s/3
          => Pending i/1=exited(0) s/3=launching a/2=pending b/0=exited(0)
        104s s/3 started
          event Created: Container created
          event Started: Container started
          => Pending i/1=exited(0) s/3=running a/2=pending b/0=exited(0)
        105s s Startup true
          launch a/2
          => Running i/1=exited(0) s/3=ready a/2=launching b/0=exited(0)
        106s a/2 started
          event Created: Container created
          event Started: Container started
          => Running i/1=exited(0) s/3=ready a/2=ready b/0=exited(0)
    "#]]);
    // What has nothing left to run is not begun again.
    for (policy, main, shown) in [
        ("Never", [&running, &ended(0)], "Failed i/0=exited(0) s/2=exited(137) a/1=exited(137) b/0=exited(0)"),
        ("OnFailure", [&ended(0), &ended(0)], "Succeeded i/0=exited(0) s/2=exited(137) a/1=exited(0) b/0=exited(0)"),
    ] {
        let life = restored(policy, status([&ended(0), &running], main));
        assert!(life.story.starts_with(&format!("100s Tick\n  close\n  => {shown}\n")), "{}", life.story);
    }
    let waits = json!({ "waiting": { "reason": "PodInitializing" } });
    let life = restored("Never", status([&running, &waits], [&waits, &waits]));
    assert!(life.story.contains("close") && life.state.phase() == Phase::Failed, "{}", life.story);
}
