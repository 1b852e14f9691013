//! An emptyDir: a directory that lives as long as its pod.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::Error;

/// Most entries that [`usage_bytes`] looks at.
const MAX_ENTRIES: usize = 1_000_000;
/// What `st_blocks` counts in, whatever the file system's own blocks are.
const BLOCK_BYTES: u64 = 512;

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

/// Bytes that the directory and all beneath take on the disk, for `sizeLimit`; as `du` and the kubelet count: a hole in a file
/// takes nothing, a file of several names is there once. Links are not followed; what vanishes meanwhile counts nothing.
///
/// # Errors
/// When the directory itself cannot be read, or holds more than a million entries.
pub fn usage_bytes(dir: &Path) -> Result<u64, Error> {
    let mut total = fs::metadata(dir).map_err(Error::io(dir))?.blocks() * BLOCK_BYTES;
    let mut entries = 0;
    let mut linked = HashSet::new();
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
            } else if metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            total += metadata.blocks() * BLOCK_BYTES;
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_lies_beneath_as_du_does() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("volume");
        create(&dir).unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/a"), [b'x'; 100_000]).unwrap();
        fs::write(dir.join("b"), [b'x'; 5]).unwrap();
        fs::hard_link(dir.join("sub/a"), dir.join("again")).unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
        let sparse = fs::File::create(dir.join("sparse")).unwrap();
        sparse.set_len(1 << 40).unwrap();
        create(&dir).unwrap();
        let used = usage_bytes(&dir).unwrap();
        assert!((100_000..200_000).contains(&used), "{used}");
        let du = std::process::Command::new("du").args(["-s", "-B1"]).arg(&dir).output().unwrap();
        assert_eq!(String::from_utf8(du.stdout).unwrap().split('\t').next(), Some(used.to_string().as_str()));
    }
}
