//! An emptyDir: a directory that lives as long as its pod.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Error;

/// Most entries that [`usage_bytes`] looks at.
const MAX_ENTRIES: usize = 1_000_000;

/// Makes the directory, which whoever is in the pod may write to; one that is there keeps its content (the pod's
/// containers were restarted).
///
/// # Errors
/// When the directory cannot be made.
pub fn create(dir: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io(dir))?;
    // Not as the umask would have it.
    fs::set_permissions(dir, Permissions::from_mode(0o777)).map_err(Error::io(dir))
}

/// Bytes in all files beneath, for `sizeLimit`. Links are not followed; what vanishes meanwhile counts nothing.
///
/// # Errors
/// When the directory itself cannot be read, or holds more than a million entries.
pub fn usage_bytes(dir: &Path) -> Result<u64, Error> {
    let mut total = 0;
    let mut entries = 0;
    let mut pending = vec![fs::read_dir(dir).map_err(Error::io(dir))?];
    while let Some(directory) = pending.pop() {
        for entry in directory.flatten() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(Error::TooLarge);
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.extend(fs::read_dir(entry.path()));
            } else {
                total += metadata.len();
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lies_beneath() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("volume");
        create(&dir).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/a"), [0; 10]).unwrap();
        fs::write(dir.join("b"), [0; 5]).unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        create(&dir).unwrap();
        let link = fs::symlink_metadata(dir.join("link")).unwrap().len();
        assert_eq!(usage_bytes(&dir).unwrap(), 15 + link);
    }
}
