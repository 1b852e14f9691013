//! Images as volumes.

use super::{event, is_ready};
use crate::sandbox;

#[test]
fn an_image_is_shown_as_a_whole_and_in_part_and_never_written() {
    let t = sandbox();
    let cli = t.cli_image();
    let spec = format!("terminationGracePeriodSeconds: 1, volumes: [{{name: tool, image: {{reference: '{cli}'}}}}]");
    let mounts =
        "volumeMounts: [{name: tool, mountPath: /tool}, {name: tool, mountPath: /bin/greet.wasm, subPath: cli.wasm}]";
    t.hello_pod("shows", &spec, mounts);
    is_ready(&t, "shows");
    assert_eq!(
        t.kubectl.ok(&["exec", "shows", "--", "ls", "/tool", "/bin"]),
        "/tool:\ncli.wasm\n\n/bin:\ngreet.wasm\n"
    );
    for tool in ["/tool/cli.wasm", "/bin/greet.wasm"] {
        assert_eq!(t.kubectl.ok(&["exec", "shows", "--", tool, "you"]), "Hello, you!\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let refused = t.kubectl.fails(&["cp", file.path().to_str().unwrap(), "shows:/tool/more"]);
    assert!(refused.contains("Read-only file system"), "{refused}");
}

#[test]
fn an_image_that_is_nowhere_holds_up_the_containers_that_mount_it() {
    let t = sandbox();
    let volumes = "terminationGracePeriodSeconds: 1, volumes: [\
        {name: never, image: {reference: 'localhost/nowhere:latest', pullPolicy: Never}}, \
        {name: loaded, image: {reference: 'localhost/nowhere-else:latest', pullPolicy: IfNotPresent}}]";
    for (pod, volume, reason, says) in [
        ("never", "never", "ErrImageNeverPull", "Container image \"localhost/nowhere:latest\" is not present"),
        ("loaded", "loaded", "ImagePullBackOff", "Failed to pull image \"localhost/nowhere-else:latest\": "),
    ] {
        t.hello_pod(pod, volumes, &format!("volumeMounts: [{{name: {volume}, mountPath: /tool}}]"));
        event(&t.kubectl, pod, says);
        let waits = format!("jsonpath={{.status.containerStatuses[0].state.waiting.reason}}={reason}");
        t.kubectl.ok(&["wait", "pod", pod, "--for", &waits, "--timeout=60s"]);
    }
    t.hello_pod("neither", volumes, "");
    is_ready(&t, "neither");
}
