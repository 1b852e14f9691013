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
fn a_single_file_is_laid_over_one_of_the_volume_that_it_is_mounted_into() {
    let t = sandbox();
    t.hello_image();
    t.kubectl.ok(&["create", "configmap", "text", "--from-literal=key=value"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made");
    let mut ports = 8080..;
    let mut container = |name: &str, mounts: &str| {
        let port = ports.next().unwrap();
        format!("{{name: {name}, image: '{HELLO}', ports: [{{containerPort: {port}}}], volumeMounts: [{mounts}]}}")
    };
    let (data, file) = ("{name: data, mountPath: /n}", "{name: text, mountPath: /n/cfg, subPath: key}");
    let etc = "{name: data, mountPath: /etc, subPath: etc}";
    let fixed = "{name: data, mountPath: /n, readOnly: true}, {name: text, mountPath: /n/none, subPath: key}";
    let containers = [
        container("before", &format!("{data}, {file}, {{name: made, mountPath: /n/made}}, {etc}")),
        container("after", &format!("{file}, {data}")),
        container("deeper", &format!("{data}, {{name: text, mountPath: /n/new/cfg, subPath: key}}")),
        container("bare", data),
        container("fixed", fixed),
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
  hostAliases: [{{ip: 192.0.2.7, hostnames: [elsewhere]}}]
  volumes:
  - {{name: data, emptyDir: {{}}}}
  - {{name: text, configMap: {{name: text}}}}
  - {{name: made, hostPath: {{path: {}, type: FileOrCreate}}}}
  containers: [{}]
",
        path.display(),
        containers.join(", ")
    ));
    let run = |container: &str, command: &[&str]| {
        t.kubectl.run(&[&["exec", "lays", "-c", container, "--"], command].concat())
    };
    let says = |container: &str, command: &[&str], text: &str| {
        eventually(&format!("{command:?} in {container} says {text:?}"), || {
            let outcome = run(container, command);
            if outcome.success && outcome.stdout == text { Ok(()) } else { Err(outcome.stdout + &outcome.stderr) }
        });
    };
    for (container, path, text) in [
        ("before", "/n/cfg", "value"),
        ("after", "/n/cfg", "value"),
        ("deeper", "/n/new/cfg", "value"),
        ("bare", "/n/cfg", ""),
        ("bare", "/n/new/cfg", ""),
        ("bare", "/n/etc/hosts", ""),
    ] {
        says(container, &["cat", path], text);
    }
    says("bare", &["ls", "/n"], "cfg\netc\nmade\nnew\n");
    let hosts = run("before", &["cat", "/etc/hosts"]).stdout;
    assert!(hosts.contains("192.0.2.7\telsewhere"), "{hosts}");

    let copy = folder.path().join("copy");
    std::fs::write(&copy, "copied").unwrap();
    t.kubectl.ok(&["cp", copy.to_str().unwrap(), "lays:/n/made", "-c", "before"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "copied");
    says("before", &["cat", "/n/made"], "copied");
    says("bare", &["cat", "/n/made"], "");
    let refused = t.kubectl.fails(&["cp", copy.to_str().unwrap(), "lays:/n/cfg", "-c", "before"]);
    assert!(refused.contains("Read-only file system"), "{refused}");
    let back = folder.path().join("back");
    t.kubectl.ok(&["cp", "lays:/n", back.to_str().unwrap(), "-c", "before"]);
    let read = |name: &str| std::fs::read_to_string(back.join(name)).unwrap();
    assert_eq!(["cfg", "made"].map(read), ["value", "copied"]);

    let why = "mount /n/none: it cannot be laid over a file of the volume at /n: there is none, and the volume is mounted \
               read-only";
    let shown = "jsonpath={.status.containerStatuses[?(@.name==\"fixed\")].state}";
    eventually("a file that is not in a volume that is mounted read-only keeps its container from starting", || {
        let told = t.kubectl.ok(&["get", "pod", "lays", "-o", shown]);
        if told.contains(why) { Ok(()) } else { Err(told) }
    });
}

#[test]
fn a_message_that_is_written_into_a_volume_is_in_the_status() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.ok(&["create", "configmap", "text", "--from-literal=few=a b c"]);
    let counts = counts("says", "{name: scratch, mountPath: /scratch}", "/text/few", "/scratch/why");
    let says = counts.replacen('{', "{terminationMessagePath: /scratch/why, ", 1);
    t.ends_by_itself("ends", "{name: text, configMap: {name: text}}, {name: scratch, emptyDir: {}}", &says);
    eventually("the status has the message", || {
        let message = "jsonpath={.status.containerStatuses[0].state.terminated.message}";
        let told = t.kubectl.ok(&["get", "pod", "ends", "-o", message]);
        if told == "3\n" { Ok(()) } else { Err(told) }
    });
}

#[test]
fn a_container_starts_without_its_own_files_where_a_volume_has_no_place_for_them() {
    let t = sandbox();
    t.cli_image();
    t.kubectl.ok(&["create", "configmap", "text", "--from-literal=few=a b c"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("etc/hosts")).unwrap();
    std::fs::write(folder.path().join("taken"), "").unwrap();
    let mounts = "{name: data, mountPath: /data}, {name: data, mountPath: /etc, subPath: etc}";
    let counts = counts("counts", mounts, "/text/few", "/data/count");
    let counts = counts.replacen('{', "{terminationMessagePath: /data/taken/why, ", 1);
    let data = format!("{{name: data, hostPath: {{path: {}}}}}", folder.path().display());
    t.ends_by_itself("without", &format!("{{name: text, configMap: {{name: text}}}}, {data}"), &counts);
    eventually("it runs", || {
        let told = t.kubectl.ok(&["get", "pod", "without", "-o", "jsonpath={.status}"]);
        if told.contains("\"phase\":\"Succeeded\"") { Ok(()) } else { Err(told) }
    });
    assert_eq!(std::fs::read_to_string(folder.path().join("count")).unwrap(), "3\n");
    assert!(folder.path().join("etc/hostname").is_file(), "the other one has its place");
    for (file, dir, why) in [("/etc/hosts", "/etc", "Is a directory"), ("/data/taken/why", "/data", "Not a directory")]
    {
        let told = format!("goes without {file}, which cannot be laid over a file of the volume at {dir}: {why}");
        eventually("an event says so", || {
            let events = t.kubectl.ok(&["get", "events", "--field-selector=involvedObject.name=without"]);
            if events.contains(&told) { Ok(()) } else { Err(events) }
        });
    }
}
