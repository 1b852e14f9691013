//! Volumes in memory.

use k8w_testkit::{eventually, skipped};

use crate::sandbox;

/// A process that appends to a file in its first volume, and goes on when that fails, or ends.
fn filler(goes_on: bool) -> String {
    let again = if goes_on { "(drop {}) (br $again)" } else { "(br_if $again (i32.eqz {}))" };
    let write = "(call $write (i32.load (i32.const 0)) (i32.const 8) (i32.const 1) (i32.const 4))";
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "fill")
  (func (export "_start")
    (drop (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const 4) (i32.const 1) (i64.const 64)
      (i64.const 0) (i32.const 1) (i32.const 0)))
    (i32.store (i32.const 8) (i32.const 1024))
    (i32.store (i32.const 12) (i32.const 32768))
    (loop $again {})))"#,
        again.replace("{}", write)
    )
}

/// What a volume in memory holds is its pod's: who writes more than that may have is killed, and a smaller volume is full.
#[test]
fn a_volume_in_memory_counts_as_memory() {
    if !nix::unistd::geteuid().is_root() {
        return skipped("this user may not mount");
    }
    let t = sandbox();
    for (name, goes_on, source, expected) in [
        ("killed", true, "medium: Memory", "OOMKilled/137"),
        ("full", false, "medium: Memory, sizeLimit: 1Mi", "Completed/0"),
    ] {
        let image = t.text_image(&format!("filler-{name}"), &filler(goes_on));
        let limits = "resources: {limits: {memory: 8Mi}}, volumeMounts: [{name: scratch, mountPath: /scratch}]";
        let container = format!("{{name: main, image: '{image}', {limits}}}");
        t.ends_by_itself(name, &format!("{{name: scratch, emptyDir: {{{source}}}}}"), &container);
        let ended = ".status.containerStatuses[0].state.terminated";
        let path = format!("jsonpath={{{ended}.reason}}/{{{ended}.exitCode}}");
        eventually(&format!("{name} ends"), || match t.kubectl.ok(&["get", "pod", name, "-o", &path]) {
            told if told == expected => Ok(()),
            told => Err(told),
        });
    }
}
