//! Probes of containers: who answers badly is restarted, or not ready, and nobody else is.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8w_testkit::{Recorder, Running, eventually};

use crate::{HELLO, Sandbox, sandbox};

/// A pod of `examples/hello` whose container has these fields more. A folder of this machine is its `/outside`.
fn pod(t: &Sandbox, folder: &std::path::Path, container: &str) {
    let volume = format!("{{name: outside, hostPath: {{path: {}}}}}", folder.display());
    t.hello_pod(
        "probed",
        &format!("terminationGracePeriodSeconds: 1, volumes: [{volume}]"),
        &format!("volumeMounts: [{{name: outside, mountPath: /outside}}], {container}"),
    );
}

/// A probe of this test's own server, once a second.
fn http(recorder: &Recorder, path: &str) -> String {
    let port = recorder.port();
    format!("{{httpGet: {{host: 127.0.0.1, port: {port}, path: {path}}}, periodSeconds: 1, failureThreshold: 1}}")
}

fn get(t: &Sandbox) -> Pod {
    t.kubectl.json(&["get", "pod", "probed", "-o", "json"])
}

fn status(t: &Sandbox) -> ContainerStatus {
    eventually("the container has a status", || {
        let statuses = get(t).status.and_then(|status| status.container_statuses);
        statuses.and_then(|mut statuses| statuses.pop()).ok_or_else(|| "none yet".to_owned())
    })
}

/// Waits until the server was asked that often more.
fn asked_again(recorder: &Recorder, times: usize) {
    let before = recorder.paths().len();
    eventually("probes", || match recorder.paths().len() - before {
        more if more >= times => Ok(()),
        more => Err(format!("{more} of {times}")),
    });
}

fn restarted(t: &Sandbox, times: i32) {
    let mut most = 0;
    eventually("restarts", || {
        let count = status(t).restart_count;
        assert!(count >= most, "{count} restarts after {most}");
        most = count;
        if count >= times { Ok(()) } else { Err(format!("{count} of {times}")) }
    });
}

/// Conformance: "Pod liveness probe, using http endpoint, failure"; "Pod liveness probe, using http endpoint, restart"; "Pod
/// liveness probe, using http endpoint, multiple restarts (slow)".
#[test]
fn a_container_is_restarted_when_its_answer_is_an_error_and_no_sooner() {
    let t = sandbox();
    let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
    pod(&t, folder.path(), &format!("livenessProbe: {}", http(&recorder, "/healthz")));
    asked_again(&recorder, 3);
    assert_eq!(status(&t).restart_count, 0);
    recorder.set_status(500);
    restarted(&t, 2);
    let events = t.kubectl.ok(&["events", "--for", "pod/probed"]);
    assert!(events.contains("Liveness probe failed: HTTP probe failed with statuscode: 500"), "{events}");
}

#[test]
fn as_many_answers_as_its_thresholds_say_change_what_is_thought_of_a_container() {
    let t = sandbox();
    let (live, ready, folder) = (Recorder::start(), Recorder::start(), tempfile::tempdir().unwrap());
    let with = |recorder: &Recorder, more: &str| http(recorder, "/").replace("failureThreshold: 1", more);
    let liveness = with(&live, "failureThreshold: 3");
    let readiness = with(&ready, "failureThreshold: 1, successThreshold: 3");
    pod(&t, folder.path(), &format!("livenessProbe: {liveness}, readinessProbe: {readiness}"));
    // Never before the third, however late that is seen.
    let ready_after = eventually("it is ready", || {
        let asked = ready.paths().len();
        if status(&t).ready { Ok(ready.paths().len()) } else { Err(format!("asked {asked} times")) }
    });
    assert!(ready_after >= 3, "ready after {ready_after} answers");
    let before = live.paths().len();
    live.set_status(500);
    restarted(&t, 1);
    let asked = live.paths().len() - before;
    assert!(asked >= 3, "restarted after {asked} answers");
    let events = t.kubectl.ok(&["events", "--for", "pod/probed"]);
    assert!(events.contains("Container hello failed liveness probe, will be restarted"), "{events}");
}

/// Conformance: "Pod liveness probe, using local file, no restart"; "Pod liveness probe, using local file, restart".
#[test]
fn a_container_is_restarted_when_its_file_is_gone_and_no_sooner() {
    let t = sandbox();
    let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
    let health = folder.path().join("health");
    std::fs::write(&health, "ok").unwrap();
    let live = "{exec: {command: [cat, /outside/health]}, periodSeconds: 1, failureThreshold: 1}";
    let ready = http(&recorder, "/ready");
    pod(&t, folder.path(), &format!("livenessProbe: {live}, readinessProbe: {ready}"));
    asked_again(&recorder, 3);
    assert_eq!(status(&t).restart_count, 0);
    std::fs::remove_file(&health).unwrap();
    restarted(&t, 1);
}

/// Conformance: "Pod liveness probe, using tcp socket, no restart"; "Pod readiness probe, failure".
#[test]
fn a_container_that_is_not_ready_is_not_restarted() {
    let t = sandbox();
    let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
    recorder.set_status(503);
    let ready = http(&recorder, "/ready");
    let live = "{tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 1}";
    pod(&t, folder.path(), &format!("livenessProbe: {live}, readinessProbe: {ready}"));
    asked_again(&recorder, 3);
    let found = status(&t);
    assert_eq!((found.ready, found.restart_count), (false, 0));
    assert!(found.state.is_some_and(|state| state.running.is_some()));
}

/// Conformance: "Pod liveness probe, using grpc call, failure".
#[test]
fn a_container_without_a_health_service_is_restarted() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    pod(&t, folder.path(), "livenessProbe: {grpc: {port: 2333}, periodSeconds: 1, failureThreshold: 1}");
    restarted(&t, 1);
}

/// Conformance: "Pod readiness probe, with initial delay".
#[test]
fn a_container_is_not_ready_before_its_probe_begins() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    pod(&t, folder.path(), "readinessProbe: {tcpSocket: {port: 8080}, initialDelaySeconds: 4, periodSeconds: 1}");
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/probed", "--timeout=60s"]);
    let conditions = get(&t).status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready").unwrap();
    let found = status(&t);
    let running = found.state.and_then(|state| state.running).unwrap();
    let (ready, started) = (ready.last_transition_time.unwrap().0, running.started_at.unwrap().0);
    // Both are cut to seconds.
    assert!(ready.as_second() - started.as_second() >= 3, "started {started}, ready {ready}");
    assert_eq!(found.restart_count, 0);
}

#[test]
fn a_probe_by_https_takes_any_certificate_and_no_clear_text() {
    let t = sandbox();
    let api = t.kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let port = api.rsplit(':').next().unwrap();
    let foreign = format!("{{host: 127.0.0.1, port: {port}, path: /livez, scheme: HTTPS}}");
    t.hello_pod("asks", "", &format!("readinessProbe: {{httpGet: {foreign}, periodSeconds: 1}}"));
    t.hello_pod("own", "", "readinessProbe: {httpGet: {port: 8080, scheme: HTTPS}, periodSeconds: 1}");
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/asks", "--timeout=60s"]);
    eventually("the event", || match t.kubectl.ok(&["events", "--for", "pod/own"]) {
        told if told.contains(":8080/\": http: server gave HTTP response to HTTPS client") => Ok(()),
        told => Err(told),
    });
}

#[test]
fn a_probe_follows_redirects_at_its_host_alone() {
    let t = sandbox();
    let (recorder, folder) = (Recorder::start(), tempfile::tempdir().unwrap());
    recorder.redirect("/old", "/new");
    recorder.redirect("/away", &format!("http://localhost:{}/other", recorder.port()));
    let (ready, live) = (http(&recorder, "/old"), http(&recorder, "/away"));
    pod(&t, folder.path(), &format!("readinessProbe: {ready}, livenessProbe: {live}"));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/probed", "--timeout=60s"]);
    eventually("the event", || match t.kubectl.ok(&["events", "--for", "pod/probed"]) {
        told if told.contains("Liveness probe warning: Probe terminated redirects, Response body:") => Ok(()),
        told => Err(told),
    });
    let paths = recorder.paths();
    assert!(paths.contains(&"/new".to_owned()) && !paths.contains(&"/other".to_owned()), "{paths:?}");
    assert_eq!(status(&t).restart_count, 0);
}

#[test]
fn a_probes_own_grace_goes_before_its_pods() {
    let t = sandbox();
    let recorder = Recorder::start();
    let image = t.server_image("spins", "(loop (br 0))");
    let live = http(&recorder, "/live").replace("periodSeconds", "terminationGracePeriodSeconds: 1, periodSeconds");
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: probed}}
spec: {{
  runtimeClassName: wasmtime,
  terminationGracePeriodSeconds: 3600,
  containers: [{{
    name: main, image: '{image}', ports: [{{containerPort: 8080}}],
    resources: {{limits: {{cpu: 20m}}}}, livenessProbe: {live}}}]}}
"
    ));
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/probed", "--timeout=60s"]);
    let path = format!("/api/v1/namespaces/{}/pods/probed:8080/proxy/", t.namespace);
    let request = Running::start(&mut t.kubectl.command(&["get", "--raw", &path]));
    asked_again(&recorder, 2);
    recorder.set_status(500);
    restarted(&t, 1);
    assert!(!request.outcome().success, "the request was ended");
    t.kubectl.ok(&["delete", "pod", "probed", "--grace-period=1", "--timeout=60s"]);
}

#[test]
fn a_container_that_ends_is_asked_whether_it_is_ready() {
    let t = sandbox();
    let (ready, live) = (Recorder::start(), Recorder::start());
    let probes = format!("readinessProbe: {}, livenessProbe: {}", http(&ready, "/"), http(&live, "/"));
    let container = format!("{probes}, lifecycle: {{preStop: {{sleep: {{seconds: 600}}}}}}");
    t.hello_pod("probed", "terminationGracePeriodSeconds: 600", &container);
    t.kubectl.ok(&["wait", "--for=condition=Ready", "pod/probed", "--timeout=60s"]);
    t.kubectl.ok(&["expose", "pod", "probed", "--port=80", "--target-port=8080"]);
    let becomes = |wanted: &str| {
        let slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=probed"];
        let conditions = [&slices[..], &["-o", "jsonpath={.items[*].endpoints[*].conditions}"]].concat();
        eventually(wanted, || match t.kubectl.ok(&conditions) {
            shown if shown == wanted => Ok(()),
            shown => Err(shown),
        });
    };
    becomes(r#"{"ready":true,"serving":true,"terminating":false}"#);
    t.kubectl.ok(&["delete", "pod", "probed", "--wait=false"]);
    becomes(r#"{"ready":false,"serving":true,"terminating":true}"#);
    live.set_status(500);
    ready.set_status(500);
    becomes(r#"{"ready":false,"serving":false,"terminating":true}"#);
    ready.set_status(200);
    becomes(r#"{"ready":false,"serving":true,"terminating":true}"#);
    assert_eq!(status(&t).restart_count, 0, "and whether it is alive is nobody's matter");
    t.kubectl.ok(&["delete", "pod", "probed", "--grace-period=0", "--force"]);
}

/// A command that sleeps, and one of a name that says whether there is a file of it in a mount; all in one.
const WATCHES: &str = r#"(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 256) "healthno file of that name\n")
  (func (export "_start")
    (local $fd i32)
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    ;; Without a further argument it sleeps, for an hour at a time.
    (if (i32.lt_u (i32.load (i32.const 0)) (i32.const 2)) (then
      (i32.store (i32.const 80) (i32.const 1))
      (i64.store (i32.const 88) (i64.const 3600000000000))
      (loop $again
        (drop (call $poll (i32.const 64) (i32.const 128) (i32.const 1) (i32.const 160)))
        (br $again))))
    ;; In whichever of its mounts.
    (local.set $fd (i32.const 3))
    (loop $next
      (if (i32.eqz (call $open (local.get $fd) (i32.const 0) (i32.const 256) (i32.const 6) (i32.const 0) (i64.const 2)
          (i64.const 0) (i32.const 0) (i32.const 200)))
        (then (call $exit (i32.const 0))))
      (local.set $fd (i32.add (local.get $fd) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $fd) (i32.const 16))))
    (i32.store (i32.const 208) (i32.const 262))
    (i32.store (i32.const 212) (i32.const 21))
    (drop (call $write (i32.const 1) (i32.const 208) (i32.const 1) (i32.const 216)))
    (call $exit (i32.const 1))))"#;

#[test]
fn a_component_can_be_the_command_of_a_probe() {
    let t = sandbox();
    let folder = tempfile::tempdir().unwrap();
    let health = folder.path().join("health");
    std::fs::write(&health, "well").unwrap();
    t.hello_image();
    let (tool, image) = (t.cli_image(), t.text_image("watches", WATCHES));
    // Generous: the first time it is compiled.
    let probe = |command: &str| {
        format!("{{exec: {{command: {command}}}, periodSeconds: 1, timeoutSeconds: 30, failureThreshold: 1}}")
    };
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: probed}}
spec: {{
  runtimeClassName: wasmtime,
  terminationGracePeriodSeconds: 1,
  volumes: [
    {{name: tools, image: {{reference: '{tool}'}}}},
    {{name: outside, hostPath: {{path: {outside}, type: Directory}}}}],
  containers: [
    {{name: mounted, image: '{HELLO}', ports: [{{containerPort: 8080}}], readinessProbe: {mounted},
      env: [{{name: INPUT, value: /outside/health}}, {{name: OUTPUT, value: /outside/words}}],
      volumeMounts: [{{name: tools, mountPath: /tools}}, {{name: outside, mountPath: /outside}}]}},
    {{name: own, image: '{image}', command: [watches], readinessProbe: {own},
      volumeMounts: [{{name: outside, mountPath: /outside}}]}}]}}
",
        outside = folder.path().display(),
        mounted = probe("[/tools/cli.wasm]"),
        own = probe("[watches, health]"),
    ));
    let become_ready = |wanted: &str| {
        let ready = r#"jsonpath={.status.containerStatuses[*].ready}/{.status.containerStatuses[*].restartCount}"#;
        eventually(wanted, || match t.kubectl.ok(&["get", "pod", "probed", "-o", ready]) {
            shown if shown == format!("{wanted}/0 0") => Ok(()),
            shown => Err(shown),
        });
    };
    become_ready("true true");
    assert_eq!(std::fs::read_to_string(folder.path().join("words")).unwrap(), "1\n");
    std::fs::remove_file(&health).unwrap();
    become_ready("false false");
    for said in ["Readiness probe failed: Hello, world!", "Readiness probe failed: no file of that name"] {
        eventually("events say why", || match t.kubectl.ok(&["events", "--for", "pod/probed"]) {
            told if told.contains(said) => Ok(()),
            told => Err(told),
        });
    }
    std::fs::write(&health, "well again").unwrap();
    become_ready("true true");
}
