//! `logs` in all its variants.

use std::io::BufRead;

use jiff::Timestamp;
use k8w_testkit::{Running, eventually};

use crate::{HELLO, hello_pod, hello_workload, sandbox};

/// Says a line on each of its streams.
const BOTH: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\05\00\00\00\15\00\00\00\0a\00\00\00said\nwhispered\n")
  (func (export "_start")
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))
    (drop (call $write (i32.const 2) (i32.const 8) (i32.const 1) (i32.const 64)))))"#;

#[test]
fn each_container_has_a_log_and_all_can_be_had_at_once() {
    let t = sandbox();
    let image = t.cli_image();
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: talks}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  initContainers: [{{name: prepares, image: '{image}', args: [early]}}]
  containers: [{{name: a, image: '{image}', args: [a]}}, {{name: b, image: '{image}', args: [b]}}]
"
    ));
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/talks", "--timeout=60s"]);
    let logs = |arguments: &[&str]| t.kubectl.run(&[&["logs", "talks"][..], arguments].concat());
    let first = logs(&[]);
    assert_eq!(first.stdout, "Hello, a!\n");
    assert!(first.stderr.contains("Defaulted container \"a\" out of: a, b, prepares (init)"), "{first:?}");
    assert_eq!(logs(&["-c", "prepares"]).stdout, "Hello, early!\n");
    // kubectl asks for them in no order.
    let all = |flags: &[&str]| {
        let said = logs(&[&["--all-containers"], flags].concat()).stdout;
        let mut lines: Vec<String> = said.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(all(&[]), ["Hello, a!", "Hello, b!", "Hello, early!"]);
    let named = ["[pod/talks/a] Hello, a!", "[pod/talks/b] Hello, b!", "[pod/talks/prepares] Hello, early!"];
    assert_eq!(all(&["--prefix"]), named);
    assert_eq!(logs(&["-c", "b", "--limit-bytes=5"]).stdout, "Hello");
    assert_eq!(logs(&["-c", "b", "--since=1h"]).stdout, "Hello, b!\n");
    assert_eq!(logs(&["-c", "b", "--since-time=2024-01-01T00:00:00Z"]).stdout, "Hello, b!\n");
    assert_eq!(logs(&["-c", "b", "--since-time=2924-01-01T00:00:00Z"]).stdout, "");
    let unknown = logs(&["-c", "c"]);
    assert!(unknown.stderr.contains("container c is not valid for pod talks"), "{unknown:?}");
    let previous = logs(&["-c", "b", "--previous"]);
    assert!(previous.stderr.contains("previous terminated container \"b\" in pod \"talks\" not found"), "{previous:?}");
}

#[test]
fn all_pods_of_a_deployment_can_be_had_at_once() {
    let t = sandbox();
    let image = t.cli_image();
    let workload = hello_workload("Deployment", "talks", "replicas: 2", "");
    t.kubectl.apply(&workload.replace(HELLO, image).replace("name: hello,", "name: main,"));
    eventually("both have spoken", || {
        let said = t.kubectl.run(&["logs", "deployment/talks", "--all-pods"]);
        let pods = t.kubectl.ok(&["get", "pods", "-l", "app=talks", "-o", "jsonpath={.items[*].metadata.name}"]);
        let mut lines: Vec<&str> = said.stdout.lines().collect();
        let mut expected: Vec<String> = pods.split(' ').map(|pod| format!("[pod/{pod}/main] Hello, world!")).collect();
        lines.sort_unstable();
        expected.sort_unstable();
        if lines.len() == 2 && lines == expected { Ok(()) } else { Err(format!("{said:?} of {pods}")) }
    });
}

/// No client asks for that yet but by its path.
#[test]
fn one_of_the_two_streams_of_a_log_can_be_had() {
    let t = sandbox();
    let image = t.text_image("both", BOTH);
    t.kubectl.apply(&hello_pod("both", "restartPolicy: Never", "").replace(HELLO, &image));
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/both", "--timeout=60s"]);
    let path = format!("/api/v1/namespaces/{}/pods/both/log", t.namespace);
    for (query, expected) in [
        ("", ["said", "whispered"].as_slice()),
        ("?stream=All", &["said", "whispered"]),
        ("?stream=Stdout", &["said"]),
        ("?stream=Stderr", &["whispered"]),
    ] {
        let log = t.kubectl.ok(&["get", "--raw", &format!("{path}{query}")]);
        let mut lines: Vec<&str> = log.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, expected, "{query}");
    }
    let refused = t.kubectl.fails(&["get", "--raw", &format!("{path}?stream=stdout")]);
    assert!(refused.contains(r#"supported values: "All", "Stderr", "Stdout""#), "{refused}");
    let refused = t.kubectl.fails(&["get", "--raw", &format!("{path}?stream=Stdout&tailLines=1")]);
    assert!(refused.contains("mutually exclusive"), "{refused}");
}

#[test]
fn the_log_of_the_attempt_before_is_kept() {
    let t = sandbox();
    let image = t.cli_image();
    t.kubectl.ok(&["create", "configmap", "who", "--from-literal=name=first", "--from-literal=input=/none"]);
    // It fails until there is something to read. What ended well stays as it is, and so do both of its logs.
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: again}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: OnFailure
  containers:
  - name: main
    image: '{image}'
    env:
    - {{name: WHO, valueFrom: {{configMapKeyRef: {{name: who, key: name}}}}}}
    - {{name: INPUT, valueFrom: {{configMapKeyRef: {{name: who, key: input}}}}}}
    - {{name: OUTPUT, value: /dev/termination-log}}
"
    ));
    let log = |arguments: &[&str]| {
        let log = t.kubectl.run(&[&["logs", "again"][..], arguments].concat()).stdout;
        log.lines().next().unwrap_or_default().to_owned()
    };
    eventually("it has run", || match log(&[]) {
        log if log == "Hello, first!" => Ok(()),
        log => Err(log),
    });
    t.kubectl.ok(&["patch", "configmap", "who", "-p", r#"{"data": {"name": "second", "input": "/etc/hostname"}}"#]);
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/again", "--timeout=60s"]);
    assert_eq!([log(&["--previous"]), log(&[])], ["Hello, first!", "Hello, second!"]);
}

#[test]
fn a_line_is_followed_as_it_comes_and_found_by_its_time() {
    let t = sandbox();
    let Some(image) = t.probe_image() else { return };
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: says, labels: {{app: says}}}}
spec:
  runtimeClassName: wasmtime
  containers: [{{name: main, image: '{image}', ports: [{{containerPort: 8080}}]}}]
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/says", "--timeout=60s"]);
    let say = |word: &str| {
        let path = format!("/api/v1/namespaces/{}/pods/says:8080/proxy/log?{word}", t.namespace);
        assert_eq!(t.kubectl.ok(&["get", "--raw", &path]), "logged");
    };
    let mut following = Running::start(&mut t.kubectl.command(&["logs", "-f", "says"]));
    let mut lines = following.stdout().lines().map(Result::unwrap);
    say("n=1");
    assert_eq!(lines.next().unwrap(), "n=1");
    say("n=2");
    assert_eq!(lines.next().unwrap(), "n=2");

    // Times are asked for in seconds.
    let second = Timestamp::now().as_second();
    eventually("the next second", || match Timestamp::now().as_second() {
        now if now > second => Ok(()),
        _ => Err("not yet".to_owned()),
    });
    say("n=3");
    assert_eq!(lines.next().unwrap(), "n=3");
    let stamped = t.kubectl.ok(&["logs", "says", "--timestamps", "--tail=1"]);
    let time = stamped.split(' ').next().unwrap();
    assert_eq!(t.kubectl.ok(&["logs", "says", "--since-time", time]), "n=3\n");
    assert_eq!(t.kubectl.ok(&["logs", "says"]), "n=1\nn=2\nn=3\n");
    assert_eq!(t.kubectl.ok(&["logs", "-l", "app=says", "--tail=2"]), "n=2\nn=3\n");
    eventually("they are older than a second", || match t.kubectl.ok(&["logs", "says", "--since=1s"]) {
        young if young.is_empty() => Ok(()),
        young => Err(young),
    });

    t.kubectl.ok(&["delete", "pod", "says", "--grace-period=1", "--wait=false"]);
    assert_eq!(lines.next(), None, "the log ends with its pod");
}

#[test]
fn a_log_is_whole_over_its_rotation() {
    /// More than one file of a log holds.
    const LINES: usize = 12_000;
    let t = sandbox();
    let Some(image) = t.probe_image() else { return };
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: chats}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers: [{{name: main, image: '{image}', args: [lines, '{LINES}']}}]
"
    ));
    t.kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/chats", "--timeout=90s"]);
    let logs = |arguments: &[&str]| t.kubectl.ok(&[&["logs", "chats"][..], arguments].concat());
    let numbers = |log: String| -> Vec<usize> {
        log.lines().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect()
    };
    assert_eq!(numbers(logs(&[])), (0..LINES).collect::<Vec<_>>());
    assert_eq!(numbers(logs(&["--tail=11000"])), (LINES - 11_000..LINES).collect::<Vec<_>>());
    let uid = t.kubectl.ok(&["get", "pod", "chats", "-o", "jsonpath={.metadata.uid}"]);
    let folder = t.cluster.data_dir().join("node/logs").join(format!("{}_chats_{uid}/main", t.namespace));
    let files = std::fs::read_dir(folder).unwrap().count();
    assert!(files > 1, "{files} files");
}
