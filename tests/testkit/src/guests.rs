//! The guests that `tests/run guests` builds.

use std::path::{Path, PathBuf};

use crate::skip::{is_by_tests_run, skipped};

/// Names the folder in which they are.
const FOLDER: &str = "K8W_TEST_GUESTS";

/// The file of a guest. `None` on a machine that has none, and a line about it.
///
/// Panics where `tests/run` runs the test, or where the folder lacks the guest: nothing of it would be tested.
pub fn guest(file: &str) -> Option<PathBuf> {
    let build = "`tests/run guests` builds them";
    let Some(folder) = std::env::var_os(FOLDER) else {
        assert!(!is_by_tests_run(), "{FOLDER} names no folder of guests, which tests/run has: {build}");
        skipped(&format!("{FOLDER} names no folder that has {file} ({build})"));
        return None;
    };
    let path = Path::new(&folder).join(file);
    assert!(path.exists(), "there is no guest {}: {build}", path.display());
    Some(path)
}
