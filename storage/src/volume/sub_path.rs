//! A mount's `subPath`: resolved beneath its volume and never outside, links included.

use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use super::{Error, check_relative};

/// Makes the directory that a `subPath` names when nothing is there yet, as the kubelet does.
///
/// # Errors
/// When the path leads outside the volume, or the directory cannot be made.
pub fn ensure(volume: &Path, sub_path: &str) -> Result<(), Error> {
    check_relative(sub_path).map_err(|_| Error::Escapes(sub_path.to_owned()))?;
    let root = Dir::open_ambient_dir(volume, ambient_authority()).map_err(Error::io(volume))?;
    let found = root.metadata(sub_path);
    match found {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            root.create_dir_all(sub_path).map_err(Error::io(&volume.join(sub_path)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Error::Escapes(sub_path.to_owned())),
        Err(error) => Err(Error::io(&volume.join(sub_path))(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_beneath_the_volume() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        std::fs::create_dir(&volume).unwrap();
        ensure(&volume, "a/b").unwrap();
        assert!(volume.join("a/b").is_dir());
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("a", volume.join("in")).unwrap();
        ensure(&volume, "in/c").unwrap();
        assert!(volume.join("a/c").is_dir());
        for bad in ["../x", "/x", "out", "out/x", ""] {
            assert!(ensure(&volume, bad).is_err(), "{bad}");
        }
    }
}
