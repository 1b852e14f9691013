//! Tests that cannot run on a machine, and say so.

use std::io::Write;

/// What `tests/run` sets, which installs and builds what tests need before it runs them.
const RUN: &str = "K8W_TEST_TOOLS";

/// Whether `tests/run` runs the test: what that installs or builds is there, or nothing of the test would be tested.
pub fn is_by_tests_run() -> bool {
    std::env::var_os(RUN).is_some()
}

/// Says of the calling thread's test that it is skipped, and why, on standard error, which the harness of tests does not take for
/// its own.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "{test}: skipped: {why}");
}
