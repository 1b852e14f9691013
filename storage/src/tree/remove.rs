//! Removes a tree.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Descent;

/// How often a tree is gone through while somebody still writes to it.
const MAX_SWEEPS: usize = 16;

/// Removes a file, or a directory with all beneath. Links are removed, not followed; what is not there is fine. Directories that
/// their owner may not write to are made writable. Blocks.
///
/// # Errors
/// The file system's: among others where something is mounted.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_at(AT_FDCWD, path)
}

/// As [`remove`], of what a path means in an open directory.
///
/// # Errors
/// As for that.
pub fn remove_at(dir: impl AsFd, path: &Path) -> io::Result<()> {
    let dir = dir.as_fd();
    for _ in 0..MAX_SWEEPS {
        if unlink(dir, path)? {
            return Ok(());
        }
        empty(dir, path)?;
    }
    if unlink(dir, path)? { Ok(()) } else { Err(Errno::ENOTEMPTY.into()) }
}

/// Removes all beneath a directory but for what comes meanwhile. Nothing is made or moved for it: the disk may be full.
fn empty(dir: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let mut at = Descent::new(dir, path, true)?;
    loop {
        match at.next() {
            Some(name) => {
                let name = name?;
                if !unlink(at.dir(), Path::new(&name))? {
                    at.down(&name)?;
                }
            }
            None if at.depth() == 0 => return Ok(()),
            // One that is read anew shows again what was left in it.
            None => {
                if let Some(name) = at.up()? {
                    unlink(at.dir(), Path::new(&name))?;
                }
            }
        }
    }
}

/// Whether it is gone; a directory that holds something is not.
fn unlink(dir: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
    let removed = match unlinkat(dir, path, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR) => unlinkat(dir, path, UnlinkatFlags::RemoveDir),
        removed => removed,
    };
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::super::tests::{make_deep, on_a_small_stack, root};
    use super::*;

    #[test]
    fn depth_takes_no_stack() {
        on_a_small_stack(|| {
            let root = root();
            let top = root.path().join("top");
            make_deep(&top, 20_000);
            remove(&top).unwrap();
            assert!(!top.exists());
        });
    }

    #[test]
    fn wide_directories_are_removed_at_every_depth() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("top");
        let mut wide = top.clone();
        // Deeper than what stays open, so that a wide directory is read again.
        for level in 0..3 {
            wide.extend(vec!["down"; 20]);
            for number in 0..100 {
                fs::create_dir_all(wide.join(format!("{level}-{number}/in/it"))).unwrap();
                fs::write(wide.join(format!("{number}")), "").unwrap();
            }
        }
        remove(&top).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let top = root.path().join("top");
        fs::create_dir(&top).unwrap();
        symlink(&kept, top.join("link")).unwrap();
        symlink("nowhere", top.join("dangling")).unwrap();
        remove(&top).unwrap();
        symlink(&kept, &top).unwrap();
        remove(&top).unwrap();
        assert!(!top.is_symlink() && kept.join("file").exists());
    }

    #[test]
    fn modes_do_not_matter_and_nothing_is_fine() {
        let root = tempfile::tempdir().unwrap();
        let top = root.path().join("top");
        for mode in [0o000, 0o100, 0o400, 0o500] {
            let locked = top.join(mode.to_string());
            fs::create_dir_all(locked.join("in/it")).unwrap();
            fs::set_permissions(locked.join("in"), Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(&locked, Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(&top, Permissions::from_mode(0o000)).unwrap();
        remove(&top).unwrap();
        assert!(!top.exists());
        remove(&top).unwrap();
        remove(&top.join("in/it")).unwrap();
    }
}
