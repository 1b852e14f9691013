//! Hooks of containers: what they call is called, after the start and before the end.

use std::io::{Read, Write};
use std::net::TcpListener;

use k8w_testkit::{Recorder, eventually};

use crate::sandbox;

/// Conformance: "Pod Lifecycle, post start http hook"; "Pod Lifecycle, prestop http hook"; "Pods, prestop hook".
#[test]
fn hooks_ask_a_server() {
    let t = sandbox();
    let recorder = Recorder::start();
    let port = recorder.port();
    let hooks = format!(
        "lifecycle: {{
        postStart: {{httpGet: {{host: 127.0.0.1, port: {port}, path: '/echo?msg=poststart'}}}},
        preStop: {{httpGet: {{host: 127.0.0.1, port: {port}, path: '/echo?msg=prestop'}}}}}}"
    );
    t.hello_pod("hooked", "", &hooks);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hooked", "--timeout=60s"]);
    eventually("the server was asked after the start", || match recorder.paths() {
        paths if paths == ["/echo?msg=poststart"] => Ok(()),
        paths => Err(format!("{paths:?}")),
    });
    t.kubectl.ok(&["delete", "pod", "hooked", "--timeout=60s"]);
    assert_eq!(recorder.paths(), ["/echo?msg=poststart", "/echo?msg=prestop"]);
}

/// Conformance: "Pod Lifecycle, post start exec hook"; "Pod Lifecycle, prestop exec hook".
#[test]
fn hooks_run_a_command() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("words"), "one two three").unwrap();
    let count = folder.path().join("count");
    let spec = format!(
        "volumes: [
        {{name: tools, image: {{reference: '{cli}'}}}},
        {{name: outside, hostPath: {{path: {folder}, type: Directory}}}}]",
        cli = t.cli_image(),
        folder = folder.path().display()
    );
    let container = "env: [{name: INPUT, value: /outside/words}, {name: OUTPUT, value: /outside/count}],
        lifecycle: {
        postStart: {exec: {command: [/tools/cli.wasm]}},
        preStop: {exec: {command: [/tools/cli.wasm]}}},
        volumeMounts: [{name: tools, mountPath: /tools}, {name: outside, mountPath: /outside}]";
    t.hello_pod("hooked", &spec, container);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hooked", "--timeout=60s"]);
    eventually("the command ran after the start", || match std::fs::read_to_string(&count) {
        Ok(text) if text == "3\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    std::fs::remove_file(&count).unwrap();
    t.kubectl.ok(&["delete", "pod", "hooked", "--timeout=60s"]);
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "3\n");
}

#[test]
fn a_hook_is_content_with_any_answer() {
    let t = sandbox();
    let recorder = Recorder::start();
    recorder.set_status(500);
    let hook = format!("{{httpGet: {{host: 127.0.0.1, port: {}, path: /start}}}}", recorder.port());
    t.hello_pod("hooked", "", &format!("lifecycle: {{postStart: {hook}}}"));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hooked", "--timeout=60s"]);
    assert_eq!(recorder.paths(), ["/start"]);
}

#[test]
fn a_hook_by_https_takes_any_certificate_and_a_component_by_http() {
    let t = sandbox();
    let api = t.kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let port = api.rsplit(':').next().unwrap();
    let foreign = format!("{{httpGet: {{host: 127.0.0.1, port: {port}, path: /livez, scheme: HTTPS}}}}");
    let own = "{httpGet: {port: 8080, scheme: HTTPS}}";
    t.hello_pod("hooked", "", &format!("lifecycle: {{postStart: {foreign}}}"));
    t.hello_pod("own", "", &format!("lifecycle: {{postStart: {own}}}"));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hooked", "pod/own", "--timeout=60s"]);
    eventually("the event", || match t.kubectl.ok(&["events", "--for", "pod/own"]) {
        told if told.contains(":8080) got HTTP response, retry with HTTP succeeded") => Ok(()),
        told => Err(told),
    });
}

#[test]
fn a_start_ends_with_its_hook() {
    let t = sandbox();
    let image = t.hello_image();
    let asked = TcpListener::bind("127.0.0.1:0").unwrap();
    let hook = format!("{{httpGet: {{host: 127.0.0.1, port: {}}}}}", asked.local_addr().unwrap().port());
    let sidecar = format!(
        "initContainers: [{{name: side, image: '{image}', restartPolicy: Always, ports: [{{containerPort: 8081}}],
        lifecycle: {{postStart: {hook}}}}}]"
    );
    t.hello_pod("hooked", &sidecar, "");
    let (mut stream, _) = asked.accept().unwrap();
    let reason = |list: &str| {
        let path = format!("jsonpath={{.status.{list}[0].state.waiting.reason}}");
        t.kubectl.ok(&["get", "pod", "hooked", "-o", &path])
    };
    eventually("the pod says what it waits for", || match reason("containerStatuses") {
        reason if reason == "PodInitializing" => Ok(()),
        reason => Err(reason),
    });
    assert_eq!(reason("initContainerStatuses"), "PodInitializing", "nobody is told that it runs");
    let mut head = [0; 1024];
    let _ = stream.read(&mut head).unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hooked", "--timeout=60s"]);
}

/// A hook that nobody answers.
fn to_nobody() -> String {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("{{httpGet: {{host: 127.0.0.1, port: {port}}}}}")
}

#[test]
fn a_start_whose_hook_fails_is_none() {
    let t = sandbox();
    t.hello_pod("hooked", "terminationGracePeriodSeconds: 1", &format!("lifecycle: {{postStart: {}}}", to_nobody()));
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].ready}";
    eventually("it is restarted", || match t.kubectl.ok(&["get", "pod", "hooked", "-o", restarts]) {
        shown if shown == "2/false" => Ok(()),
        shown => Err(shown),
    });
    eventually("events say why", || match t.kubectl.ok(&["events", "--for", "pod/hooked"]) {
        told if ["FailedPostStartHook", "PostStartHook failed", "BackOff"].iter().all(|part| told.contains(part)) => {
            Ok(())
        }
        told => Err(told),
    });
}

#[test]
fn a_container_ends_although_its_hook_fails() {
    let t = sandbox();
    t.hello_pod("hooked", "terminationGracePeriodSeconds: 600", &format!("lifecycle: {{preStop: {}}}", to_nobody()));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/hooked", "--timeout=60s"]);
    t.kubectl.ok(&["delete", "pod", "hooked", "--timeout=60s"]);
    eventually("an event says why", || match t.kubectl.ok(&["get", "events"]) {
        told if told.contains("FailedPreStopHook") && told.contains("PreStopHook failed") => Ok(()),
        told => Err(told),
    });
}
