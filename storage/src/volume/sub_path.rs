//! A mount's `subPath`: resolved beneath its volume and never outside, links included.

use std::io;
use std::path::Path;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};
use nix::errno::Errno;
use nix::fcntl::OFlag;

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

/// Makes an empty file at a path, and the directories above it, when nothing is there yet: another is to be laid over it.
///
/// # Errors
/// When the path leads outside the volume or to a directory, or the file cannot be made.
pub fn ensure_file(volume: &Path, path: &Path) -> io::Result<()> {
    let root = Dir::open_ambient_dir(volume, ambient_authority())?;
    match root.metadata(path) {
        Ok(found) if found.is_dir() => Err(Errno::EISDIR.into()),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            root.create_dir_all(path.parent().unwrap_or(Path::new("")))?;
            // By now there may be a named pipe, on which nobody is to wait.
            let mut options = OpenOptions::new();
            options.write(true).create(true).custom_flags(OFlag::O_NONBLOCK.bits());
            root.open_with(path, &options).map(drop)
        }
        Err(error) => Err(error),
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
    #[test]
    fn a_file_is_made_where_nothing_is() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        std::fs::create_dir_all(volume.join("dir")).unwrap();
        std::fs::write(volume.join("file"), "text").unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("out")).unwrap();
        for path in ["file", "dir/new", "new/er/file", "new/er/file"] {
            ensure_file(&volume, Path::new(path)).unwrap();
        }
        let read = |path: &str| std::fs::read_to_string(volume.join(path)).unwrap();
        assert_eq!(["file", "dir/new", "new/er/file"].map(read), ["text", "", ""]);
        let made = |volume: &Path, path: &str| ensure_file(volume, Path::new(path)).map_err(|error| error.kind());
        for (path, why) in [
            ("dir", io::ErrorKind::IsADirectory),
            ("file/below", io::ErrorKind::NotADirectory),
            ("out/k8w-test", io::ErrorKind::PermissionDenied),
            ("../x", io::ErrorKind::PermissionDenied),
        ] {
            assert_eq!(made(&volume, path), Err(why), "{path}");
        }
        // Where not even root may make files.
        assert!(made(Path::new("/proc"), "k8w-test").is_err());
        assert_eq!(made(&root.path().join("none"), "file"), Err(io::ErrorKind::NotFound));
    }
}
