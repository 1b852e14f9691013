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
fn an_image_that_is_nowhere_fails_its_volume() {
    let t = sandbox();
    let image = "image: {reference: 'localhost/nowhere:latest', pullPolicy: Never}";
    let spec = format!("terminationGracePeriodSeconds: 1, volumes: [{{name: tool, {image}}}]");
    t.hello_pod("waits", &spec, "volumeMounts: [{name: tool, mountPath: /tool}]");
    event(&t.kubectl, "waits", "MountVolume.SetUp failed for volume \"tool\" : failed to prepare image volume: ");
    let shown = "jsonpath={.status.phase} {.status.containerStatuses[0].state.waiting.reason}";
    assert_eq!(t.kubectl.ok(&["get", "pod", "waits", "-o", shown]), "Pending ContainerCreating");
}
