//! Parts of volumes: what `subPath` and `subPathExpr` show, and what they never do.

use k8w_testkit::eventually;

use super::{event, is_ready, shows};
use crate::{HELLO, sandbox};

/// A part of a ConfigMap stays as it was when its container started, which a new attempt does anew.
#[test]
fn a_part_of_a_config_map_changes_with_its_container() {
    let t = sandbox();
    t.kubectl.ok(&["create", "configmap", "values", "--from-literal=key=old"]);
    let mounts = "volumeMounts: [{name: v, mountPath: /all}, {name: v, mountPath: /part/key, subPath: key}]";
    t.hello_pod("reads", "terminationGracePeriodSeconds: 1, volumes: [{name: v, configMap: {name: values}}]", mounts);
    is_ready(&t, "reads");
    t.kubectl.ok(&["patch", "configmap", "values", "-p", "{\"data\": {\"key\": \"new\"}}"]);
    shows(&t, "reads", "/all/key", "new");
    shows(&t, "reads", "/part/key", "old");
    let again = "localhost/hello-again:latest";
    t.cluster.load_image(&crate::repo("examples/hello/hello.wasm"), again);
    t.kubectl.ok(&["set", "image", "pod/reads", &format!("hello={again}")]);
    shows(&t, "reads", "/part/key", "new");
}

/// A command of `examples/cli` that counts words into a file.
fn counts(name: &str, mounts: &str, input: &str, output: &str) -> String {
    format!(
        "{{name: {name}, image: 'localhost/cli:latest',
          env: [{{name: INPUT, value: {input}}}, {{name: OUTPUT, value: {output}}}],
          volumeMounts: [{{name: text, mountPath: /text}}, {mounts}]}}"
    )
}

#[test]
fn what_is_written_to_a_file_that_is_mounted_is_in_its_volume() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.ok(&["create", "configmap", "text", "--from-literal=few=a b c", "--from-literal=many=a b c d e f"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made");
    let made = path.display();
    t.hello_image();
    let first = counts("first", "{name: scratch, mountPath: /scratch}", "/text/few", "/scratch/count");
    let part = "{name: scratch, mountPath: /etc/app/count, subPath: count}";
    let (part, whole) = (
        counts("part", part, "/text/many", "/etc/app/count"),
        counts("whole", "{name: made, mountPath: /etc/made}", "/text/few", "/etc/made"),
    );
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: writes}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes:
  - {{name: text, configMap: {{name: text}}}}
  - {{name: scratch, emptyDir: {{}}}}
  - {{name: made, hostPath: {{path: {made}, type: FileOrCreate}}}}
  initContainers: [{first}]
  containers:
  - {{name: hello, image: '{HELLO}', volumeMounts: [{{name: scratch, mountPath: /scratch}}]}}
  - {part}
  - {whole}
"
    ));
    eventually("the volume has what was written to its file", || {
        let outcome = t.kubectl.run(&["exec", "writes", "-c", "hello", "--", "cat", "/scratch/count"]);
        if outcome.stdout == "6\n" { Ok(()) } else { Err(outcome.stdout + &outcome.stderr) }
    });
    eventually("the node has what was written to its file", || match std::fs::read_to_string(&path) {
        Ok(text) if text == "3\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// A command that makes a link `sub` in its first volume, to the folder `etc` of whoever follows it.
const PLANTER: &str = r#"(module
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "../../../../../../../../../../../../../../../../etcsub")
  (func (export "_start")
    (if (call $symlink (i32.const 0) (i32.const 51) (i32.const 3) (i32.const 51) (i32.const 3)) (then unreachable))))"#;

#[test]
fn a_link_that_another_container_has_planted_leads_nowhere() {
    let t = sandbox();
    t.hello_image();
    let image = t.text_image("planter", PLANTER);
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: robs}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{{name: shared, emptyDir: {{}}}}]
  initContainers: [{{name: plants, image: '{image}', volumeMounts: [{{name: shared, mountPath: /shared}}]}}]
  containers:
  - {{name: path, image: '{HELLO}', volumeMounts: [{{name: shared, mountPath: /stolen, subPath: sub}}]}}
  - {{name: file, image: '{HELLO}', volumeMounts: [{{name: shared, mountPath: /stolen, subPath: sub/passwd}}]}}
  - {{name: expression, image: '{HELLO}', env: [{{name: PART, value: sub}}],
     volumeMounts: [{{name: shared, mountPath: /stolen, subPathExpr: $(PART)}}]}}
"
    ));
    for (container, path) in [("path", "sub"), ("file", "sub/passwd"), ("expression", "sub")] {
        let why = format!("failed to prepare subPath for volumeMount: subPath \"{path}\" leads outside its volume");
        let waiting = format!(".status.containerStatuses[?(@.name==\"{container}\")].state.waiting");
        let shown = format!("jsonpath={{{waiting}.reason}}: {{{waiting}.message}}");
        eventually(&format!("{container} is refused"), || {
            let told = t.kubectl.ok(&["get", "pod", "robs", "-o", &shown]);
            if told == format!("CreateContainerConfigError: {why}") { Ok(()) } else { Err(told) }
        });
        event(&t.kubectl, "robs", &format!("Error: {why}"));
    }
}

#[test]
fn a_single_file_does_not_hide_the_volume_that_it_is_mounted_into() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.ok(&["create", "configmap", "text", "--from-literal=key=value"]);
    let container = |name: &str, mounts: &str| format!("{{name: {name}, image: '{HELLO}', volumeMounts: [{mounts}]}}");
    let (data, file) = ("{name: data, mountPath: /n}", "{name: text, mountPath: /n/cfg, subPath: key}");
    let containers = [
        container("before", &format!("{data}, {file}")),
        container("after", &format!("{file}, {data}")),
        container("beside", &format!("{data}, {{name: text, mountPath: /n/new/cfg, subPath: key}}")),
    ];
    t.kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: lays}}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  volumes: [{{name: data, emptyDir: {{}}}}, {{name: text, configMap: {{name: text}}}}]
  containers: [{}]
",
        containers.join(", ")
    ));
    let why = "mountPath \"/n/cfg\" is a single file in \"/n\", which the volume at \"/n\" shows already: \
               mount the file in a directory of its own";
    for name in ["before", "after"] {
        let waiting = format!(".status.containerStatuses[?(@.name==\"{name}\")].state.waiting");
        let shown = format!("jsonpath={{{waiting}.reason}}: {{{waiting}.message}}");
        eventually(&format!("{name} is refused"), || {
            let told = t.kubectl.ok(&["get", "pod", "lays", "-o", &shown]);
            if told == format!("CreateContainerConfigError: {why}") { Ok(()) } else { Err(told) }
        });
    }
    eventually("the file in a directory of its own is shown", || {
        let outcome = t.kubectl.run(&["exec", "lays", "-c", "beside", "--", "cat", "/n/new/cfg"]);
        if outcome.stdout == "value" { Ok(()) } else { Err(outcome.stdout + &outcome.stderr) }
    });
}
