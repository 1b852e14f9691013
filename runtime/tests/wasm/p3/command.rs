//! Commands: what they see, what they write, how they end, and that limits hold for them.

use std::time::{Duration, Instant};

use bytes::Bytes;
use expect_test::expect;
use k8w_runtime::engine::{Command, Engine, ExitReason, Io, Output, Preopen};
use tokio::sync::mpsc;

use crate::limits;
use crate::node::{Node, probe_p3};

#[tokio::test]
async fn a_command_has_clocks_randomness_and_no_terminal() {
    let node = Node::new();
    let mut spec = node.pod("about", probe_p3()).await;
    spec.working_dir = Some("/work".to_owned());
    let (code, _, message, log) = node.run(spec, &["about"]).await;
    assert_eq!((code, message.as_str()), (0, ""));
    let (facts, year) = log.rsplit_once("stdout F year ").unwrap();
    expect![[r#"
        stdout F terminals [false, false, false]
        stdout F cwd Some("/work")
        stdout F random true
        stdout F insecure true
        stdout F seed true
        stderr F an error
    "#]]
    .assert_eq(facts);
    assert!(year.trim().parse::<u32>().unwrap() >= 2024);
}

#[tokio::test]
async fn exit_codes_and_traps_are_told_apart() {
    let node = Node::new();
    let run = async |name: &str, args: &[&str]| {
        let (code, reason, message, _) = node.run(node.pod(name, probe_p3()).await, args).await;
        (code, reason, message)
    };
    assert_eq!(run("exit", &["exit", "7"]).await, (7, ExitReason::Error, String::new()));
    assert_eq!(run("fail", &["fail"]).await, (1, ExitReason::Error, String::new()));
    let (code, reason, message) = run("trap", &["trap"]).await;
    assert_eq!((code, reason), (134, ExitReason::Error));
    assert!(message.contains("wasm backtrace") && message.contains("unreachable"), "{message}");
}

#[tokio::test]
async fn what_a_command_began_it_may_finish() {
    let node = Node::new();
    let (code, _, _, log) = node.run(node.pod("later", probe_p3()).await, &["later", "afterwards"]).await;
    assert_eq!((code, log.as_str()), (0, "stdout F afterwards\n"));
}

#[tokio::test]
async fn standard_input_is_a_stream_that_waits() {
    let node = Node::new();
    let id = node.start(node.pod("server", probe_p3()).await).await;
    let (stdin, input) = mpsc::channel(1);
    let (output, mut outputs) = mpsc::channel(16);
    let argv = ["guest", "cat"].map(str::to_owned).to_vec();
    let exec = node.engine.exec(&id, Command { argv, tty: false }, Io { stdin: Some(input), output });
    let talk = async {
        for word in ["one ", "two"] {
            stdin.send(Bytes::from(word)).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(stdin);
        let mut said = Vec::new();
        while let Some(Output::Stdout(bytes)) = outputs.recv().await {
            said.extend_from_slice(&bytes);
        }
        String::from_utf8(said).unwrap()
    };
    let (code, said) = tokio::join!(exec, talk);
    assert_eq!((code.unwrap(), said.as_str()), (0, "one two"));
}

#[tokio::test]
async fn stopping_ends_a_command_that_waits_and_one_that_spins() {
    let node = Node::new();
    for (name, says) in [("sleep", None), ("spin", Some("spinning")), ("yield", Some("yielding"))] {
        let mut spec = node.pod(name, probe_p3()).await;
        spec.force_command = true;
        spec.argv.push(name.to_owned());
        let id = node.start(spec).await;
        if let Some(says) = says {
            node.logged(name, says).await;
        }
        node.engine.stop(&id, Duration::from_secs(30)).await;
        assert_eq!(node.exit(&id).await.0, 143, "{name}");
    }
}

#[tokio::test]
async fn a_command_over_its_memory_limit_is_oom_killed() {
    limits::a_command_exceeds_its_memory_limit(probe_p3(), &["hog", "64"]).await;
}

/// Streams are the host's memory, not the guest's.
#[tokio::test]
async fn streams_are_counted() {
    let node = Node::new();
    let (code, _, message, _) = node.run(node.pod("streams", probe_p3()).await, &["streams"]).await;
    assert_eq!(code, 134);
    assert!(message.contains("resource table has no free keys"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cpu_limit_holds() {
    let node = Node::new();
    for (name, says) in [("spin", "spinning"), ("yield", "yielding")] {
        let mut spec = node.pod(name, probe_p3()).await;
        spec.force_command = true;
        spec.argv.push(name.to_owned());
        spec.limits.cpu_millis = Some(100);
        let id = node.start(spec).await;
        node.logged(name, says).await;
        let begun = Instant::now();
        let used = || async { Duration::from_nanos(node.engine.stats(&id).await.unwrap().cpu_usage_nanos) };
        let before = used().await;
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        let used = used().await - before;
        // A tenth of the time, the burst saved up, and one tick of debt.
        let most = begun.elapsed() / 10 + Duration::from_millis(10 + 100);
        assert!(used <= most, "{name}: {used:?} used, at most {most:?} allowed");
        node.engine.stop(&id, Duration::ZERO).await;
        node.exit(&id).await;
    }
}

#[tokio::test]
async fn sockets_are_counted() {
    limits::a_command_gets_five_sockets(probe_p3()).await;
}

#[tokio::test]
async fn open_files_are_counted() {
    limits::a_command_has_five_files_open(probe_p3()).await;
}

#[tokio::test]
async fn headers_that_are_kept_are_the_pods_memory() {
    limits::headers_that_a_command_keeps_are_its_memory(probe_p3()).await;
}

#[tokio::test]
async fn a_directory_is_listed_however_much_it_holds() {
    limits::a_command_lists_a_directory(probe_p3(), "Other(None)").await;
}

#[tokio::test]
async fn a_file_that_another_is_laid_over_is_out_of_reach() {
    let node = Node::new();
    let path = |name: &str| node.dir.path().join(name);
    std::fs::create_dir(path("volume")).unwrap();
    std::fs::write(path("volume/other"), "other").unwrap();
    let mount = |name: &str, guest_path: &str, read_only| Preopen {
        host_dir: path(name),
        guest_path: guest_path.to_owned(),
        read_only,
        sub_path: None,
    };
    for (name, read_only) in [("open", false), ("fixed", true)] {
        std::fs::write(path(name), "above all").unwrap();
        let mut spec = node.pod(name, probe_p3()).await;
        spec.preopens = vec![mount("volume", "/data", false), mount(name, &format!("/data/{name}"), read_only)];
        let (code, _, message, said) = node.run(spec, &["names", name]).await;
        assert_eq!((code, message.as_str()), (0, ""), "{said}");
        match read_only {
            false => expect![[r#"
                stdout F read "above all"
                stdout F stat (9, true)
                stdout F write ()
                stdout F make anew refused: ErrorCode::Exist
                stdout F list refused: ErrorCode::NotDirectory
                stdout F read "written"
                stdout F touch ()
                stdout F rename from refused: ErrorCode::Busy
                stdout F rename to refused: ErrorCode::Busy
                stdout F link from refused: ErrorCode::CrossDevice
                stdout F link to refused: ErrorCode::Exist
                stdout F unlink refused: ErrorCode::Busy
            "#]],
            true => expect![[r#"
                stdout F read "above all"
                stdout F stat (9, true)
                stdout F write refused: ErrorCode::NotPermitted
                stdout F make anew refused: ErrorCode::Exist
                stdout F list refused: ErrorCode::NotDirectory
                stdout F read "above all"
                stdout F touch refused: ErrorCode::NotPermitted
                stdout F rename from refused: ErrorCode::Busy
                stdout F rename to refused: ErrorCode::Busy
                stdout F link from refused: ErrorCode::CrossDevice
                stdout F link to refused: ErrorCode::Exist
                stdout F unlink refused: ErrorCode::Busy
            "#]],
        }
        .assert_eq(&said);
    }
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    assert_eq!(["open", "fixed", "volume/open", "volume/fixed"].map(read), ["written", "above all", "", ""]);
}
