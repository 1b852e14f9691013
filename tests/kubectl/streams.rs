//! `exec`, `cp`, `attach` and `port-forward`, over WebSockets and over SPDY; proxies; `top`.

use std::fs::File;
use std::io::{BufRead, Read, Write};
use std::process::Stdio;

use k8w_testkit::{Outcome, Running, eventually};

use crate::{Sandbox, repo, sandbox};

/// How kubectl is told which transport to use.
const TRANSPORTS: &[(&str, &str)] = &[("websocket", "true"), ("spdy", "false")];

/// A sandbox with an http pod `web` that has a volume at `/data` and a read-only one at `/fixed`.
fn with_pod() -> Sandbox {
    let t = sandbox();
    let image = t.hello_image();
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: fixed}}
data: {{greeting: hello}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, labels: {{app: web}}}}
spec:
  runtimeClassName: wasmtime
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - {{name: fixed, configMap: {{name: fixed}}}}
  containers:
  - name: web
    image: {image}
    ports: [{{name: http, containerPort: 8080}}]
    env: [{{name: COLOUR, value: blue}}]
    volumeMounts:
    - {{name: data, mountPath: /data}}
    - {{name: fixed, mountPath: /fixed, readOnly: true}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: http}}]}}
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    t
}

impl Sandbox {
    /// Runs kubectl over one of the transports.
    fn over(&self, websockets: &str, arguments: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.kubectl.command(arguments);
        Outcome::of(command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets), input)
    }
}

#[test]
fn exec_runs_what_every_pod_has() {
    let t = with_pod();
    for (name, websockets) in TRANSPORTS {
        let exec = |command: &[&str]| t.over(websockets, &[&["exec", "web", "--"], command].concat(), b"");
        let env = exec(&["env"]);
        assert!(env.success && env.stdout.contains("COLOUR=blue\n"), "{name}: {env:?}");
        assert_eq!(exec(&["ls", "/"]).stdout, "data\nfixed\nvar\n", "{name}");
        assert_eq!(exec(&["cat", "/fixed/greeting"]).stdout, "hello", "{name}");
        assert_eq!(exec(&["echo", "a b", "c"]).stdout, "a b c\n", "{name}");
    }
}

/// A command that waits for what a client says, and one that never ends.
#[test]
fn commands_end_with_their_pod() {
    let t = with_pod();
    // One that has begun: it gives back what it is told.
    let cat = |input: Stdio| {
        let mut command = t.kubectl.command(&["exec", "-i", "web", "--", "cat"]);
        let mut client = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (says, mut hears) = (client.stdin.take(), client.stdout.take().unwrap());
        if let Some(mut says) = says.as_ref() {
            says.write_all(b"hello\n").unwrap();
        }
        hears.read_exact(&mut [0; 6]).unwrap();
        std::thread::spawn(move || std::io::copy(&mut hears, &mut std::io::sink()));
        (client, says)
    };
    let clients = [cat(Stdio::piped()), cat(File::open("/dev/zero").unwrap().into())];
    t.kubectl.ok(&["delete", "pod", "web", "--grace-period=1"]);
    for (mut client, _says) in clients {
        let status = eventually("the end of a command", || client.try_wait().unwrap().ok_or("it goes on".to_owned()));
        assert_eq!(status.code(), Some(137));
    }
}

#[test]
fn exit_codes_and_errors_reach_the_user() {
    let t = with_pod();
    for (name, websockets) in TRANSPORTS {
        let exec = |command: &[&str]| t.over(websockets, &[&["exec", "web", "--"], command].concat(), b"");
        let missing = exec(&["cat", "/nowhere"]);
        assert_eq!(
            missing.stderr, "cat: /nowhere: No such file or directory\ncommand terminated with exit code 1\n",
            "{name}"
        );
        let shell = exec(&["sh", "-c", "ls"]);
        assert!(shell.stderr.contains("exec: \"sh\": there is no shell in a wasm pod"), "{name}: {}", shell.stderr);
        let unknown = exec(&["frobnicate"]);
        assert!(unknown.stderr.contains("executable file not found"), "{name}: {}", unknown.stderr);
    }
    let container = t.kubectl.fails(&["exec", "web", "-c", "none", "--", "env"]);
    assert!(
        container.contains("container none is not valid for pod web") || container.contains("not found"),
        "{container}"
    );
}

#[test]
fn input_reaches_a_command_to_its_end() {
    let t = with_pod();
    let input = "line\n".repeat(40_000);
    for (name, websockets) in TRANSPORTS {
        let echoed = t.over(websockets, &["exec", "-i", "web", "--", "cat"], input.as_bytes());
        assert!(echoed.success && echoed.stdout == input, "{name}: {} of {} bytes", echoed.stdout.len(), input.len());
    }
}

#[test]
fn files_are_copied_both_ways_and_a_copied_component_runs() {
    let t = with_pod();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    std::fs::create_dir_all(tree.join("deep")).unwrap();
    std::fs::write(tree.join("deep/file"), vec![b'x'; 200_000]).unwrap();
    let (from, back) = (tree.to_str().unwrap(), scratch.path().join("back"));
    t.kubectl.ok(&["cp", from, "web:/data/"]);
    assert_eq!(t.kubectl.ok(&["exec", "web", "--", "ls", "/data/tree"]), "deep\n");
    t.kubectl.ok(&["cp", "web:/data/tree", back.to_str().unwrap()]);
    assert_eq!(std::fs::read(back.join("deep/file")).unwrap(), vec![b'x'; 200_000]);
    let refused = t.kubectl.fails(&["cp", from, "web:/fixed/"]);
    assert!(refused.contains("Read-only file system"), "{refused}");

    let component = repo("examples/cli/cli.wasm");
    t.kubectl.ok(&["cp", component.to_str().unwrap(), "web:/data/cli.wasm"]);
    assert_eq!(t.kubectl.ok(&["exec", "web", "--", "/data/cli.wasm", "you"]), "Hello, you!\n");
}

#[test]
fn ports_are_forwarded() {
    let t = with_pod();
    for (name, websockets) in TRANSPORTS {
        for (to, port) in [("pod/web", ":8080"), ("pod/web", ":http"), ("service/web", ":80")] {
            let mut command = t.kubectl.command(&["port-forward", to, port]);
            let mut running = Running::start(command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets));
            let address = running.forwards();
            for _ in 0..3 {
                let answer = k8w_testkit::get(address, "hello", "/").unwrap();
                assert!(answer.status == 200 && answer.body.contains("Hello"), "{name} {to}: {answer:?}");
            }
        }
    }
}

#[test]
fn a_port_where_nobody_listens_is_not_forwarded() {
    let t = with_pod();
    for (name, websockets) in TRANSPORTS {
        let mut command = t.kubectl.command(&["port-forward", "pod/web", ":81"]);
        let mut running = Running::start(command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets));
        let address = running.forwards();
        assert!(k8w_testkit::get(address, "hello", "/").is_err(), "{name}");
        // kubectl ends by itself then; it says "an" up to 1.36, "An" since.
        let ended = running.outcome();
        assert!(!ended.success && ended.stderr.contains("n error occurred forwarding"), "{name}: {ended:?}");
    }
}

/// Conformance: "Proxy through apiserver to a Service"; "Proxy, validate Proxy responses"; "Proxy, validate
/// ProxyWithPath responses".
#[test]
fn proxies_lead_to_pods_services_and_nodes() {
    let t = with_pod();
    let namespace = &t.namespace;
    for path in ["pods/web/proxy/", "pods/http:web:8080/proxy/", "services/web:http/proxy/", "services/web:80/proxy/"] {
        let body = t.kubectl.ok(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/{path}")]);
        assert!(body.contains("Hello"), "{path}: {body}");
    }
    let node = t.kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    assert_eq!(t.kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/healthz")]), "ok");
    let closed = t.kubectl.fails(&["get", "--raw", &format!("/api/v1/namespaces/{namespace}/pods/web:81/proxy/")]);
    assert!(closed.contains("error trying to reach service"), "{closed}");
}

/// Repeats its input until that ends.
const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $again
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 1024))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $again))))))"#;

impl Sandbox {
    /// An image of [`ECHO`], on the cluster's node.
    pub(crate) fn echo_image(&self) -> &'static str {
        self.text_image("echo", ECHO);
        "localhost/echo:latest"
    }
}

#[test]
fn clients_attach_to_what_runs() {
    let t = sandbox();
    t.echo_image();
    for (name, websockets) in TRANSPORTS {
        t.ends_by_itself(name, "", "{name: echo, image: 'localhost/echo:latest', stdin: true, stdinOnce: true}");
        t.kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        let attached = t.over(websockets, &["attach", "-i", "-q", name], b"hello\n");
        assert_eq!((attached.success, attached.stdout.as_str()), (true, "hello\n"), "{name}: {attached:?}");
        let over = "--for=jsonpath={.status.phase}=Succeeded";
        t.kubectl.ok(&["wait", over, &format!("pod/{name}"), "--timeout=60s"]);
        assert_eq!(t.kubectl.ok(&["logs", name]), "hello\n");
    }
    let overrides = r#"--overrides={"spec":{"runtimeClassName":"wasmtime"}}"#;
    let run = ["run", "once", "--image=localhost/echo:latest", "--restart=Never", "-i", "--rm", "-q", overrides];
    assert_eq!(t.over("true", &run, b"hi\n").stdout, "hi\n");
}

#[test]
fn two_clients_attach_and_say_nothing() {
    let t = sandbox();
    if !t.probe_pod("says", "terminationGracePeriodSeconds: 1", "") {
        return;
    }
    let mut clients: Vec<Running> = TRANSPORTS
        .iter()
        .map(|(_, websockets)| {
            let mut command = t.kubectl.command(&["attach", "says"]);
            Running::start(command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets))
        })
        .collect();
    let mut heard: Vec<_> = clients.iter_mut().map(|client| client.stdout().lines().map(Result::unwrap)).collect();
    let path = format!("/api/v1/namespaces/{}/pods/says:8080/proxy/log?", t.namespace);
    // Nobody says when a client is attached, so it is told until it hears.
    for lines in &mut heard {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || sender.send(lines.next()));
            let line = eventually("a line", || {
                t.kubectl.ok(&["get", "--raw", &format!("{path}again")]);
                receiver.try_recv().map_err(|error| error.to_string())
            });
            assert_eq!(line.as_deref(), Some("again="));
        });
    }
}

#[test]
fn top_shows_what_pods_and_nodes_use() {
    let t = with_pod();
    let pods = t.kubectl.ok(&["top", "pod", "--containers", "--no-headers"]);
    let columns: Vec<&str> = pods.split_whitespace().collect();
    assert!(
        matches!(columns[..], ["web", "web", cpu, memory] if cpu.ends_with('m') && memory.ends_with("Mi")),
        "{pods}"
    );
    assert_eq!(t.kubectl.run(&["top", "pod", "-l", "app=none"]).stdout, "");
    let nodes = t.kubectl.ok(&["top", "node", "--no-headers"]);
    assert_eq!(nodes.split_whitespace().count(), 5, "{nodes}");
    let missing = t.kubectl.fails(&["top", "pod", "none"]);
    assert!(missing.contains("NotFound"), "{missing}");
}

#[test]
fn processes_are_shared_by_the_containers_of_a_pod_that_asks_for_it() {
    let t = sandbox();
    let image = t.hello_image();
    let pod = |name: &str, shared: bool| {
        let container = |word: &str, port: u16| {
            let fields = format!("args: [{word}], ports: [{{containerPort: {port}}}]");
            format!("{{name: {word}, image: '{image}', {fields}}}")
        };
        format!(
            "
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: wasmtime
  shareProcessNamespace: {shared}
  containers: [{}, {}]
",
            container("first", 8080),
            container("second", 8081)
        )
    };
    t.kubectl.apply(&format!("{}{}", pod("shared", true), pod("apart", false)));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/shared", "pod/apart", "--timeout=60s"]);
    let seen = |pod: &str| {
        let processes = t.kubectl.ok(&["exec", pod, "-c", "second", "--", "ps"]);
        ["first", "second", "ps"].map(|word| processes.lines().filter(|line| line.ends_with(word)).count())
    };
    assert_eq!((seen("shared"), seen("apart")), ([1, 1, 1], [0, 1, 1]));
}
