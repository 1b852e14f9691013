//! How a pod ends: with requests under way, with a process that does not listen, and by force.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use k8w_testkit::{Recorder, Running, eventually, get};
use serde_json::Value;

use crate::{Sandbox, sandbox};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request whose answer is what it sends, and that has not sent everything yet.
struct UnderWay {
    stream: TcpStream,
    read: Vec<u8>,
}

impl UnderWay {
    /// Begins a request to the pod `serves`, through the ingress, and waits until its first words have come back.
    fn begin(t: &Sandbox) -> UnderWay {
        let host = format!("{}.test", t.namespace);
        eventually("the ingress leads to the pod", || match get(t.cluster.ingress_http(), &host, "/count")? {
            answer if answer.status == 200 => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        let mut stream = TcpStream::connect(t.cluster.ingress_http()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head =
            format!("POST /echo HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(format!("{head}6\r\nbefore\r\n").as_bytes()).unwrap();
        let mut request = UnderWay { stream, read: Vec::new() };
        request.reads("before");
        request
    }

    fn reads(&mut self, text: &str) {
        while !self.said().contains(text) {
            let mut buffer = [0; 1_024];
            let length = self.stream.read(&mut buffer).unwrap();
            assert!(length > 0, "it ended without {text:?}: {}", self.said());
            self.read.extend_from_slice(&buffer[..length]);
        }
    }

    fn says(&mut self, text: &str) {
        self.stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).unwrap();
        self.reads(text);
    }

    /// Whether the answer is whole, once there is no more of it.
    fn ends_whole(mut self) -> bool {
        // One that is broken off ends with an error, or just ends.
        if let Err(error) = self.stream.read_to_end(&mut self.read) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it is neither answered nor cut: {}", self.said());
        }
        self.read.ends_with(b"\r\n0\r\n\r\n")
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

/// A pod `serves` behind the ingress; `false` where its guest is not built.
fn serves(t: &Sandbox) -> bool {
    serves_with(t, "")
}

/// Likewise, with these fields more in its spec.
fn serves_with(t: &Sandbox, spec: &str) -> bool {
    let namespace = &t.namespace;
    if !t.probe_pod("serves", &format!("terminationGracePeriodSeconds: 600, {spec}"), "") {
        return false;
    }
    t.kubectl.ok(&["expose", "pod", "serves", "--port=80", "--target-port=8080"]);
    t.kubectl.ok(&["create", "ingress", "serves", &format!("--rule={namespace}.test/*=serves:80")]);
    true
}

#[test]
fn a_request_under_way_is_answered_to_its_end() {
    let t = sandbox();
    if !serves(&t) {
        return;
    }
    let mut request = UnderWay::begin(&t);
    t.kubectl.ok(&["delete", "pod", "serves", "--wait=false"]);
    eventually("nobody new is let in", || {
        match get(t.cluster.ingress_http(), &format!("{}.test", t.namespace), "/count")? {
            answer if answer.status == 503 => Ok(()),
            answer => Err(format!("{answer:?}")),
        }
    });
    request.says("after");
    let shown = "jsonpath={.metadata.deletionGracePeriodSeconds} {.status.phase}";
    assert_eq!(t.kubectl.ok(&["get", "pod", "serves", "-o", shown]), "600 Running");
    request.stream.write_all(b"0\r\n\r\n").unwrap();
    assert!(request.ends_whole());
    t.kubectl.ok(&["wait", "--for=delete", "pod/serves", "--timeout=60s"]);
}

#[test]
fn a_request_beyond_the_grace_is_cut() {
    let t = sandbox();
    if !serves(&t) {
        return;
    }
    let mut request = UnderWay::begin(&t);
    t.kubectl.ok(&["delete", "pod", "serves", "--wait=false"]);
    request.says("more");
    // Who asks again may shorten what is left.
    t.kubectl.ok(&["delete", "pod", "serves", "--grace-period=1", "--timeout=60s"]);
    assert!(!request.ends_whole());
}

#[test]
fn a_sidecar_begins_to_end_with_the_others_and_ends_after_them() {
    let t = sandbox();
    let recorder = Recorder::start();
    let hook = format!("{{httpGet: {{host: 127.0.0.1, port: {}, path: /ends}}}}", recorder.port());
    let sidecar = format!(
        "initContainers: [{{name: side, image: '{}', restartPolicy: Always, ports: [{{containerPort: 8081}}],
        lifecycle: {{preStop: {hook}}}}}]",
        t.probe_image().unwrap_or_default()
    );
    if !serves_with(&t, &sidecar) {
        return;
    }
    let mut request = UnderWay::begin(&t);
    t.kubectl.ok(&["delete", "pod", "serves", "--wait=false"]);
    eventually("the sidecar's hook is called", || match recorder.paths() {
        paths if paths == ["/ends"] => Ok(()),
        paths => Err(format!("{paths:?}")),
    });
    request.says("after");
    let shown = "jsonpath={.status.initContainerStatuses[0].state.running.startedAt} {.status.phase}";
    assert!(t.kubectl.ok(&["get", "pod", "serves", "-o", shown]).ends_with("Z Running"));
    request.stream.write_all(b"0\r\n\r\n").unwrap();
    assert!(request.ends_whole());
    t.kubectl.ok(&["wait", "--for=delete", "pod/serves", "--timeout=60s"]);
    assert_eq!(recorder.paths(), ["/ends"], "once");
}

#[test]
fn by_force_a_pod_is_gone_at_once() {
    let t = sandbox();
    if !serves(&t) {
        return;
    }
    let request = UnderWay::begin(&t);
    let forced = t.kubectl.run(&["delete", "pod", "serves", "--force", "--grace-period=0"]);
    assert!(forced.success && forced.stdout.contains("pod \"serves\" force deleted"), "{forced:?}");
    assert!(forced.stderr.contains("Immediate deletion does not wait for confirmation"), "{forced:?}");
    assert_eq!(t.kubectl.ok(&["get", "pods", "-o", "name"]), "");
    assert!(!request.ends_whole());
    let taken = t.probe_pod("serves", "terminationGracePeriodSeconds: 1", "");
    assert!(taken, "its name is free again");
}

/// WASI has no signals: a process to which nobody is connected could do nothing with its grace.
#[test]
fn a_process_ends_as_if_by_a_signal() {
    let t = sandbox();
    let watch = ["get", "pods", "--watch", "--output-watch-events", "-o", "json"];
    let mut watch = Running::start(&mut t.kubectl.command(&watch));
    let mut events = serde_json::Deserializer::from_reader(watch.stdout()).into_iter::<Value>().map(Result::unwrap);
    if !t.probe_pod("sleeps", "terminationGracePeriodSeconds: 600", "args: [sleep]") {
        return;
    }
    t.kubectl.ok(&["delete", "pod", "sleeps", "--timeout=60s"]);
    let last = events.find(|event| event["type"] == "DELETED").unwrap();
    let ended = &last["object"]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&ended["exitCode"], &ended["reason"]), (&Value::from(143), &Value::from("Error")), "{ended}");
}
