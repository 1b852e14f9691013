//! Hooks of containers: what they call is called, after the start and before the end.

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
