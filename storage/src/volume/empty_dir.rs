//! An emptyDir: a directory that lives as long as its pod.

use std::collections::HashSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Error;
use crate::tree;

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
/// When the directory is not there, or the node has no room to look at it; [`Error::TooLarge`] when it holds more than a million
/// entries, or cannot be looked at to its end for whatever other reason: it could hold anything.
pub fn usage_bytes(dir: &Path) -> Result<u64, Error> {
    let measured = tree::walk(dir, |(total, linked): &mut (u64, HashSet<_>), found| {
        if found.is_dir || found.links == 1 || linked.insert(found.id) {
            *total = total.saturating_add(found.disk_bytes);
        }
    });
    match measured {
        Ok((total, _)) => Ok(total),
        Err(error) if tree::says_nothing(&error) => Err(Error::io(dir)(error)),
        Err(_) => Err(Error::TooLarge),
    }
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
