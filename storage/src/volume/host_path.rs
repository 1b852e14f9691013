//! A hostPath: something of the node that has a name in its file system, checked by its type
//! (<https://kubernetes.io/docs/concepts/storage/volumes/#hostpath>).
//!
//! A component opens nothing but files and directories: it sees a socket or a device where it is mounted, and cannot use it.

use std::fs::{self, Metadata, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use super::Error;

/// What must be at the path, or is made there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whatever is there. Where nothing is, a directory is made: Kubernetes leaves that to container runtimes, and they do so.
    Any,
    DirectoryOrCreate,
    Directory,
    FileOrCreate,
    File,
    Socket,
    CharDevice,
    BlockDevice,
}

impl Kind {
    /// Reads `hostPath.type`.
    ///
    /// # Errors
    /// [`Error::HostPathType`] for what is none of Kubernetes' types.
    pub fn parse(text: &str) -> Result<Kind, Error> {
        Ok(match text {
            "" => Kind::Any,
            "DirectoryOrCreate" => Kind::DirectoryOrCreate,
            "Directory" => Kind::Directory,
            "FileOrCreate" => Kind::FileOrCreate,
            "File" => Kind::File,
            "Socket" => Kind::Socket,
            "CharDevice" => Kind::CharDevice,
            "BlockDevice" => Kind::BlockDevice,
            other => return Err(Error::HostPathType(other.to_owned())),
        })
    }
}

/// Checks the path, and makes it where the kind says so.
///
/// # Errors
/// When something else is there, or nothing is and nothing can be made.
pub fn check(path: &Path, kind: Kind) -> Result<(), Error> {
    let found = fs::metadata(path).ok();
    let fails = |problem| Err(Error::HostPath { path: path.to_owned(), problem });
    let is = |test: fn(&Metadata) -> bool| found.as_ref().is_some_and(test);
    match kind {
        Kind::Any | Kind::DirectoryOrCreate if found.is_none() => {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::io(path))
        }
        Kind::FileOrCreate if found.is_none() => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            file.map(drop).map_err(Error::io(path))
        }
        Kind::Directory | Kind::DirectoryOrCreate if !is(Metadata::is_dir) => fails("is not a directory"),
        Kind::File | Kind::FileOrCreate if !is(Metadata::is_file) => fails("is not a file"),
        Kind::Socket if !is(|found| found.file_type().is_socket()) => fails("is not a socket file"),
        Kind::CharDevice if !is(|found| found.file_type().is_char_device()) => fails("is not a character device"),
        Kind::BlockDevice if !is(|found| found.file_type().is_block_device()) => fails("is not a block device"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn checks_and_creates() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        assert!(check(&dir, Kind::Directory).is_err());
        check(&dir, Kind::DirectoryOrCreate).unwrap();
        check(&dir, Kind::Directory).unwrap();
        let file = dir.join("f");
        check(&file, Kind::FileOrCreate).unwrap();
        check(&file, Kind::File).unwrap();
        assert!(check(&file, Kind::DirectoryOrCreate).unwrap_err().to_string().ends_with("is not a directory"));
        assert!(check(&dir, Kind::FileOrCreate).is_err());
        for found in [&file, &dir, &dir.join("none")] {
            check(found, Kind::Any).unwrap();
        }
        assert!(dir.join("none").is_dir());
        let socket = dir.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [&socket, Path::new("/dev/null")] {
            check(path, Kind::Any).unwrap();
            assert!(check(path, Kind::File).unwrap_err().to_string().ends_with("is not a file"), "{}", path.display());
        }
    }

    #[test]
    fn sockets_and_devices_are_looked_for() {
        let root = tempfile::tempdir().unwrap();
        let socket = root.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let mut devices = fs::read_dir("/dev").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
        let disk = devices.find(|path| fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device()));
        let kinds = [
            ("Socket", Some(socket), "is not a socket file"),
            ("CharDevice", Some(PathBuf::from("/dev/null")), "is not a character device"),
            // A machine may have no disk that it shows.
            ("BlockDevice", disk, "is not a block device"),
        ];
        for (word, own, problem) in &kinds {
            let kind = Kind::parse(word).unwrap();
            let others = kinds.iter().filter(|(other, _, _)| other != word).filter_map(|(_, path, _)| path.clone());
            for path in others.chain([root.path().to_owned(), root.path().join("none")]) {
                let why = check(&path, kind).unwrap_err().to_string();
                assert_eq!(why, format!("hostPath type check failed: {} {problem}", path.display()));
            }
            if let Some(path) = own {
                check(path, kind).unwrap();
            }
        }
    }

    #[test]
    fn types_are_those_of_the_api() {
        for (word, kind) in [
            ("", Kind::Any),
            ("DirectoryOrCreate", Kind::DirectoryOrCreate),
            ("Directory", Kind::Directory),
            ("FileOrCreate", Kind::FileOrCreate),
            ("File", Kind::File),
            ("Socket", Kind::Socket),
            ("CharDevice", Kind::CharDevice),
            ("BlockDevice", Kind::BlockDevice),
        ] {
            assert_eq!(Kind::parse(word).unwrap(), kind);
        }
        assert_eq!(Kind::parse("socket").unwrap_err().to_string(), "socket is an invalid volume type");
    }
}
