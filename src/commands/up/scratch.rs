//! The temporary folder of a cluster that is not to be kept, and its end.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8w_storage::tree;
use k8w_storage::volume::mounted;

/// How often it is tried to remove a folder.
const MAX_ATTEMPTS: usize = 8;

/// A folder that goes when this is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn make() -> Result<Self> {
        let made = tempfile::Builder::new().prefix("k8w-").tempdir().context("cannot make a temporary folder")?;
        Ok(Self(made.keep()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a folder with all beneath, and says so where something is left. What is mounted there is let go of, never emptied:
/// it may be somebody else's.
pub fn remove(folder: &Path) {
    if let Err(error) = try_to_remove(folder) {
        tracing::warn!(%error, "{} is left behind", folder.display());
    }
}

fn try_to_remove(folder: &Path) -> io::Result<()> {
    let mut removed = Ok(());
    // Whoever still runs may make files meanwhile, or mount something.
    for _ in 0..MAX_ATTEMPTS {
        removed = mounted::remove_beneath(folder).and_then(|()| tree::remove(folder));
        if removed.is_ok() {
            break;
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use k8w_storage::volume::{Error, memory};

    use super::*;

    #[test]
    fn it_goes_with_what_lies_in_it() {
        let scratch = Scratch::make().unwrap();
        let folder = scratch.path().to_owned();
        let locked = folder.join("data/locked");
        fs::create_dir_all(locked.join("in")).unwrap();
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
        drop(scratch);
        assert!(!folder.exists());
    }

    #[test]
    fn what_is_mounted_in_it_is_let_go_of_and_not_emptied() {
        let scratch = Scratch::make().unwrap();
        let folder = scratch.path().to_owned();
        let volume = folder.join("data/node/pods/a/volume");
        match memory::create(&volume, 1 << 20) {
            Err(Error::Mount { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => {
                return println!("skipped: this user may not mount");
            }
            made => made.unwrap(),
        }
        fs::write(volume.join("file"), "kept").unwrap();
        // Whoever has it open sees what becomes of it.
        let inside = fs::File::open(&volume).unwrap();
        drop(scratch);
        assert!(!folder.exists());
        let through = |name: &str| format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&inside));
        assert_eq!(fs::read_to_string(through("file")).unwrap(), "kept");
    }
}
