//! A volume that outlives its pods: the pod's directory holds a link to where it lies.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Error, atomic};

/// Links `dir` to `target`, in place of an earlier link.
///
/// # Errors
/// When the link cannot be made, or something else is at `dir`.
pub fn link(dir: &Path, target: &Path) -> Result<(), Error> {
    if fs::read_link(dir).is_ok_and(|found| found == target) {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_symlink() => fs::remove_file(dir).map_err(Error::io(dir))?,
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::io(dir)(error)),
        _ => {}
    }
    symlink(target, dir).map_err(Error::io(dir))
}

/// Removes the directory at `dir` with all that is in it, and follows no link out of it. That there is none is fine.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove(dir: &Path) -> Result<(), Error> {
    atomic::remove_tree(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_shows_the_volume_and_goes_without_it() {
        let root = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| root.path().join(name));
        for volume in [&first, &second] {
            fs::create_dir(volume).unwrap();
            fs::write(volume.join("data"), volume.as_os_str().as_encoded_bytes()).unwrap();
        }
        let pod = root.path().join("pod");
        let dir = pod.join("volumes/v");
        for volume in [&first, &first, &second] {
            link(&dir, volume).unwrap();
            assert_eq!(fs::read(dir.join("data")).unwrap(), volume.as_os_str().as_encoded_bytes());
        }
        fs::remove_dir_all(&pod).unwrap();
        assert!(second.join("data").exists());
    }
    #[test]
    fn what_a_removed_directory_links_to_stays() {
        let root = tempfile::tempdir().unwrap();
        let [volume, other] = ["volume", "other"].map(|name| root.path().join(name));
        for dir in [&volume, &other] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join("data"), "x").unwrap();
        }
        symlink(&other, volume.join("link")).unwrap();
        remove(&volume).unwrap();
        remove(&volume).unwrap();
        assert!(!volume.exists() && other.join("data").exists());
    }
}
