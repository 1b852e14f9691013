//! Images: from a real registry, from a file, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use k8w_testkit::{ClusterOptions, Kubectl, Registry, TestCluster, archive, eventually, get_ok, guest, run, shared};

const BINARY: &str = env!("CARGO_BIN_EXE_k8w");

fn repo(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn pod(kubectl: &Kubectl, name: &str, image: &str) {
    pod_with(kubectl, name, image, "", "");
}

/// A pod whose spec and container have these fields more, in YAML's flow style.
fn pod_with(kubectl: &Kubectl, name: &str, image: &str, spec: &str, container: &str) {
    kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec: {{runtimeClassName: wasmtime, restartPolicy: Never, containers: [{{name: main, image: \"{image}\", {container}}}], {spec}}}
"
    ));
}

/// What a pod has said when it has ended well.
fn said(kubectl: &Kubectl, name: &str) -> String {
    kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{name}"), "--timeout=60s"]);
    kubectl.ok(&["logs", name])
}

fn cli() -> Vec<u8> {
    std::fs::read(repo("examples/cli/cli.wasm")).unwrap()
}

/// Waits until the container waits for one of these reasons, and gives its message.
fn waiting_message(kubectl: &Kubectl, name: &str, reasons: &[&str]) -> String {
    let path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}={.status.containerStatuses[0].state.waiting.message}";
    eventually("the container waits", || {
        let state = kubectl.ok(&["get", "pod", name, "-o", path]);
        match state.split_once('=') {
            Some((reason, message)) if reasons.contains(&reason) && !message.is_empty() => Ok(message.to_owned()),
            _ => Err(state),
        }
    })
}

#[test]
fn a_wasm_artifact_is_pulled_from_a_registry() {
    let registry = Registry::start();
    let image = registry.push("team/cli", "v1", &[&cli()]);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("pulls");
    pod(&kubectl, "pulled", &image);
    kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/pulled", "--timeout=60s"]);
    assert_eq!(kubectl.ok(&["logs", "pulled"]), "Hello, world!\n");
    let id = kubectl.ok(&["get", "pod", "pulled", "-o", "jsonpath={.status.containerStatuses[0].imageID}"]);
    assert!(id.contains("team/cli@sha256:"), "{id}");
    let events = eventually("the events are there", || {
        let events = kubectl.ok(&["events", "--for", "pod/pulled"]);
        if events.contains("Successfully pulled image") { Ok(events) } else { Err(events) }
    });
    assert!(events.contains(&format!("Pulling image \"{image}\"")), "{events}");
}

#[test]
fn a_container_image_says_how_it_runs_and_the_pod_has_the_last_word() {
    let registry = Registry::start();
    let config = serde_json::json!({ "Entrypoint": ["/cli.wasm"], "Cmd": ["cmd"], "Env": ["WHO=image"] });
    let image = registry.push_image("team/container", "v1", &cli(), &config);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("container-images");
    for (name, container, who) in [
        ("plain", "", "cmd"),
        ("args", "args: [pod]", "pod"),
        ("command", "command: [greet]", "image"),
        ("command-args", "command: [greet, both], args: [more]", "both"),
        ("env", "command: [greet], env: [{name: WHO, value: pod}]", "pod"),
    ] {
        pod_with(&kubectl, name, &image, "", container);
        assert_eq!(said(&kubectl, name), format!("Hello, {who}!\n"), "{name}");
    }

    let config = serde_json::json!({ "Entrypoint": ["/hello.wasm"], "Env": ["A=image"], "WorkingDir": "/image" });
    let hello = std::fs::read(repo("examples/hello/hello.wasm")).unwrap();
    let server = registry.push_image("team/server", "v1", &hello, &config);
    for (name, container, expected) in [("image", "", "/image A=image"), ("own", "workingDir: /own", "/own A=image")] {
        pod_with(&kubectl, name, &server, "", &format!("ports: [{{containerPort: 8080}}], {container}"));
        kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        let (place, env) = (kubectl.ok(&["exec", name, "--", "pwd"]), kubectl.ok(&["exec", name, "--", "env"]));
        let variable = env.lines().find(|line| line.starts_with("A=")).unwrap_or_default();
        assert_eq!(format!("{} {variable}", place.trim()), expected);
    }
    kubectl.ok(&["debug", "own", "--image", &image, "-c", "debugger"]);
    eventually("the container beside it has run", || match kubectl.ok(&["logs", "own", "-c", "debugger"]) {
        said if said == "Hello, cmd!\n" => Ok(()),
        said => Err(said),
    });
}

/// What other tools push, and what is pushed for others and only says that it is for wasm, too.
#[test]
fn components_run_from_each_format_that_they_are_pushed_in() {
    let registry = Registry::start();
    let (layers, process) = ([archive(&[("cli.wasm", &cli())])], serde_json::json!({ "Entrypoint": ["/cli.wasm"] }));
    let push = |name: &str, platform: (&str, &str), variant: Option<&str>| {
        let annotations = variant.map(|variant| ("module.wasm.image/variant", variant));
        let annotations = serde_json::json!(annotations.into_iter().collect::<BTreeMap<_, _>>());
        registry.push_image_for(&format!("formats/{name}"), "v1", platform, &layers, &process, &annotations)
    };
    let (other, wasm) = (("linux", "amd64"), "wasm");
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("formats");
    for (name, image) in [
        ("older", registry.push_older("formats/older", "v1", &cli())),
        ("wasip1", push("wasip1", ("wasip1", wasm), None)),
        ("wasip2", push("wasip2", ("wasip2", wasm), None)),
        ("wasm32", push("wasm32", ("wasi", "wasm32"), None)),
        ("compat", push("compat", other, Some("compat"))),
        ("compat-smart", push("compat-smart", other, Some("compat-smart"))),
    ] {
        pod(&kubectl, name, &image);
        assert_eq!(said(&kubectl, name), "Hello, world!\n", "{name}");
    }
    for (name, image) in [("other", push("other", other, None)), ("variant", push("variant", other, Some("native")))] {
        pod(&kubectl, name, &image);
        let message = waiting_message(&kubectl, name, &["CreateContainerError"]);
        assert!(message.contains(&image) && message.contains("its platform is linux/amd64"), "{name}: {message}");
    }
}

/// Its image alone says that it is for the node's engine.
#[test]
fn a_pod_that_names_no_runtime_class_runs_where_its_image_is_wasm() {
    let registry = Registry::start();
    let (layers, process) = ([archive(&[("cli.wasm", &cli())])], serde_json::json!({ "Entrypoint": ["/cli.wasm"] }));
    let image = |name: &str, platform: (&str, &str)| {
        registry.push_image_for(&format!("classless/{name}"), "v1", platform, &layers, &process, &serde_json::json!({}))
    };
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("classless");
    for (name, image) in [
        ("artifact", registry.push("classless/artifact", "v1", &[&cli()])),
        ("container", image("container", ("wasi", "wasm"))),
        ("linux", image("linux", ("linux", "amd64"))),
    ] {
        kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec: {{restartPolicy: Never, containers: [{{name: main, image: \"{image}\"}}]}}
"
        ));
        if name == "linux" {
            let message = waiting_message(&kubectl, name, &["CreateContainerError"]);
            assert!(message.contains("its platform is linux/amd64"), "{message}");
        } else {
            assert_eq!(said(&kubectl, name), "Hello, world!\n", "{name}");
        }
        let class = "jsonpath={.spec.runtimeClassName}.{.spec.nodeName}";
        let node = kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        assert_eq!(kubectl.ok(&["get", "pod", name, "-o", class]), format!(".{node}"), "the scheduler has chosen it");
    }
}

#[test]
fn a_container_image_that_cannot_be_had_says_which_part_of_it_is_why() {
    let registry = Registry::start();
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("container-image-errors");
    let readme = archive(&[("srv/README", b"text")]);
    let process = serde_json::json!({ "Entrypoint": ["tool"], "Env": ["PATH=/bin:/opt"], "WorkingDir": "/srv" });
    let cut = archive(&[("opt/tool", &cli())])[..1_000].to_vec();
    let pull_error: &[&str] = &["ErrImagePull", "ImagePullBackOff"];
    for (name, layers, reasons, expected) in [
        ("many", vec![readme.clone(); 129], pull_error, "it has 129 layers, and 128 is the most"),
        ("cut", vec![readme.clone(), cut], pull_error, "): unexpected EOF"),
        (
            "none",
            vec![readme.clone(), archive(&[("bin/tools", b"")])],
            pull_error,
            "its entrypoint \"tool\" is no file of it: /bin/tool is not there, /opt/tool is not there, /srv/tool is not there",
        ),
        (
            "script",
            vec![readme.clone(), archive(&[("opt/tool", b"#!/bin/sh")])],
            &["CreateContainerError"],
            "its entrypoint \"tool\" is /opt/tool, which is no WebAssembly: it does not begin with \\0asm",
        ),
    ] {
        let image = registry.push_image_of(&format!("team/{name}"), "v1", &layers, &process);
        pod(&kubectl, name, &image);
        let message = waiting_message(&kubectl, name, reasons);
        assert!(message.contains(&image) && message.contains(expected), "{name}: {message}");
    }
    // As a volume, too.
    let image = format!("{}/team/cut:v1", registry.address());
    cluster.load_image(&repo("examples/cli/cli.wasm"), "localhost/beside-errors:latest");
    let volume = format!("volumes: [{{name: cut, image: {{reference: \"{image}\"}}}}]");
    pod_with(
        &kubectl,
        "volume",
        "localhost/beside-errors:latest",
        &volume,
        "volumeMounts: [{name: cut, mountPath: /cut}]",
    );
    let message = waiting_message(&kubectl, "volume", pull_error);
    let expected = format!("failed to unpack \"{image}\": its layer 2 of 2 (sha256:");
    assert!(message.contains(&expected), "{message}");
}

/// They wait on the disk, in files that nobody else sees.
#[test]
fn layers_of_a_container_image_take_no_memory_and_leave_nothing() {
    const LAYER_BYTES: usize = 64 << 20;
    /// What all layers together do not fit into.
    const ROOM_KIB: u64 = 64 << 10;
    let registry = Registry::start();
    let cluster = TestCluster::start(BINARY, ClusterOptions::default());
    let kubectl = cluster.namespace("large-images");
    let process = serde_json::json!({ "Entrypoint": ["/cli.wasm"] });
    let layers = |large: u8| {
        let large = (0..large).map(|number| archive(&[("large", &vec![number; LAYER_BYTES])]));
        large.chain([archive(&[("cli.wasm", &cli())])]).collect::<Vec<_>>()
    };
    let most_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.process_id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    // Compiled already, so that only the layers are left to take room.
    pod(&kubectl, "small", &registry.push_image_of("team/small", "v1", &layers(0), &process));
    assert_eq!(said(&kubectl, "small"), "Hello, world!\n");
    let before = most_kib();
    pod(&kubectl, "large", &registry.push_image_of("team/large", "v1", &layers(3), &process));
    assert_eq!(said(&kubectl, "large"), "Hello, world!\n");
    let grown = most_kib() - before;
    assert!(grown < ROOM_KIB, "the node took {grown} KiB for three layers of {} KiB", LAYER_BYTES >> 10);
    let kept = |folder: &str| {
        let files = std::fs::read_dir(cluster.data_dir().join("images").join(folder)).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).collect::<Vec<_>>()
    };
    assert!(kept("blobs/sha256").iter().all(|bytes| *bytes < LAYER_BYTES as u64), "a layer is kept");
    assert_eq!(kept("unfinished"), Vec::<u64>::new());
}

/// The image's own registry is nowhere.
#[test]
fn an_image_comes_from_a_mirror() {
    let registry = Registry::start();
    registry.push("team/cli", "v1", &[&cli()]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registries.yaml");
    let arguments = ["--registries".to_owned(), file.display().to_string()];
    let mirrors = format!("mirrors: {{registry.invalid: {{endpoint: [\"http://{}\"]}}}}", registry.address());
    std::fs::write(&file, mirrors).unwrap();
    let options = ClusterOptions { arguments: arguments.to_vec(), ..ClusterOptions::default() };
    let cluster = TestCluster::start(BINARY, options);
    let kubectl = cluster.namespace("mirrors");
    pod(&kubectl, "mirrored", "registry.invalid/team/cli:v1");
    assert_eq!(said(&kubectl, "mirrored"), "Hello, world!\n");
    std::fs::write(&file, "mirrors: {registry.invalid: {rewrite: {}}}").unwrap();
    let error = run(BINARY, &["up", "--ephemeral", "--registries", &arguments[1]]).stderr;
    assert!(error.contains("rewrite") && error.contains(&arguments[1]), "{error}");
}

/// As a mirror, and under its own name.
#[test]
fn a_registry_with_a_certificate_of_its_own_authority_is_believed() {
    let registry = Registry::start();
    registry.push("team/cli", "v1", &[&cli()]);
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let secured = registry.over_tls(&certified.cert.pem(), &certified.signing_key.serialize_pem());
    let folder = tempfile::tempdir().unwrap();
    let (file, authority) = (folder.path().join("registries.yaml"), folder.path().join("ca.pem"));
    std::fs::write(&authority, certified.cert.pem()).unwrap();
    let (address, authority) = (secured.address, authority.display());
    let text = format!(
        "mirrors: {{registry.invalid: {{endpoint: [\"https://{address}\"]}}}}
configs: {{\"{address}\": {{tls: {{ca_file: {authority}}}}}}}"
    );
    std::fs::write(&file, text).unwrap();
    let arguments = vec!["--registries".to_owned(), file.display().to_string()];
    let cluster = TestCluster::start(BINARY, ClusterOptions { arguments, ..ClusterOptions::default() });
    let kubectl = cluster.namespace("authorities");
    pod(&kubectl, "mirrored", "registry.invalid/team/cli:v1");
    pod(&kubectl, "itself", &format!("{address}/team/cli:v1"));
    for name in ["mirrored", "itself"] {
        assert_eq!(said(&kubectl, name), "Hello, world!\n", "{name}");
    }
}

#[test]
fn an_image_is_named_by_its_digest() {
    let registry = Registry::start();
    registry.push("team/fixed", "v1", &[&cli()]);
    let digest = registry.digest("team/fixed", "v1");
    let image = format!("{}/team/fixed@{digest}", registry.address());
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("digests");
    pod(&kubectl, "first", &image);
    assert_eq!(said(&kubectl, "first"), "Hello, world!\n");
    let shown = "jsonpath={.spec.containers[0].imagePullPolicy} {.status.containerStatuses[0].image} {.status.containerStatuses[0].imageID}";
    assert_eq!(kubectl.ok(&["get", "pod", "first", "-o", shown]), format!("IfNotPresent {image} {image}"));
    // With a tag beside it, the digest is what counts.
    pod(&kubectl, "tagged", &format!("{}/team/fixed:no-such-tag@{digest}", registry.address()));
    assert_eq!(said(&kubectl, "tagged"), "Hello, world!\n");

    let none = format!("sha256:{}", "0".repeat(64));
    pod(&kubectl, "none", &format!("{}/team/fixed@{none}", registry.address()));
    let message = waiting_message(&kubectl, "none", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(message.contains(&format!("team/fixed@{none}\": not found")), "{message}");
}

#[test]
fn what_is_not_of_its_digest_is_refused() {
    let registry = Registry::start();
    registry.push("team/forged", "v1", &[&cli()]);
    let digest = registry.digest("team/forged", "v1");
    // As good a manifest as it was, but another.
    let file = registry.file(&digest);
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{manifest} ")).unwrap();
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("forged");
    pod(&kubectl, "forged", &format!("{}/team/forged@{digest}", registry.address()));
    let message = waiting_message(&kubectl, "forged", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(
        message.contains("its manifest has digest sha256:") && message.contains(&format!("not {digest}")),
        "{message}"
    );
}

#[test]
fn the_policy_says_when_a_tag_is_looked_up_again() {
    let registry = Registry::start();
    let image = registry.push("team/moves", "v1", &[&cli()]);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("policies");
    let id = |name: &str| kubectl.ok(&["get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].imageID}"]);
    let policy = |name: &str, policy: &str| {
        pod_with(&kubectl, name, &image, "", &format!("imagePullPolicy: {policy}"));
        kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", &format!("pod/{name}"), "--timeout=60s"]);
        id(name)
    };
    pod_with(&kubectl, "too-early", &image, "", "imagePullPolicy: Never");
    let message = waiting_message(&kubectl, "too-early", &["ErrImageNeverPull"]);
    assert_eq!(message, format!("Container image \"{image}\" is not present with pull policy of Never"));
    let events = kubectl.ok(&["events", "--for", "pod/too-early"]);
    assert!(events.contains(&message) && events.contains("Error: ErrImageNeverPull"), "{events}");

    let first = policy("first", "IfNotPresent");
    assert!(first.ends_with(&registry.digest("team/moves", "v1")), "{first}");
    let empty = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
    registry.push("team/moves", "v1", &[&empty]);
    let second = registry.digest("team/moves", "v1");
    assert_eq!(policy("kept", "IfNotPresent"), first);
    assert_eq!(policy("never", "Never"), first);
    assert!(policy("always", "Always").ends_with(&second));
    assert_eq!(kubectl.ok(&["logs", "always"]), "");
    assert!(policy("later", "IfNotPresent").ends_with(&second), "the tag is the new image's from then on");
    let events = kubectl.ok(&["events", "--for", "pod/later"]);
    let present = format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
    assert!(events.contains(&present), "{events}");
}

/// `Always` for `latest`, also where a name has no tag, and `IfNotPresent` for any other.
#[test]
fn a_tag_decides_on_the_policy_of_who_names_none() {
    let registry = Registry::start();
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("default-policies");
    let empty = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
    for (tag, suffix, policy, again) in [
        ("latest", ":latest", "Always", ""),
        ("latest", "", "Always", ""),
        ("v1", ":v1", "IfNotPresent", "Hello, world!\n"),
    ] {
        let repository = format!("defaults/{}{tag}", suffix.len());
        let run = |name: &str, component: &[u8]| {
            registry.push(&repository, tag, &[component]);
            let name = format!("{name}-{tag}-{}", suffix.len());
            pod(&kubectl, &name, &format!("{}/{repository}{suffix}", registry.address()));
            let said = said(&kubectl, &name);
            let spec = kubectl.ok(&["get", "pod", &name, "-o", "jsonpath={.spec.containers[0].imagePullPolicy}"]);
            assert_eq!(spec, policy, "{name}");
            said
        };
        assert_eq!(run("first", &cli()), "Hello, world!\n");
        assert_eq!(run("second", &empty), again, "{repository}{suffix}");
    }
}

/// A node that starts looks at its disk first. An image is used by containers and by volumes; one that was loaded by hand could not
/// be pulled again.
#[test]
fn what_nothing_uses_goes_with_its_machine_code_when_the_disk_is_full() {
    let registry = Registry::start();
    let hello = std::fs::read(repo("examples/hello/hello.wasm")).unwrap();
    let (used, unused) = (registry.push("gc/used", "v1", &[&hello]), registry.push("gc/unused", "v1", &[&cli()]));
    let empty = wat::parse_str("(module (memory (export \"memory\") 1) (func (export \"_start\")))").unwrap();
    let (shown, loaded) = (registry.push("gc/shown", "v1", &[&empty]), "example.test/gc/loaded:v1");
    let folder = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let data_dir = Some(folder.path().join("data"));
        TestCluster::start(BINARY, ClusterOptions { data_dir, arguments, ..ClusterOptions::default() })
    };
    let compiled = || std::fs::read_dir(folder.path().join("data/wasm/compiled")).unwrap().count();
    let images = "jsonpath={.items[0].status.images[*].names}";

    let mut cluster = start(&[]);
    let kubectl = cluster.namespace("gc");
    cluster.load_image(&repo("examples/chain/back.wasm"), loaded);
    let volume = format!("volumes: [{{name: shown, image: {{reference: \"{shown}\"}}}}]");
    let mount = "ports: [{containerPort: 8080}], volumeMounts: [{name: shown, mountPath: /shown}]";
    pod_with(&kubectl, "used", &used, &volume, mount);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/used", "--timeout=60s"]);
    pod(&kubectl, "unused", &unused);
    assert_eq!(said(&kubectl, "unused"), "Hello, world!\n");
    kubectl.ok(&["delete", "pod", "unused"]);
    let kept = [used.as_str(), &shown, loaded];
    let has_kept = |images: &str| kept.iter().all(|image| images.contains(image));
    eventually("the node tells of all", || match kubectl.ok(&["get", "nodes", "-o", images]) {
        images if has_kept(&images) && images.contains(&unused) => Ok(()),
        images => Err(images),
    });
    assert_eq!(compiled(), 2);
    cluster.stop();
    drop(cluster);
    // What has just come may be about to get its name.
    for blob in std::fs::read_dir(folder.path().join("data/images/blobs/sha256")).unwrap() {
        let file = std::fs::File::options().write(true).open(blob.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
    }

    let thresholds = ["--image-gc-high-threshold=1", "--image-gc-low-threshold=0", "--minimum-image-ttl-duration=1h1m"];
    let cluster = start(&thresholds);
    let kubectl = cluster.kubectl().in_namespace("gc");
    eventually("one is gone", || match kubectl.ok(&["get", "nodes", "-o", images]) {
        images if has_kept(&images) && !images.contains(&unused) && compiled() == 1 => Ok(()),
        images => Err(format!("{images}, {} compiled", compiled())),
    });
    pod_with(&kubectl, "again", &used, "", "imagePullPolicy: Never, ports: [{containerPort: 8080}]");
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/again", "--timeout=60s"]);
    eventually("the node says that it was not enough", || {
        let events = kubectl.ok(&["get", "events", "-A", "--field-selector=reason=FreeDiskSpaceFailed"]);
        let text = "Failed to garbage collect required amount of images. Attempted to free ";
        if events.contains(text) { Ok(()) } else { Err(events) }
    });
    let node = kubectl.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
    let configuration = kubectl.ok(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/configz")]);
    for set in
        ["\"imageGCHighThresholdPercent\":1", "\"imageGCLowThresholdPercent\":0", "\"imageMinimumGCAge\":\"1h1m0s\""]
    {
        assert!(configuration.contains(set), "{configuration}");
    }
}

#[test]
fn a_registry_is_told_the_password_of_a_pull_secret() {
    let registry = Registry::start_closed();
    let (user, password) = registry.user_and_password();
    let image = |name: &str| registry.push(&format!("closed/{name}"), "v1", &[&cli()]);
    let (own, accounts) = (image("own"), image("accounts"));
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("pull-secrets");
    let secret = |name: &str, password: &str| {
        kubectl.ok(&[
            "create",
            "secret",
            "docker-registry",
            name,
            &format!("--docker-server={}", registry.address()),
            &format!("--docker-username={user}"),
            &format!("--docker-password={password}"),
        ]);
    };
    secret("right", password);
    secret("wrong", "guessed");
    let refused = |name: &str| {
        let message = waiting_message(&kubectl, name, &["ErrImagePull", "ImagePullBackOff"]);
        assert!(message.contains("the registry refuses access"), "{name}: {message}");
    };
    pod(&kubectl, "without", &own);
    refused("without");
    pod_with(&kubectl, "wrong", &own, "imagePullSecrets: [{name: wrong}, {name: missing}]", "");
    refused("wrong");
    // Whatever one of them is good for.
    pod_with(&kubectl, "right", &own, "imagePullSecrets: [{name: wrong}, {name: right}]", "");
    assert_eq!(said(&kubectl, "right"), "Hello, world!\n");

    // It is on the node now, for those who may have it.
    pod(&kubectl, "still-without", &own);
    refused("still-without");
    pod_with(&kubectl, "never", &own, "", "imagePullPolicy: Never");
    waiting_message(&kubectl, "never", &["ErrImageNeverPull"]);
    pod_with(&kubectl, "right-again", &own, "imagePullSecrets: [{name: right}]", "imagePullPolicy: Never");
    assert_eq!(said(&kubectl, "right-again"), "Hello, world!\n");

    let patch = r#"{"imagePullSecrets": [{"name": "right"}]}"#;
    kubectl.ok(&["patch", "serviceaccount", "default", "-p", patch]);
    pod(&kubectl, "accounts", &accounts);
    assert_eq!(said(&kubectl, "accounts"), "Hello, world!\n");
    let secrets = kubectl.ok(&["get", "pod", "accounts", "-o", "jsonpath={.spec.imagePullSecrets[*].name}"]);
    assert_eq!(secrets, "right");
    // As a volume, too.
    let tool = image("tool");
    let volume = format!("volumes: [{{name: tool, image: {{reference: \"{tool}\"}}}}]");
    pod_with(&kubectl, "shows", &accounts, &volume, "volumeMounts: [{name: tool, mountPath: /tool}]");
    assert_eq!(said(&kubectl, "shows"), "Hello, world!\n");
}

/// Conformance: "Image Volume".
#[test]
fn an_image_can_be_a_volume() {
    let registry = Registry::start();
    let component = cli();
    let pulled = registry.push("tools/cli", "v1", &[&component]);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("image-volumes");
    for name in ["hello", "cli"] {
        cluster.load_image(&repo(&format!("examples/{name}/{name}.wasm")), &format!("localhost/volume-{name}:latest"));
    }
    kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: shows}}
spec:
  runtimeClassName: wasmtime
  volumes:
    - {{name: pulled, image: {{reference: \"{pulled}\", pullPolicy: Always}}}}
    - {{name: loaded, image: {{reference: \"localhost/volume-cli:latest\"}}}}
  containers:
    - name: main
      image: localhost/volume-hello:latest
      volumeMounts: [{{name: pulled, mountPath: /pulled}}, {{name: loaded, mountPath: /tools}}]
"
    ));
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/shows", "--timeout=60s"]);
    let said = kubectl.ok(&["exec", "shows", "--", "/tools/volume-cli.wasm", "you"]);
    assert_eq!(said, "Hello, you!\n", "a component in a volume can be run");
    let file = kubectl.ok(&["exec", "shows", "--", "ls", "/pulled"]);
    let size = kubectl.ok(&["exec", "shows", "--", "stat", &format!("/pulled/{}", file.trim())]);
    assert!(size.contains(&component.len().to_string()), "{file} {size}");
}

/// What a layer says of those beneath it acts: a file that is replaced, one that is taken away, and a folder that begins anew.
#[test]
fn an_image_of_several_layers_is_a_volume_as_it_is_in_the_end() {
    let registry = Registry::start();
    let component = cli();
    let lower = archive(&[
        ("bin/greet.wasm", &component),
        ("etc/kept", b"kept"),
        ("etc/replaced", b"old"),
        ("etc/removed", b"removed"),
        ("old/one", b"one"),
        ("old/two", b"two"),
    ]);
    let upper = archive(&[
        ("etc/replaced", b"new"),
        ("etc/.wh.removed", b""),
        ("old/.wh..wh..opq", b""),
        ("old/three", b"three"),
        ("added", b"added"),
    ]);
    // What was taken away comes back in another layer.
    let top = archive(&[("old/two", b"another two"), (".wh.added", b"")]);
    let image = registry.push_layers("tools/layers", "v1", &[lower, upper, top]);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("image-volumes-layers");
    cluster.load_image(&repo("examples/hello/hello.wasm"), "localhost/volume-layers:latest");
    let spec = format!("volumes: [{{name: layers, image: {{reference: \"{image}\"}}}}]");
    let container = "ports: [{containerPort: 8080}], volumeMounts: [{name: layers, mountPath: /layers}, \
                     {name: layers, mountPath: /part, subPath: old}]";
    pod_with(&kubectl, "shows", "localhost/volume-layers:latest", &spec, container);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/shows", "--timeout=60s"]);
    let exec = |command: &[&str]| kubectl.ok(&[&["exec", "shows", "--"][..], command].concat());
    let listed = exec(&["ls", "/layers", "/layers/etc", "/layers/old", "/part"]);
    assert_eq!(
        listed,
        "/layers:\nbin\netc\nold\n\n/layers/etc:\nkept\nreplaced\n\n/layers/old:\nthree\ntwo\n\n/part:\nthree\ntwo\n"
    );
    assert_eq!(exec(&["cat", "/layers/etc/kept", "/layers/etc/replaced", "/part/two"]), "keptnewanother two");
    assert_eq!(exec(&["/layers/bin/greet.wasm", "you"]), "Hello, you!\n");
}

#[test]
fn an_image_volume_is_pulled_once() {
    let registry = Registry::start();
    let component = cli();
    let pulled = registry.push("tools/once", "v1", &[&component]);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("image-volumes-once");
    cluster.load_image(&repo("examples/hello/hello.wasm"), "localhost/volume-once:latest");
    let shows = |name: &str, policy: &str| {
        kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: wasmtime
  volumes: [{{name: pulled, image: {{reference: \"{pulled}\", pullPolicy: {policy}}}}}]
  containers:
    - name: main
      image: localhost/volume-once:latest
      volumeMounts: [{{name: pulled, mountPath: /pulled}}]
"
        ));
        kubectl.ok(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"]);
        kubectl.ok(&["exec", name, "--", "ls", "/pulled"])
    };
    let first = shows("first", "IfNotPresent");
    drop(registry);
    assert_eq!(shows("second", "IfNotPresent"), first);
    assert_eq!(shows("third", "Never"), first);
}

#[test]
fn a_tag_that_the_registry_lacks_backs_off() {
    let registry = Registry::start();
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("lacks");
    pod(&kubectl, "absent", &format!("{}/nothing:v1", registry.address()));
    let message = waiting_message(&kubectl, "absent", &["ErrImagePull", "ImagePullBackOff"]);
    assert!(message.contains("nothing:v1"), "{message}");
}

#[test]
fn an_artifact_of_two_layers_is_refused() {
    let registry = Registry::start();
    let component = cli();
    let image = registry.push("two", "v1", &[&component, b"\0asm another"]);
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("two-layers");
    pod(&kubectl, "two", &image);
    let message = waiting_message(&kubectl, "two", &["CreateContainerError"]);
    assert!(message.contains("exactly one application/wasm layer, and this one has 2 layers"), "{message}");
}

#[test]
fn a_loaded_image_is_used_without_a_registry() {
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("loaded");
    cluster.load_image(&repo("examples/cli/cli.wasm"), "example.test/never/pulled:v1");
    pod(&kubectl, "loaded", "example.test/never/pulled:v1");
    kubectl.ok(&["wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/loaded", "--timeout=60s"]);
}

#[test]
fn a_file_that_is_no_component_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data").display().to_string();
    let load =
        |file: &str, tag: &str| run(BINARY, &["image", "load", file, "--tag", tag, "--data-dir", &data_dir]).stderr;
    let text = repo("README.md").display().to_string();
    let error = load(&text, "localhost/readme:latest");
    assert!(error.starts_with("error: ") && error.contains("README.md is not WebAssembly"), "{error}");
    let component = repo("examples/cli/cli.wasm").display().to_string();
    let error = load(&component, "Not A Name");
    assert!(error.contains("\"Not A Name\" is not an image name"), "{error}");
    let error = load("/nonexistent.wasm", "localhost/a:latest");
    assert!(error.contains("/nonexistent.wasm"), "{error}");
}

/// The prebuilt component of the first example and one built from its source now answer alike. `tests/run` builds it.
#[test]
fn hello_rebuilt_from_source_behaves_like_the_prebuilt_one() {
    let Some(rebuilt) = guest("hello.wasm") else { return };
    let prebuilt = std::fs::metadata(repo("examples/hello/hello.wasm")).unwrap();
    assert!(prebuilt.len() < 100_000, "the prebuilt component has {} bytes", prebuilt.len());
    let cluster = shared(BINARY);
    let kubectl = cluster.namespace("rebuilt");
    cluster.load_image(&repo("examples/hello/hello.wasm"), "localhost/hello:prebuilt");
    cluster.load_image(&rebuilt, "localhost/hello:rebuilt");
    let answers = ["prebuilt", "rebuilt"].map(|tag| {
        kubectl.apply(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: {tag}, labels: {{app: {tag}}}}}
spec:
  runtimeClassName: wasmtime
  containers: [{{name: hello, image: \"localhost/hello:{tag}\", env: [{{name: POD_NAME, value: it}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {tag}}}
spec: {{selector: {{app: {tag}}}, ports: [{{port: 80, targetPort: 8080}}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {tag}}}
spec: {{defaultBackend: null, rules: [{{host: {tag}.test, http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: {tag}, port: {{number: 80}}}}}}}}]}}}}]}}
"
        ));
        let host = format!("{tag}.test");
        let answer = eventually("it answers", || get_ok(cluster.ingress_http(), &host, "/a?b=c"));
        (answer.body, answer.headers.into_iter().find(|(name, _)| name == "content-type"))
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, "Hello from it: you asked for /a?b=c\n");
}
