//! The guests that `tests/run guests` builds.

use std::io::Write;
use std::path::{Path, PathBuf};

/// Names the folder in which they are.
const FOLDER: &str = "K8W_TEST_GUESTS";
/// What `tests/run` sets, which builds them before it runs what needs them.
const RUN: &str = "K8W_TEST_TOOLS";

/// The file of a guest. `None` on a machine that has none, and a line on standard error about it, which the harness of tests does
/// not take for its own.
///
/// Panics where `tests/run` runs the test, or where the folder lacks the guest: nothing of it would be tested.
pub fn guest(file: &str) -> Option<PathBuf> {
    let build = "`tests/run guests` builds them";
    let Some(folder) = std::env::var_os(FOLDER) else {
        assert!(std::env::var_os(RUN).is_none(), "{FOLDER} names no folder of guests, which tests/run has: {build}");
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "{test}: skipped, as {FOLDER} names no folder that has {file} ({build})");
        return None;
    };
    let path = Path::new(&folder).join(file);
    assert!(path.exists(), "there is no guest {}: {build}", path.display());
    Some(path)
}
