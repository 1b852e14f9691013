//! What a manifest names within a volume (a mount's `subPath`, a file of variables): resolved beneath the volume and never
//! outside, links included, whatever the pod's containers have made there.

use std::io::{self, Read as _};
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

/// Reads a file of at most `max_bytes`. A path that begins at a root begins at the volume's. Waits for nobody at the other end
/// of anything.
///
/// # Errors
/// As opening a file; when it leads outside the volume, to something that is no file, or to more than that.
pub fn read(volume: &Path, path: &str, max_bytes: usize) -> io::Result<Vec<u8>> {
    let root = Dir::open_ambient_dir(volume, ambient_authority())?;
    let path = path.trim_start_matches('/');
    let check = |is_dir: bool, is_file: bool| match (is_dir, is_file) {
        (true, _) => Err(Errno::EISDIR.into()),
        (_, true) => Ok(()),
        (_, false) => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    };
    // A device is not even opened.
    let found = root.metadata(path)?;
    check(found.is_dir(), found.is_file())?;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
    let file = root.open_with(path, &options)?;
    // By now the name may be something else's.
    let found = file.metadata()?;
    check(found.is_dir(), found.is_file())?;
    let mut bytes = Vec::new();
    file.take(u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > max_bytes {
        let why = format!("it has more than {max_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

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
    #[test]
    fn a_file_is_read_where_it_is_one_and_lies_in_the_volume() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volume");
        std::fs::create_dir_all(volume.join("dir")).unwrap();
        std::fs::write(root.path().join("outside"), "outside").unwrap();
        std::fs::write(volume.join("dir/file"), "text").unwrap();
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, volume.join(name)).unwrap();
        link("dir/file", "inside");
        link("../outside", "up");
        link("/etc/passwd", "absolute");
        link("..", "dir/above");
        link("loop", "loop");
        mkfifo(&volume.join("fifo"), Mode::from_bits_truncate(0o666)).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(volume.join("socket")).unwrap();
        for path in ["dir/file", "/dir/file", "./dir//file", "inside", "dir/above/inside"] {
            assert_eq!(read(&volume, path, 4).unwrap(), b"text", "{path}");
        }
        for (path, why) in [
            ("none", io::ErrorKind::NotFound),
            ("dir/file/below", io::ErrorKind::NotADirectory),
            ("dir", io::ErrorKind::IsADirectory),
            (".", io::ErrorKind::IsADirectory),
            ("../outside", io::ErrorKind::PermissionDenied),
            ("up", io::ErrorKind::PermissionDenied),
            ("dir/above/../outside", io::ErrorKind::PermissionDenied),
            ("absolute", io::ErrorKind::PermissionDenied),
            ("fifo", io::ErrorKind::InvalidInput),
            ("socket", io::ErrorKind::InvalidInput),
        ] {
            assert_eq!(read(&volume, path, 4).unwrap_err().kind(), why, "{path}");
        }
        assert!(read(&volume, "loop", 4).is_err());
        assert_eq!(read(&volume, "inside", 3).unwrap_err().to_string(), "it has more than 3 bytes");
        assert_eq!(read(&root.path().join("none"), "file", 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
