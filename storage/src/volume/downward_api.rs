//! The files of a downward API volume.

use super::{Error, File, Files, check_relative};

/// Already resolved values as files: path, text and permission bits of each.
///
/// # Errors
/// When a path leads out of the volume.
pub fn files(items: impl IntoIterator<Item = (String, String, u32)>) -> Result<Files, Error> {
    let mut files = Files::new();
    for (path, text, mode) in items {
        check_relative(&path)?;
        files.insert(path, File { bytes: text.into(), mode });
    }
    Ok(files)
}
