//! Commands: what they see, what they write, how they end.

use std::time::Duration;

use expect_test::expect;
use k8w_runtime::engine::{Engine, ExitReason, Preopen};

use crate::node::{Node, preview1, probe};

#[tokio::test]
async fn a_preview_1_command_sees_its_arguments_and_environment() {
    let node = Node::new();
    let mut spec = node.pod("cli", preview1()).await;
    spec.env = vec![("GREETING".to_owned(), "hello".to_owned())];
    let (code, reason, message, log) = node.run(spec, &["print", "one", "two"]).await;
    assert_eq!((code, reason, message.as_str()), (0, ExitReason::Completed, ""));
    expect![[r#"
        stdout F GREETING=hello
        stdout F arg one
        stdout F arg two
        stderr F done
    "#]]
    .assert_eq(&log);
}

/// Its libc takes all memory that there is at its first allocation for its own, the adapter's pages too.
#[tokio::test]
async fn a_module_of_an_older_libc_has_a_heap_of_its_own() {
    const WORDS: usize = 300_000;
    let node = Node::new();
    let volume = node.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("in"), "word ".repeat(WORDS)).unwrap();
    let mut spec = node.pod("cli", include_bytes!("../../../examples/cli/cli.wasm")).await;
    spec.env = [("INPUT", "/data/in"), ("OUTPUT", "/data/out")].map(|(name, value)| (name.into(), value.into())).into();
    spec.preopens =
        vec![Preopen { host_dir: volume.clone(), guest_path: "/data".to_owned(), read_only: false, sub_path: None }];
    let (code, _, _, log) = node.run(spec, &[]).await;
    assert_eq!((code, log.contains(&format!("/data/in has {WORDS} words"))), (0, true), "{log}");
    assert_eq!(std::fs::read_to_string(volume.join("out")).unwrap(), format!("{WORDS}\n"));
}

#[tokio::test]
async fn exit_codes_and_traps_are_told_apart() {
    let node = Node::new();
    let spec = node.pod("exit", preview1()).await;
    let (code, reason, _, _) = node.run(spec, &["exit", "7"]).await;
    assert_eq!((code, reason), (7, ExitReason::Error));
    let spec = node.pod("error", probe()).await;
    let (code, reason, _, _) = node.run(spec, &["exit"]).await;
    assert_eq!((code, reason), (1, ExitReason::Error));
    let spec = node.pod("trap", preview1()).await;
    let (code, reason, message, log) = node.run(spec, &["trap"]).await;
    assert_eq!((code, reason), (134, ExitReason::Error));
    assert!(message.contains("wasm backtrace") && message.contains("unreachable"), "{message}");
    assert!(log.contains("wasm backtrace"), "{log}");
}

#[tokio::test]
async fn mounts_are_all_of_the_file_system_there_is() {
    let node = Node::new();
    let volume = node.dir.path().join("volume");
    std::fs::create_dir_all(volume.join("inner")).unwrap();
    std::fs::write(volume.join("inner/file"), "text").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", volume.join("escape")).unwrap();
    let mount = |guest_path: &str, read_only, sub_path: Option<&str>| Preopen {
        host_dir: volume.clone(),
        guest_path: guest_path.to_owned(),
        read_only,
        sub_path: sub_path.map(str::to_owned),
    };
    let mut spec = node.pod("files", preview1()).await;
    spec.preopens = vec![
        mount("/data", false, None),
        mount("/inner", true, Some("inner")),
        mount("/etc/app/renamed", true, Some("inner/file")),
    ];
    let mut attempt = 0;
    for (args, expected) in [
        (["read", "/data/inner/file"], "text"),
        (["read", "/inner/file"], "text"),
        (["read", "/etc/app/renamed"], "text"),
        (["write", "/data/new"], "written"),
        (["write", "/inner/new"], "refused: PermissionDenied"),
    ] {
        spec.id.attempt = attempt;
        spec.log_path = node.dir.path().join(format!("files-{attempt}.log"));
        attempt += 1;
        let (_, _, _, log) = node.run(spec.clone(), &args).await;
        assert_eq!(log, format!("stdout F {expected}\n"), "{args:?}");
    }
    for outside in ["/data/escape", "/data/../../etc/passwd", "/etc/passwd", "/etc/app/file"] {
        spec.id.attempt = attempt;
        spec.log_path = node.dir.path().join(format!("files-{attempt}.log"));
        attempt += 1;
        let (_, _, _, log) = node.run(spec.clone(), &["read", outside]).await;
        assert!(!log.contains("root:") && !log.contains("F text"), "{outside} was read");
    }
    assert_eq!(std::fs::read_to_string(volume.join("new")).unwrap(), "written");
    let views = std::fs::read_dir(node.dir.path().join("wasm/views")).unwrap().count();
    assert_eq!(views, 0, "views of ended containers are removed");
}

#[tokio::test]
async fn a_file_is_laid_over_one_of_a_volume_for_its_container_alone() {
    let node = Node::new();
    let volume = node.dir.path().join("volume");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("config"), "beneath").unwrap();
    std::fs::write(node.dir.path().join("over"), "above all").unwrap();
    let mount = |name: &str, guest_path: &str, read_only| Preopen {
        host_dir: node.dir.path().join(name),
        guest_path: guest_path.to_owned(),
        read_only,
        sub_path: None,
    };
    let data = || mount("volume", "/data", false);
    let over = |guest_path: &str| mount("over", guest_path, true);
    for (attempt, (preopens, args, expected)) in (0..).zip([
        (vec![over("/data/config"), data()], ["read", "/data/config"], "above all"),
        (vec![over("/data/config"), data()], ["write", "/data/config"], "refused: PermissionDenied"),
        (vec![data(), over("/data/conf/app")], ["read", "/data/conf/app"], "above all"),
        (vec![data(), over("/data/config")], ["write", "/data/new"], "written"),
        (vec![data()], ["read", "/data/config"], "beneath"),
        (vec![data()], ["read", "/data/conf/app"], ""),
    ]) {
        let mut spec = node.pod("lays", preview1()).await;
        spec.id.attempt = attempt;
        spec.log_path = node.dir.path().join(format!("lays-{attempt}.log"));
        spec.preopens = preopens;
        let (_, _, _, log) = node.run(spec, &args).await;
        assert_eq!(log, format!("stdout F {expected}\n"), "{args:?}");
    }
    let mut spec = node.pod("fixed", preview1()).await;
    spec.preopens = vec![mount("volume", "/data", true), over("/data/none")];
    let error = node.engine.start(spec).await.unwrap_err().to_string();
    let expected = "mount /data/none: it cannot be laid over a file of the volume at /data: there is none, \
                    and the volume is mounted read-only";
    assert_eq!(error, expected);
}

#[tokio::test]
async fn a_mount_that_is_not_there_fails_the_start() {
    let node = Node::new();
    let mut spec = node.pod("missing", preview1()).await;
    spec.preopens = vec![Preopen {
        host_dir: node.dir.path().join("nowhere"),
        guest_path: "/data".to_owned(),
        read_only: true,
        sub_path: None,
    }];
    let error = node.engine.start(spec).await.unwrap_err();
    assert!(error.to_string().starts_with("mount /data: "), "{error}");
}

#[tokio::test]
async fn a_command_has_clocks_randomness_and_no_terminal() {
    let node = Node::new();
    let mut spec = node.pod("about", probe()).await;
    spec.working_dir = Some("/work".to_owned());
    let (code, _, _, log) = node.run(spec, &["about"]).await;
    assert_eq!(code, 0);
    let (facts, year) = log.rsplit_once("stdout F year ").unwrap();
    expect![[r#"
        stdout F stdin ""
        stdout F terminals [false, false, false]
        stdout F cwd Some("/work")
        stdout F random true
        stdout F insecure true
        stdout F seed true
    "#]]
    .assert_eq(facts);
    assert!(year.trim().parse::<u32>().unwrap() >= 2024);
}

#[tokio::test]
async fn stopping_ends_a_command_that_waits_and_one_that_spins() {
    let node = Node::new();
    let mut waiting = node.pod("waiting", probe()).await;
    waiting.force_command = true;
    waiting.argv.push("sleep".to_owned());
    let id = node.start(waiting).await;
    node.engine.stop(&id, Duration::from_secs(30)).await;
    assert_eq!(node.exit(&id).await.0, 143);

    let mut spinning = node.pod("spinning", preview1()).await;
    spinning.argv.push("spin".to_owned());
    let id = node.start(spinning).await;
    node.logged("spinning", "spinning").await;
    node.engine.stop(&id, Duration::from_secs(30)).await;
    assert_eq!(node.exit(&id).await.0, 143);
    assert_eq!(node.engine.stats(&id).await, None);
    node.engine.stop(&id, Duration::ZERO).await;
}
