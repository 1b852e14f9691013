//! Limits: memory, CPU, sockets; and that one guest's excess is its own.

use std::time::{Duration, Instant};

use k8w_runtime::engine::{ContainerSpec, Engine, EngineEvent, ExitReason, Limits, Preopen};

use crate::node::{Node, preview1, probe, until};

#[tokio::test]
async fn a_command_over_its_memory_limit_is_oom_killed() {
    a_command_exceeds_its_memory_limit(preview1(), &["hog"]).await;
}

pub async fn a_command_exceeds_its_memory_limit(guest: &[u8], args: &[&str]) {
    let node = Node::new();
    let mut spec = node.pod("hog", guest).await;
    spec.limits.memory_bytes = Some(32 << 20);
    let (code, reason, message, _) = node.run(spec, args).await;
    assert_eq!((code, reason), (137, ExitReason::OOMKilled));
    assert_eq!(message, "memory limit of 33554432 bytes exceeded");
}

#[tokio::test]
async fn a_request_that_alone_exceeds_the_limit_kills_its_server() {
    a_request_exceeds_the_memory_limit(probe()).await;
}

pub async fn a_request_exceeds_the_memory_limit(guest: &[u8]) {
    let node = Node::new();
    let mut spec = node.pod("server", guest).await;
    spec.limits.memory_bytes = Some(32 << 20);
    let id = node.start(spec).await;
    assert_eq!(node.get("10.64.0.2:8080", "/hog?8").await, (200, format!("{} bytes", 8 << 20)));
    assert_eq!(node.get("10.64.0.2:8080", "/hog?64").await.0, 500);
    let (code, reason, _) = node.exit(&id).await;
    assert_eq!((code, reason), (137, ExitReason::OOMKilled));
}

#[tokio::test]
async fn a_container_that_starts_later_knows_what_its_pod_may_have_by_then() {
    let node = Node::new();
    let mut first = node.pod("server", probe()).await;
    first.limits.pod_memory_bytes = Some(32 << 20);
    let mut second = first.clone();
    second.id.container = "second".to_owned();
    second.log_path = node.dir.path().join("second.log");
    second.http_port = Some(8081);
    second.limits.pod_memory_bytes = Some(128 << 20);
    node.start(first).await;
    node.start(second).await;
    assert_eq!(node.get("10.64.0.2:8081", "/hog?64").await, (200, format!("{} bytes", 64 << 20)));
}

#[tokio::test]
async fn a_request_that_finds_memory_used_up_by_others_gets_503() {
    let node = Node::with(|config| config.http.memory_wait = Duration::from_millis(20));
    let mut spec = node.pod("server", probe()).await;
    spec.limits.memory_bytes = Some(24 << 20);
    node.start(spec).await;
    let uri = "http://10.64.0.2:8080/stream?1000";
    let held = node.send(crate::node::request("GET", uri, crate::node::empty())).await;
    assert_eq!(node.get("10.64.0.2:8080", "/hog?21").await.0, 503);
    drop(held);
    until(async || node.get("10.64.0.2:8080", "/hog?21").await.0 == 200).await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_endless_loop_stops_nobody_else_even_on_one_thread() {
    let node = Node::new();
    let server = node.pod("server", probe()).await;
    node.start(server).await;
    let mut spinning = node.pod("spinning", preview1()).await;
    spinning.argv.push("spin".to_owned());
    let id = node.start(spinning).await;
    for _ in 0..3 {
        assert_eq!(node.get("10.64.0.2:8080", "/count").await.0, 200);
    }
    node.engine.stop(&id, Duration::ZERO).await;
    assert_eq!(node.exit(&id).await.0, 143);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cpu_limit_holds() {
    let node = Node::new();
    let mut spinning = node.pod("spinning", preview1()).await;
    spinning.limits.cpu_millis = Some(100);
    use_a_tenth(&node, vec![spinning]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_containers_of_a_pod_share_its_cpu_limit() {
    let node = Node::new();
    let mut one = node.pod("one", preview1()).await;
    one.limits.pod_cpu_millis = Some(100);
    let mut other = node.pod("other", preview1()).await;
    (other.pod, other.id.pod_uid, other.limits) = (one.pod.clone(), one.id.pod_uid.clone(), one.limits);
    other.id.container = "other".to_owned();
    use_a_tenth(&node, vec![one, other]).await;
}

/// Together the containers use a tenth of a CPU, though they could use all of it.
async fn use_a_tenth(node: &Node, containers: Vec<ContainerSpec>) {
    let mut ids = Vec::new();
    for mut spinning in containers {
        spinning.argv.push("spin".to_owned());
        ids.push(node.start(spinning).await);
    }
    let begun = Instant::now();
    let mut every = tokio::time::interval(Duration::from_millis(50));
    let used = loop {
        every.tick().await;
        let mut used = Duration::ZERO;
        for id in &ids {
            used += Duration::from_nanos(node.engine.stats(id).await.unwrap().cpu_usage_nanos);
        }
        if begun.elapsed() > Duration::from_millis(1_500) {
            break used;
        }
    };
    // A tenth of the time, the burst saved up, and of each one tick of debt.
    let debt = Duration::from_millis(100) * u32::try_from(ids.len()).unwrap();
    let most = begun.elapsed() / 10 + Duration::from_millis(10) + debt;
    assert!(used <= most, "{used:?} used, at most {most:?} allowed");
    for id in ids {
        node.engine.stop(&id, Duration::ZERO).await;
        node.exit(&id).await;
    }
}

#[tokio::test]
async fn a_guest_that_waits_out_its_debt_can_be_stopped() {
    let node = Node::new();
    let mut spinning = node.pod("spinning", preview1()).await;
    spinning.argv.push("spin".to_owned());
    // Whatever it runs takes days to pay off.
    spinning.limits.cpu_millis = Some(0);
    let id = node.start(spinning).await;
    while node.engine.stats(&id).await.unwrap().cpu_usage_nanos == 0 {
        tokio::task::yield_now().await;
    }
    node.engine.stop(&id, Duration::ZERO).await;
    assert_eq!(node.exit(&id).await.0, 143);
}

#[tokio::test]
async fn sockets_are_counted() {
    a_command_gets_five_sockets(probe()).await;
}

pub async fn a_command_gets_five_sockets(guest: &[u8]) {
    let node = Node::with(|config| config.guest.sockets = 5);
    let spec = node.pod("sockets", guest).await;
    let (_, _, _, log) = node.run(spec, &["sockets"]).await;
    assert_eq!(log, "stdout F 5 sockets\n");
}

/// Its mount, and four of its own.
#[tokio::test]
async fn open_files_are_counted() {
    a_command_has_five_files_open(probe()).await;
}

pub async fn a_command_has_five_files_open(guest: &[u8]) {
    let node = Node::with(|config| config.guest.open_files = 5);
    let mut spec = node.pod("files", guest).await;
    spec.preopens = vec![data(&node)];
    let (_, _, _, log) = node.run(spec, &["files"]).await;
    let refused = "insufficient-memory";
    let expected =
        format!("4 files, then {refused}; beside a stream {refused}, beside a listing {refused}, then opened");
    assert_eq!(log, format!("stdout F {expected}\n"));
    let made = std::fs::read_dir(node.dir.path().join("data")).unwrap().count();
    assert_eq!(made, 5, "what was refused was not made");

    let mut spec = node.pod("mounts", guest).await;
    spec.preopens = vec![data(&node); 6];
    let refused = node.engine.start(spec).await.unwrap_err().to_string();
    assert!(refused.ends_with("6 mounts are more than the 5 files that a container may have open"), "{refused}");
}

/// A mount at `/data`.
fn data(node: &Node) -> Preopen {
    let host_dir = node.dir.path().join("data");
    std::fs::create_dir_all(&host_dir).unwrap();
    Preopen { host_dir, guest_path: "/data".to_owned(), read_only: false, sub_path: None }
}

#[tokio::test]
async fn a_directory_is_listed_however_much_it_holds() {
    a_command_lists_a_directory(probe(), "Unknown").await;
}

pub async fn a_command_lists_a_directory(guest: &[u8], unknown: &str) {
    let node = Node::new();
    let mut spec = node.pod("lists", guest).await;
    spec.preopens = vec![data(&node)];
    let path = |name: &str| node.dir.path().join("data").join(name);
    let mut expected: Vec<String> = (0..200)
        .map(|number| {
            std::fs::write(path(&format!("{number:03}")), "").unwrap();
            format!("stdout F {number:03} DescriptorType::RegularFile\n")
        })
        .collect();
    std::fs::create_dir(path("directory")).unwrap();
    std::os::unix::fs::symlink("000", path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    for (name, kind) in [("directory", "Directory"), ("link", "SymbolicLink"), ("socket", unknown)] {
        expected.push(format!("stdout F {name} DescriptorType::{kind}\n"));
    }
    let (code, _, message, log) = node.run(spec, &["list"]).await;
    assert_eq!((code, message.as_str()), (0, ""));
    assert_eq!(log, expected.concat());
}

#[tokio::test]
async fn headers_are_counted() {
    let node = Node::new();
    let (code, reason, message, _) = node.run(node.pod("fields", probe()).await, &["fields"]).await;
    assert_eq!((code, reason), (134, ExitReason::Error));
    assert!(message.contains("total size of fields exceeds limit"), "{message}");
}

#[tokio::test]
async fn headers_that_are_kept_are_the_pods_memory() {
    headers_that_a_command_keeps_are_its_memory(probe()).await;
}

pub async fn headers_that_a_command_keeps_are_its_memory(guest: &[u8]) {
    let node = Node::new();
    for way in ["from-list", "append", "set", "clone", "request", "authority"] {
        for (does, expected) in [
            ("keep-headers", (137, ExitReason::OOMKilled, "memory limit of 16777216 bytes exceeded")),
            ("drop-headers", (0, ExitReason::Completed, "")),
        ] {
            let mut spec = node.pod(&format!("{does}-{way}"), guest).await;
            spec.limits.memory_bytes = Some(16 << 20);
            let (code, reason, message, log) = node.run(spec, &[does, way]).await;
            assert_eq!((code, reason, message.as_str()), expected, "{does} {way}: {log}");
        }
    }
}

#[tokio::test]
async fn resources_are_counted() {
    let node = Node::with(|config| config.guest.resources = 100);
    let (code, reason, _, log) = node.run(node.pod("handles", probe()).await, &["handles"]).await;
    assert_eq!((code, reason), (134, ExitReason::Error));
    assert!(log.contains("resource table has no free keys"), "{log}");
}

/// The guest ends with the number of thousands that it has got.
#[tokio::test]
async fn a_table_grows_as_far_as_a_slot_of_the_pool() {
    let node = Node::with(|config| config.pool.table_elements = 5_000);
    let grows = wat::parse_str(include_str!("../../../tests/scenarios/table-growth/grows.wat")).unwrap();
    let (code, reason, _, _) = node.run(node.pod("grows", &grows).await, &[]).await;
    assert_eq!((code, reason), (5, ExitReason::Error));
}

#[tokio::test]
async fn what_is_handed_over_in_one_call_is_bounded() {
    let node = Node::with(|config| config.guest.hostcall_fuel = 1 << 20);
    let server = node.pod("server", probe()).await;
    node.start(server).await;
    assert_eq!(node.get("10.64.0.2:8080", "/fill?500000").await, (200, "Ok(())".to_owned()));
    assert_eq!(node.get("10.64.0.2:8080", "/fill?2000000").await.0, 500);
    node.logged("server", "fuel").await;
    assert_eq!(node.get("10.64.0.2:8080", "/count").await.0, 200, "only the request has failed");
}

#[tokio::test]
async fn a_guest_that_says_too_much_waits_and_loses_nothing() {
    let node = Node::with(|config| config.guest.log_bytes_per_second = 10_000);
    let begun = Instant::now();
    let (code, _, _, log) = node.run(node.pod("talks", probe()).await, &["lines", "30"]).await;
    assert_eq!((code, log.lines().count()), (0, 30));
    // Of more than three seconds' worth two may be said at once.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());

    let mut endless = node.pod("endless", probe()).await;
    endless.force_command = true;
    endless.argv.extend(["write", "1"].map(str::to_owned));
    let id = node.start(endless).await;
    node.logged("endless", "xxx").await;
    node.engine.stop(&id, Duration::ZERO).await;
    assert_eq!(node.exit(&id).await.0, 143, "one that waits can be stopped");
}

#[tokio::test]
async fn of_a_log_the_last_files_are_kept() {
    let node = Node::with(|config| (config.guest.log_file_bytes, config.guest.log_files) = (10_000, 2));
    // More than waits at a time to be written, many times over.
    let (code, _, _, log) = node.run(node.pod("talks", probe()).await, &["lines", "3000"]).await;
    assert!(code == 0 && log.contains("line 002999 "), "the newest is in the file of that name");
    let files = std::fs::read_dir(node.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let kept = files.filter(|name| name.to_string_lossy().starts_with("talks.log")).count();
    assert_eq!(kept, 3);
}

#[tokio::test]
async fn a_node_without_a_free_slot_says_so() {
    let node = Node::with(|config| config.pool.instances = 16);
    let mut last = None;
    for n in 0..17 {
        let mut spec = node.pod(&format!("waiting-{n}"), probe()).await;
        spec.force_command = true;
        spec.argv.push("sleep".to_owned());
        match node.engine.start(spec.clone()).await {
            Ok(()) => drop(node.event().await),
            Err(error) => last = Some((n, error.to_string())),
        }
    }
    let full = "node is out of capacity: all instance slots of this node are in use: at most 16 alive".to_owned();
    assert_eq!(last, Some((16, full)));
}

#[tokio::test]
async fn limits_can_change_while_a_container_runs() {
    let node = Node::new();
    let mut spec = node.pod("server", probe()).await;
    spec.limits.memory_bytes = Some(64 << 20);
    let id = node.start(spec).await;
    assert_eq!(node.get("10.64.0.2:8080", "/hog?32").await.0, 200);
    let uri = "http://10.64.0.2:8080/stream?1000";
    let held = node.send(crate::node::request("GET", uri, crate::node::empty())).await;
    let limits = |memory_bytes| Limits { memory_bytes: Some(memory_bytes), ..Limits::default() };
    let refused = node.engine.resize(&id, limits(1_024)).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("attempting to set container \"main\" memory limit (1024) below current usage ("),
        "{refused}"
    );
    drop(held);
    until(async || node.engine.resize(&id, limits(16 << 20)).await.is_ok()).await;
    assert_eq!(node.get("10.64.0.2:8080", "/hog?32").await.0, 500);
    assert_eq!(node.exit(&id).await.1, ExitReason::OOMKilled);
}

/// A pod holds as many requests as it can.
#[tokio::test]
async fn a_pod_leaves_room_for_instances_of_others() {
    let node = Node::with(|config| config.pool.instances = 16);
    let greedy = node.pod("greedy", probe()).await;
    let neighbour = node.pod("neighbour", probe()).await;
    node.start(greedy).await;
    node.start(neighbour).await;
    let hold = async || {
        let request = crate::node::request("GET", "http://10.64.0.2:8080/stream?1000", crate::node::empty());
        let response = node.send(request).await;
        (response.status() == 200).then_some(response)
    };
    let mut held = Vec::new();
    while let Some(response) = hold().await {
        held.push(response);
    }
    assert_eq!(held.len(), 8, "half of the node's room");
    let refused = (503, "the component has no room for this request now\n".to_owned());
    assert_eq!(node.get("10.64.0.2:8080", "/count").await, refused);
    for _ in 0..3 {
        assert_eq!(node.get("10.64.0.3:8080", "/count").await, (200, "1".to_owned()));
    }
    held.pop();
    until(async || node.get("10.64.0.2:8080", "/count").await.0 == 200).await;
}

/// A memory has a slot of its own and four tables have one, however small they are.
#[tokio::test]
async fn memories_and_tables_take_room() {
    let node = Node::with(|config| config.pool.instances = 16);
    let full = "node is out of capacity: all instance slots of this node are in use: at most 16 alive";
    for (n, (modules, each, expected)) in [
        (16, "(memory 0)", Ok(())),
        (17, "(memory 0)", Err(full)),
        (16, "(table 0 funcref) (table 0 funcref) (table 0 funcref) (table 0 funcref)", Ok(())),
        (33, "(table 0 funcref) (table 0 funcref)", Err(full)),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = node.pod(&format!("large-{n}"), &crate::node::made_of(modules, each)).await;
        let id = spec.id.clone();
        let started = node.engine.start(spec).await;
        assert_eq!(started.as_ref().map_err(ToString::to_string), expected.as_ref().map_err(|full| (*full).to_owned()));
        if started.is_ok() {
            assert_eq!(node.event().await, EngineEvent::Started { id: id.clone() });
            assert_eq!(node.exit(&id).await.0, 0);
        }
    }
}
